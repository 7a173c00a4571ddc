"""An index run whose model is replaced under its hands: it follows, undoes nothing, and blames nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs import in_process
from pipeline.defs.assets import index as assets
from pipeline.defs.in_process import run_loop
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index import checks
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip, rollback
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered, set_state
from pipeline.store.connections import Database
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet
from pipeline.workbench import Workbench

FUNCTION = 'def step_{number}(values):\n    """Takes step {number}."""\n    return values[{number}:]\n'


@pytest.fixture
def bench(db: Database, settings: Settings) -> Workbench:
    return Workbench(settings, database=db)


@pytest.fixture
def code(
    bench: Workbench, minilm: Encoder, untrained: FineTuned, few_pairs: TrainingSet, tmp_path: Path
) -> Path:
    """Code indexed by MiniLM, then by a checkpoint of it, which serves; one function is not read yet."""
    directory = tmp_path / "code"
    directory.mkdir()
    for number in range(3):
        (directory / f"step_{number}.py").write_text(FUNCTION.format(number=number))
    add_repository(bench.db, "mine", str(directory))
    assert run_loop(bench.settings, Silent(), only_index=True).failures == []
    checkpoint = write_checkpoint(untrained, minilm, few_pairs, bench.settings.checkpoints_path)
    tuned = load_encoder(str(checkpoint.path))
    ensure_registered(bench.db, tuned, str(checkpoint.path), state="candidate", base_version=minilm.version)
    take_over(bench, tuned.version)
    (directory / "step_3.py").write_text(FUNCTION.format(number=3))
    return directory


def take_over(bench: Workbench, version: str) -> None:
    """What a promotion does."""
    db, settings = bench.db, bench.settings
    with db.connect() as connection:
        set_state(connection, version, "approved", "person", ["test"])
    embed_missing(db, bench.encoder(bench.model(version)), settings, Silent())
    built = build_index(db, version, settings, Silent())
    flip(db, built.index_version_id, actor="person", reasons=["test"], settings=settings)


def after(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], object], times: int = 1) -> None:
    """Each of the first calls of a step of the index run is followed by what another process does then."""
    really = getattr(assets, name)
    calls: list[object] = []

    def followed(*arguments: Any, **more: Any) -> Any:
        done = really(*arguments, **more)
        calls.append(done)
        if len(calls) <= times:
            happens()
        return done

    monkeypatch.setattr(assets, name, followed)


def require_whole(bench: Workbench, version: str, rows: int = 4) -> None:
    """That model serves, and has every function."""
    serving = serving_index(bench.db)
    assert (serving.model_version, serving.rows) == (version, rows)
    assert checks.rows_are_equal(bench.db, bench.settings).passed


@pytest.mark.usefixtures("code")
def test_another_model_takes_over_between_embedding_and_building(
    bench: Workbench, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = in_process.Loop._execute

    def executed(self: in_process.Loop, wanted: Any, *more: Any) -> Any:
        if wanted == ["search_index"]:
            rollback(bench.db)
        return really(self, wanted, *more)

    monkeypatch.setattr(in_process.Loop, "_execute", executed)
    assert run_loop(bench.settings, Silent(), only_index=True).failures == []
    require_whole(bench, minilm.version)


@pytest.mark.slow
@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("way", ["extended", "built"])
def test_another_model_takes_over_while_the_index_is_made(
    bench: Workbench, minilm: Encoder, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    m = bench.settings.hnsw_m + (way == "built")  # another graph is another build
    settings = bench.settings.model_copy(update={"hnsw_m": m, "in_place_share": 1.0})
    after(monkeypatch, "build_index", lambda: rollback(bench.db))
    result = run_loop(settings, Silent(), only_index=True)
    assert result.failures == []
    assert result.index["model_version"] == minilm.version  # what was rolled back to stays
    require_whole(bench, minilm.version)


@pytest.mark.slow
@pytest.mark.usefixtures("code")
def test_another_index_takes_over_before_the_check(
    bench: Workbench, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To the index of the same model before it, and then to that of the other.
    after(monkeypatch, "flip", lambda: [rollback(bench.db), rollback(bench.db)])
    result = run_loop(bench.settings, Silent(), only_index=True)
    assert result.failures == []
    found = checks.rows_are_equal(bench.db, bench.settings)
    assert (found.passed, found.warning) == (False, True)  # which is true, and no fault of the run
    assert "1 missing, 0 too many; it is of an earlier state of the code, and whole" in found.message
    assert result.problems == [f"{found.message} `honeloop index` brings it up to date."]
    assert serving_index(bench.db).model_version == minilm.version
    monkeypatch.undo()
    assert run_loop(bench.settings, Silent(), only_index=True).failures == []
    require_whole(bench, minilm.version)


@pytest.mark.usefixtures("code")
def test_a_run_that_is_overtaken_again_and_again_says_so_and_undoes_nothing(
    bench: Workbench, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = serving_index(bench.db).model_version
    turns = iter([minilm.version, tuned, minilm.version])
    after(monkeypatch, "build_index", lambda: take_over(bench, next(turns)), times=3)
    (failure,) = run_loop(bench.settings, Silent(), only_index=True).failures
    assert "took over; it goes on serving" in failure.message
    assert "Nothing is wrong: `honeloop index` brings it up to date" in failure.hint
    assert serving_index(bench.db).model_version == minilm.version
    monkeypatch.undo()
    assert run_loop(bench.settings, Silent(), only_index=True).failures == []
    require_whole(bench, minilm.version)
