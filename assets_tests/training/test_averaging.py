"""Averaged weights: between base and trained, the share that validates best without losing what was there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assets_tests.training.click_pairs import make_set
from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.training.averaging import averaged_weights, best_share
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.lineage import metrics_of
from pipeline.training.pairs import Pair, TrainingSet


def point(share: float, metric: float, **by_origin: float) -> dict[str, Any]:
    return {
        "share": share,
        "ndcg@10": metric,
        "mrr@10": metric,
        "by_origin": {origin: {"ndcg@10": value} for origin, value in by_origin.items()},
    }


def test_a_share_is_a_way_along_the_line_from_base_to_trained() -> None:
    base = {"w": torch.tensor([1.0, -2.0]), "positions": torch.tensor([0, 1])}
    trained = {"w": torch.tensor([3.0, 2.0]), "positions": torch.tensor([0, 1])}
    quarter = averaged_weights(base, trained, 0.25)
    torch.testing.assert_close(quarter["w"], torch.tensor([1.5, -1.0]))
    assert quarter["positions"].dtype == torch.int64


@pytest.mark.parametrize(
    ("curve", "chosen"),
    [
        ([(0, 0.5), (0.5, 0.6), (1, 0.7)], 1),
        ([(0, 0.5), (0.5, 0.7), (1, 0.7)], 0.5),  # of equals the smallest change
        ([(0, 0.5), (0.5, 0.4), (1, 0.45)], 1),  # the base itself is no choice
    ],
)
def test_the_best_validation_is_chosen(curve: list[tuple[float, float]], chosen: float) -> None:
    assert best_share([point(share, metric) for share, metric in curve], 0.005) == chosen


def test_a_share_that_loses_what_the_base_could_do_is_not_chosen() -> None:
    curve = [
        point(0, 0.50, feedback=0.50, docstring=0.80),
        point(0.5, 0.55, feedback=0.55, docstring=0.797),
        point(1, 0.60, feedback=0.60, docstring=0.79),
    ]
    assert best_share(curve, 0.005) == 0.5
    assert best_share(curve, 0.02) == 1
    curve[1:] = [point(0.5, 0.6, feedback=0.49, docstring=0.9), point(1, 0.7, feedback=0.48, docstring=0.9)]
    # Each loses: then the smallest change.
    assert best_share(curve, 0.005) == 0.5


def test_the_kept_weights_are_the_average_and_the_account_tells_the_curve(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    once = small.model_copy(update={"validations_per_epoch": 1})
    half = once.model_copy(
        update={"recipe": "averaged", "averaging_shares": (0.5,), "averaging_max_loss": 1.0}
    )
    progress = Notes()
    trained = fine_tune(minilm, click_set, once, tmp_path / "1", Notes())
    averaged = fine_tune(minilm, click_set, half, tmp_path / "2", progress)
    base = minilm.sentence_transformer().state_dict()
    ours, whole = averaged.model.state_dict(), trained.model.state_dict()
    name = next(name for name in ours if name.endswith("word_embeddings.weight"))
    torch.testing.assert_close(ours[name], base[name].lerp(whole[name], 0.5), atol=0, rtol=0)
    assert not torch.equal(ours[name], whole[name])
    assert averaged.averaging["share"] == 0.5
    curve = averaged.averaging["curve"]
    assert [row["share"] for row in curve] == [0, 0.5]
    assert curve[0]["ndcg@10"] == averaged.history[0]["ndcg@10"]
    assert metrics_of(averaged)["validation"]["best"]["ndcg@10"] == curve[1]["ndcg@10"]
    values = averaged.validation["values"]
    assert sum(values) / len(values) == pytest.approx(curve[1]["ndcg@10"])
    assert any(note.startswith("Share of the trained weights 0.5") for note in progress.notes)


def test_without_validation_pairs_nothing_is_averaged_and_that_is_said(
    minilm: Encoder, click_pairs: list[Pair], small: Settings, tmp_path: Path
) -> None:
    progress = Notes()
    settings = small.model_copy(update={"recipe": "averaged"})
    tuned = fine_tune(minilm, make_set(click_pairs[:8]), settings, tmp_path, progress)
    assert tuned.averaging == {}
    assert any("the weights are not averaged" in note for note in progress.notes)
