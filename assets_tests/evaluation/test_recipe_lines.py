"""The report says by which recipe a model was trained, and what its parts came to."""

from __future__ import annotations

from typing import Any

from pipeline.config import Settings
from pipeline.evaluation.recipe_lines import recipe_lines
from pipeline.training.recipe import recipe_of


def lineage(recipe: str, **more: Any) -> dict[str, Any]:
    full = recipe_of(Settings(recipe=recipe, train_epochs=3)).to_json()
    stages = [
        {
            "name": stage["name"],
            "pairs": 1200,
            "origins": {"docstring": 1000, "feedback": 200},
            "replayed": 40 * number,
            "steps": 38,
            "batch_pairs": 32,
            "batch_documents": 61,
        }
        for number, stage in enumerate(full["stages"])
    ]
    return {"recipe": full, "stages": stages, "history": [], "merging": [], "averaging": {}, **more}


def test_every_stage_has_its_line() -> None:
    said = list(recipe_lines(lineage("two-stage")))
    assert said == [
        "two-stage: documentation and commits first, then feedback",
        "documentation and commits: 1,200 pairs (1,000 docstring, 200 feedback), epochs 3, learning rate "
        "5e-05; a step has 32 pairs and 61 documents",
        "feedback: 1,200 pairs (1,000 docstring, 200 feedback, 40 of them replayed), epochs 3, learning rate "
        "5e-05; a step has 32 pairs and 61 documents",
    ]


def test_what_guide_and_averaging_came_to_is_told_where_there_were_any() -> None:
    curve = [{"share": share, "ndcg@10": metric} for share, metric in [(0, 0.5), (0.5, 0.625), (1, 0.6)]]
    history = [{"step": 1, "loss": 1.0, "doubted": 7}, {"step": 2, "loss": 1.0, "doubted": 5}]
    found = lineage("guided+averaged", history=history, averaging={"share": 0.5, "curve": curve})
    assert list(recipe_lines(found))[2:] == [
        "the guide took out 12 negatives, over all steps",
        "share of the trained weights 0.5; validation nDCG@10 by share: 0: 0.5000, 0.5: 0.6250, 1: 0.6000",
    ]
    assert len(list(recipe_lines(lineage("multiple-negatives")))) == 2


def test_what_was_learned_apart_is_told_with_its_average() -> None:
    rows = [
        {"part": part, "ndcg@10": metric}
        for part, metric in [("all pairs", 0.5), ("feedback alone", 0.55), ("merged", 0.6)]
    ]
    told = "validation nDCG@10 of what was learned apart, and of its average: "
    assert list(recipe_lines(lineage("merged", merging=rows)))[3:] == [
        told + "all pairs: 0.5000, feedback alone: 0.5500, merged: 0.6000"
    ]
    assert list(recipe_lines(lineage("merged")))[3:] == [
        "nothing was merged: there were too few pairs of feedback to learn from alone"
    ]
