"""A checkpoint damaged on disk: refused by name wherever it is asked for, and what serves goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.encoders.test_damage import claim_a_huge_header, flip_a_byte, truncate
from assets_tests.index.click_corpus import (
    add_functions,
    build,
    click_functions,
    serve,
    store_vectors,
    vectors_of,
)
from assets_tests.training.conftest import click_pairs, click_set, trained
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.errors import HoneloopError
from pipeline.index.flipping import flip, rollback
from pipeline.index.serving import serving_index
from pipeline.promotion.checks import files_match
from pipeline.promotion.registry import ensure_registered, get_record, set_state
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet

__all__ = ["click_pairs", "click_set", "trained"]

COUNT = 15
WEIGHTS, TOKENIZER, MANIFEST = "model/model.safetensors", "model/tokenizer.json", "manifest.json"


def edited(**values: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def edited_spec(**values: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        content["spec"]["members"][0] |= values
        path.write_text(json.dumps(content))

    return edit


DAMAGES: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    (WEIGHTS, truncate, "truncated"),
    (WEIGHTS, flip_a_byte, "SHA-256"),
    (WEIGHTS, claim_a_huge_header, "1,152,921,504,606,846,976 bytes"),
    (WEIGHTS, Path.unlink, "missing"),
    (TOKENIZER, Path.unlink, "missing"),
    (TOKENIZER, lambda path: path.write_text("{"), "tokenizer.json"),
    (MANIFEST, Path.unlink, "missing"),
    (MANIFEST, lambda path: path.write_text("{"), "cannot be read"),
    (MANIFEST, edited(format=9), "format 9"),
    (MANIFEST, edited(version="0" * 64), "says version 000"),
    (MANIFEST, edited(files={}), "lists no files"),
    (MANIFEST, edited(files={"../../../etc/passwd": "0" * 64}), "outside its checkpoint"),
    (MANIFEST, edited(members=[]), "members"),
    (MANIFEST, edited(spec={}), "wrong spec"),
    (MANIFEST, edited_spec(dims=383), "dims"),
    (MANIFEST, edited_spec(query_prompt="say: "), "spec and files give"),
    (MANIFEST, edited_spec(source="checkpoint:../../elsewhere"), "elsewhere"),
)


@pytest.fixture
def rolled_back(
    settings: Settings,
    db: Database,
    *,
    minilm: Encoder,
    trained: tuple[FineTuned, Settings],
    click_set: TrainingSet,
) -> Path:
    """A fine-tuned model served, then MiniLM again; its checkpoint."""
    checkpoint = write_checkpoint(trained[0], minilm, click_set, settings.checkpoints_path)
    few = click_functions()[:COUNT]
    add_functions(db, few)
    store_vectors(db, minilm, few, vectors_of(minilm, few))
    serve(db, minilm, settings)
    tuned = load_encoder(str(checkpoint.path), device="cpu")
    ensure_registered(db, tuned, str(checkpoint.path), "candidate", base_version=minilm.version)
    with db.connect() as connection:
        set_state(connection, tuned.version, "approved", "person", ["to try"])
    store_vectors(db, tuned, few, vectors_of(tuned, few))
    ensure_registered(db, tuned, str(checkpoint.path))  # where it lies, which the helper does not know
    flip(db, build(db, tuned, settings).index_version_id, actor="index", reasons=[], settings=settings)
    return checkpoint.path


@pytest.mark.slow
def test_a_damaged_model_is_refused_by_name_and_what_serves_goes_on(
    rolled_back: Path, settings: Settings, db: Database, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    version = rolled_back.name
    in_memory = load_encoder(str(rolled_back), device="cpu")
    question = "open a file"
    before = search(db, in_memory, question, record=False)
    # Its index serves: who has it in memory goes on; who would have to load it is told.
    with_damage = rolled_back / WEIGHTS
    kept = with_damage.read_bytes()
    truncate(with_damage)
    assert search(db, in_memory, question, record=False).results == before.results
    told = CliRunner().invoke(app, ["search", question])
    assert told.exit_code == 1
    assert f"{with_damage} is truncated" in told.stderr.replace("\n", " ")
    with_damage.write_bytes(kept)
    # Somebody else serves: nothing brings it back while it is damaged.
    rollback(db)
    served = serving_index(db)
    assert served.model_version == minilm.version
    (ready,) = [each.id for each in get_record(db, version).index_versions if each.state == "retired"]
    with db.connect() as connection:
        connection.execute("UPDATE index_versions SET previous_id = %s WHERE state = 'serving'", [ready])
    whole = {name: (rolled_back / name).read_bytes() for name in (WEIGHTS, TOKENIZER, MANIFEST)}
    for name, damage, says in DAMAGES:
        damage(rolled_back / name)
        with pytest.raises(HoneloopError) as refused:
            rollback(db)
        assert says in refused.value.message, (name, says)
        assert str(rolled_back) in refused.value.message, (name, says)
        assert "goes on serving" in refused.value.hint
        assert not files_match(get_record(db, version)).passed or name == MANIFEST
        assert serving_index(db) == served
        (rolled_back / name).write_bytes(whole[name])
    shutil.move(rolled_back, f"{rolled_back}.away")
    told = CliRunner().invoke(app, ["promote", version[:12], "--reason", "to try"])
    assert told.exit_code == 1
    assert str(rolled_back) in told.stderr
    assert not files_match(get_record(db, version)).passed
    with pytest.raises(HoneloopError, match=version):
        rollback(db)
    assert serving_index(db) == served
    shutil.move(f"{rolled_back}.away", rolled_back)
    assert rollback(db).model_version == version  # whole again, it serves again
