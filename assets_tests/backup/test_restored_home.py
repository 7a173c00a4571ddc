"""A home that is lost and restored answers as before: the same model, what was learned, what was said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.test_cli import CODE
from pipeline.backup.restoring import restore_backup
from pipeline.backup.taking import take_backup
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import run_loop
from pipeline.defs.instance import open_instance
from pipeline.defs.made_last import made_last, report_made_last
from pipeline.defs.upstream import feedback_learned
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.pairs import feedback_pairs
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.deciding import promote
from pipeline.promotion.registry import ensure_registered, get_record
from pipeline.search.query import search
from pipeline.search.snippets import find_snippet
from pipeline.store.connections import Database, open_database
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet
from pipeline.workbench import Workbench

QUERY = "how many seconds is a duration"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "the team's «code»"
    path.mkdir()
    (path / "times.py").write_text(CODE)
    (path / "gone.py").write_text('def goodbye(name):\n    """Says goodbye."""\n    return f"Bye, {name}"\n')
    return path


@pytest.fixture
def lived_in(
    settings: Settings,
    db: Database,
    source: Path,
    *,
    minilm: Encoder,
    trained: tuple[FineTuned, Settings],
    click_set: TrainingSet,
) -> str:
    """A home where a fine-tuned model serves; its version."""
    checkpoint = write_checkpoint(trained[0], minilm, click_set, settings.checkpoints_path)
    add_repository(db, "mine", str(source))
    bench = Workbench(settings)
    base = bench.base_model()
    encoder = bench.encoder_at(str(checkpoint.path))
    ensure_registered(db, encoder, str(checkpoint.path), "candidate", base_version=base.version)
    promote(db, settings, checkpoint.version, "to try")
    run_loop(settings, Silent(), only_index=True).raise_for_failure()
    return checkpoint.version


@pytest.mark.slow
def test_a_restored_home_serves_the_same_model_and_learns_from_the_same_feedback(
    lived_in: str, settings: Settings, db: Database, *, empty: Settings, source: Path, tmp_path: Path
) -> None:
    encoder = Workbench(settings).encoder(get_record(db, lived_in))
    answer = search(db, encoder, QUERY, user="ann")
    assert answer.search_id is not None
    assert answer.results[0].symbol == "parse_duration"
    asked = search(db, encoder, "say goodbye", user="bob")
    assert asked.search_id is not None
    add_feedback(db, answer.search_id, answer.results[0].snippet_id, "accept", user="ann")
    add_feedback(db, asked.search_id, asked.results[0].snippet_id, "accept", user="bob")
    taken = take_backup(settings, tmp_path / "b", Silent())
    taken.raise_if_incomplete()
    assert [model.version for model in taken.models] == [lived_in]
    expected = feedback_pairs(db, settings)
    (source / "gone.py").unlink()  # before the home is restored

    report = restore_backup(empty, tmp_path / "b", Silent())
    assert report.serving == lived_in
    restored = open_database(empty)
    location = get_record(restored, lived_in).location
    assert location == str(empty.checkpoints_path / lived_in)
    with pytest.raises(HoneloopError, match="Nothing is indexed yet"):
        serving_index(restored)
    assert feedback_pairs(restored, empty) == expected
    run_loop(empty, Silent(), only_index=True).raise_for_failure()
    assert serving_index(restored).model_version == lived_in
    again = search(restored, Workbench(empty).encoder(get_record(restored, lived_in)), QUERY)
    assert [(each.symbol, each.snippet_id) for each in again.results] == [
        (each.symbol, each.snippet_id) for each in answer.results if each.symbol != "goodbye"
    ]
    assert again.results[0].score == pytest.approx(answer.results[0].score, abs=1e-3)
    # What was said of code that has gone since is shown still, and makes no pair, as it would not have
    # either.
    assert [pair.query for pair in feedback_pairs(restored, empty).pairs] == [QUERY]
    with restored.connect() as connection:
        assert find_snippet(connection, asked.results[0].snippet_id).symbol == "goodbye"


@pytest.mark.slow
def test_a_damaged_checkpoint_does_not_keep_the_rest_from_being_backed_up(
    settings: Settings,
    db: Database,
    *,
    minilm: Encoder,
    trained: tuple[FineTuned, Settings],
    click_set: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = write_checkpoint(trained[0], minilm, click_set, settings.checkpoints_path)
    bench = Workbench(settings)
    encoder = bench.encoder_at(str(checkpoint.path))
    ensure_registered(db, encoder, str(checkpoint.path), "candidate", base_version=bench.base_model().version)
    weights = checkpoint.path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    result = CliRunner().invoke(app, ["backup", str(tmp_path / "b"), "--json"])
    assert result.exit_code == 1
    assert f"{weights} is damaged" in result.stderr.replace("\n", " ")
    assert json.loads(result.stdout)["models"] == []
    assert json.loads(CliRunner().invoke(app, ["restore", str(tmp_path / "b"), "--check", "--json"]).stdout)


def test_what_was_learned_from_is_not_learned_again(
    settings: Settings, db: Database, empty: Settings
) -> None:
    """Dagster's runs stay behind; how far they had come does not."""
    import dagster as dg

    assert made_last(settings, db) == []
    metadata = {
        "training_set_id": 7,
        "feedback_through": 41,
        "sample triplets": dg.MetadataValue.md("| query |\n|---|\n| what ann asked |"),
    }
    with open_instance(settings) as instance:
        for asset, data_version in (
            ("training_set", "old"),
            ("training_set", "new"),
            ("model_checkpoint", "c"),
            ("model_evaluation", "e"),
        ):
            tags = {"dagster/data_version": data_version}
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset_key=asset, metadata=metadata, tags=tags)
            )
    made = json.loads(json.dumps(made_last(settings, db)))
    assert "ann" not in json.dumps(made)
    assert report_made_last(empty, made, "from a backup") == 3
    with open_instance(empty) as instance:
        assert feedback_learned(instance) == 41
        event = instance.get_latest_data_version_record(dg.AssetKey("training_set"))
    assert event is not None
    assert event.asset_materialization is not None
    assert (event.asset_materialization.tags or {})["dagster/data_version"] == "new"
