"""The whole loop with a concatenated encoder of 2,560 dimensions: small models of the real architectures."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.encoders.small_models import make_hub, use_hub
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import run_loop
from pipeline.encoders.loading import load_as_set, located_members
from pipeline.encoders.presets import PRESETS
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.registry import get_record
from pipeline.store.connections import Database
from pipeline.training.training_set import load_training_set

FILES = ("utils.py", "termui.py", "formatting.py")


@pytest.fixture
def concatenated(settings: Settings) -> Settings:
    """Settings for `qodo+jina`, its frozen member by ONNX Runtime, and a loop that is short."""
    return settings.model_copy(
        update={
            "encoder": "qodo+jina",
            "device": "cpu",
            "backend": "onnx",
            "min_pairs": 20,
            "max_documentation_pairs": 24,
            "max_test_documentation_pairs": 20,
            "train_max_tokens": 32,
            "gate_min_queries": 5,
            "bootstrap_resamples": 200,
            "validations_per_epoch": 1,
            "recall_sample": 20,
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a part of click's source."""
    spec = importlib.util.find_spec("click")
    assert spec is not None
    assert spec.origin is not None
    path = tmp_path / "clicked"
    path.mkdir()
    for name in FILES:
        shutil.copy(Path(spec.origin).parent / name, path / name)
    return path


@pytest.fixture
def taught_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets are small models, one of which knows the samples of the sanity checks: it may serve."""
    use_hub(make_hub(tmp_path / "hub", taught=True), monkeypatch)


def exports_in(settings: Settings) -> list[str]:
    """The versions of the members that have an export."""
    return sorted(path.parent.name for path in settings.onnx_path.glob("*/export.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("taught_hub")
def test_it_is_mined_for_trained_measured_judged_promoted_and_searched(
    concatenated: Settings, db: Database, source: Path
) -> None:
    dims = PRESETS["qodo+jina"].dims
    _, (_, frozen) = located_members("qodo+jina")
    add_repository(db, "clicked", str(source), kind="directory")

    done = run_loop(concatenated, Silent())

    assert done.failures == []
    built = load_training_set(db, done.training["training_set"]["training_set_id"])
    assert any(pair.negatives for pair in built.pairs)  # mined by vectors of that size
    measured = done.training["model_evaluation"]
    candidate, base = measured["model_version"], measured["base_version"]
    assert candidate != base
    # Exported once, by the first to load it; the trained encoder has the same frozen member.
    assert exports_in(concatenated) == [frozen.version]
    assert done.sources["clicked"]["computed_by"] == "torch + onnx"  # by the base
    assert measured["computed_by"] == "torch + onnx"  # by the candidate
    for version in (base, candidate):
        assert load_as_set(get_record(db, version).location, concatenated).backends == ("torch", "onnx")
    assert {model["dims"] for model in (done.training["model_checkpoint"], done.index)} == {dims}
    # It knows nothing of this code, and so little is learned from two dozen pairs that chance may be all.
    assert done.training["promoted_model"]["decision"] in ("rejected", "not enough evidence")
    serving = serving_index(db)
    assert (serving.model_version, serving.dims) == (base, dims)

    runner = CliRunner(
        env={
            f"HONELOOP_{name.upper()}": str(value)
            for name, value in concatenated.model_dump(exclude_defaults=True).items()
        }
    )
    promoted = runner.invoke(app, ["promote", candidate[:12], "--reason", "a test"])
    assert promoted.exit_code == 0, promoted.output
    run_loop(concatenated, Silent(), only_index=True).raise_for_failure()
    serving = serving_index(db)
    assert (serving.model_version, serving.dims) == (candidate, dims)
    found = json.loads(runner.invoke(app, ["search", "wrap text to a width", "--json"]).stdout)
    assert found["model_version"] == candidate
    assert len(found["results"]) == 10
    # Searches ask the export too: without its weights there are none.
    weights = concatenated.onnx_path / frozen.version / "model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-20])
    refused = runner.invoke(app, ["search", "wrap text to a width", "--json"])
    assert (refused.exit_code, str(weights) in refused.stderr) == (1, True)
