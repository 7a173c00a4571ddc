"""No model version serves that the sanity checks do not pass, the first one included."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import run_loop
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.sanity import SanityResult
from pipeline.errors import HoneloopError
from pipeline.index.embeddings import count_missing
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion import sanity
from pipeline.promotion.deciding import promote
from pipeline.promotion.registry import get_record
from pipeline.promotion.sanity import sanity_of
from pipeline.store.connections import Database
from pipeline.workbench import Workbench


@pytest.fixture
def one_function(db: Database, tmp_path: Path) -> None:
    """A source with hardly anything in it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.py").write_text('def greet(name):\n    """Greets."""\n    return name\n')
    add_repository(db, "one", str(tmp_path / "source"), kind="directory")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were really checked, in a process that has checked none before."""
    versions: list[str] = []
    check = sanity.check_sanity

    def counted(encoder: Encoder) -> list[SanityResult]:
        versions.append(encoder.version)
        return check(encoder)

    monkeypatch.setattr(sanity, "check_sanity", counted)
    monkeypatch.setattr(sanity, "_found", {})
    return versions


@pytest.mark.usefixtures("small_hub", "one_function")
def test_a_base_encoder_with_random_weights_does_not_serve(
    settings: Settings, db: Database, qodo_jina: Encoder
) -> None:
    random = settings.model_copy(update={"encoder": "qodo+jina", "device": "cpu"})
    done = run_loop(random, Silent(), only_index=True)
    (failure,) = done.failures
    assert failure.message.startswith(
        f"qodo+jina ({qodo_jina.version[:12]}) failed its sanity checks: documentation and code: "
    )
    assert "HONELOOP_ENCODER" in failure.hint
    assert count_missing(db, qodo_jina.version) > 0  # nothing was embedded in vain
    with pytest.raises(HoneloopError, match="Nothing is indexed yet"):
        serving_index(db)


@pytest.mark.usefixtures("one_function")
def test_a_version_is_checked_once_and_what_was_found_is_kept(
    settings: Settings, db: Database, minilm: Encoder, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = settings.model_copy(update={"device": "cpu"})
    run_loop(on_cpu, Silent(), only_index=True).raise_for_failure()
    assert checked == [minilm.version]
    bench = Workbench(on_cpu, database=db)
    model = get_record(db, minilm.version)
    assert all(result["passed"] for result in model.metrics["sanity"]["results"])
    # Another process finds it in the registry; on another device it is found out anew.
    monkeypatch.setattr(sanity, "_found", {})
    assert len(sanity_of(bench, model)) == len(model.metrics["sanity"]["results"])
    assert checked == [minilm.version]
    sanity_of(bench, model, again=True)
    assert checked == [minilm.version] * 2


def test_what_a_promotion_finds_is_kept_for_the_index(
    settings: Settings, db: Database, minilm: Encoder, checked: list[str]
) -> None:
    on_cpu = settings.model_copy(update={"device": "cpu"})
    bench = Workbench(on_cpu, database=db)
    promote(db, on_cpu, "base", "to try")
    sanity_of(bench, get_record(db, minilm.version))
    assert checked == [minilm.version]
