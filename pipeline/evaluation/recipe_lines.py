"""The recipe of a training run, in a few lines of its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.evaluation.report import title_of
from pipeline.training.history import doubted
from pipeline.training.recipe_words import WORDS
from pipeline.training.validation import METRIC


def recipe_lines(lineage: Mapping[str, Any]) -> Iterator[str]:
    """What the recipe's words mean, its stages, and what the guide, the merging and the averaging came to."""
    recipe = lineage["recipe"]
    yield f"{recipe['name']}: " + "; ".join(
        WORDS[word].partition(";")[0] for word in recipe["name"].split("+")
    )
    planned = {stage["name"]: stage for stage in recipe["stages"]}
    for stage in lineage["stages"]:
        settings = planned[stage["name"]]
        origins = ", ".join(f"{count:,} {origin}" for origin, count in stage["origins"].items())
        replayed = f", {stage['replayed']:,} of them replayed" if stage["replayed"] else ""
        yield (
            f"{stage['name']}: {stage['pairs']:,} pairs ({origins}{replayed}), epochs {settings['epochs']}, "
            f"learning rate {settings['learning_rate']:g}; a step has {stage['batch_pairs']} pairs and "
            f"{stage['batch_documents']} documents"
        )
    if recipe["guided"]:
        yield f"the guide took out {doubted(lineage['history']):,} negatives, over all steps"
    if recipe.get("apart") and not lineage["merging"]:
        yield "nothing was merged: there were too few pairs of feedback to learn from alone"
    if measured := [row for row in lineage.get("merging", ()) if METRIC in row]:
        parts = ", ".join(f"{row['part']}: {row[METRIC]:.4f}" for row in measured)
        yield f"validation {title_of(METRIC)} of what was learned apart, and of its average: {parts}"
    averaging = lineage["averaging"]
    if averaging:
        curve = ", ".join(f"{row['share']:g}: {row[METRIC]:.4f}" for row in averaging["curve"])
        yield (
            f"share of the trained weights {averaging['share']:g}; validation {title_of(METRIC)} by share: "
            f"{curve}"
        )
