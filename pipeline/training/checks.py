"""Whether a training set and a training run are as they must be, by the tables and the run's account."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pipeline.checking import Outcome
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.store.connections import Database
from pipeline.training import soundness
from pipeline.training.account import Account
from pipeline.training.history import check_falling, losses, stages_of
from pipeline.training.lineage import metrics_of
from pipeline.training.training_set import load_training_set
from pipeline.training.validation import METRIC


def enough_pairs(db: Database, settings: Settings, training_set_id: int) -> Outcome:
    """There are at least `min_pairs` real pairs, and some of them to train on."""
    counts = Counter(pair.split for pair in load_training_set(db, training_set_id).pairs)
    return Outcome(
        counts.total() >= settings.min_pairs and counts["train"] > 0,
        f"{counts.total()} real pairs, {counts['train']} of them to train on; at least {settings.min_pairs} "
        "are asked for.",
        dict(counts),
        hint="`honeloop feedback import`, or register sources with documented code.",
    )


def no_leakage(db: Database, settings: Settings, training_set_id: int) -> Outcome:
    """No query, snippet or near-duplicate stands on two sides; nothing tested is taught as wrong."""
    del settings
    return _none_of(
        soundness.no_leakage(load_training_set(db, training_set_id)), "Nothing stands on two sides."
    )


def triplets_differ(db: Database, settings: Settings, training_set_id: int) -> Outcome:
    """Query, positive and negative of each triplet differ, by more than details."""
    del settings
    training_set = load_training_set(db, training_set_id)
    triplets = sum(len(pair.negatives) for pair in training_set.pairs)
    return _none_of(soundness.validate_triplets(training_set), f"All {triplets} triplets differ.")


def loss_fell(account: Account, settings: Settings) -> Outcome:
    """Every loss is finite, and in no stage are the last above the first by more than `max_loss_rise`."""
    values = losses(account.history)
    finite = [value for value in values if math.isfinite(value)]
    by_stage = {name: losses(rows) for name, rows in stages_of(account.history, apart=account.apart).items()}
    figures: dict[str, float] = {"steps": len(values)} if finite else {}
    for name, found in by_stage.items() if finite else ():
        of = f" of {name}" if len(by_stage) > 1 else ""
        figures |= {f"first{of}": round(found[0], 4), f"last{of}": round(found[-1], 4)} if found else {}
    if not values or len(finite) < len(values):
        return Outcome(False, f"{len(values) - len(finite)} of {len(values)} losses are not finite.", figures)
    try:
        check_falling(account.history, settings.max_loss_rise, apart=account.apart)
    except HoneloopError as error:
        return Outcome(False, error.message, figures, hint=error.hint)
    told = [
        f"from {found[0]:.3f} to {found[-1]:.3f} in {len(found)} steps"
        + (f" of {name}" if len(by_stage) > 1 else "")
        for name, found in by_stage.items()
    ]
    return Outcome(True, f"The loss went {', and '.join(told)}.", figures)


def validation_held(account: Account, settings: Settings) -> Outcome:
    """The validation of what was kept is not below the base model's by more than `max_validation_drop`."""
    measured = metrics_of(account)["validation"]
    if not {"before", "best"} <= set(measured):
        return Outcome(True, "There were no validation pairs to tell by.")
    before, kept = measured["before"][METRIC], measured["best"][METRIC]
    return Outcome(
        kept >= before - settings.max_validation_drop,
        f"The validation metric went from {before:.3f} to {kept:.3f}; it may lose "
        f"{settings.max_validation_drop} at the most.",
        {"before": round(before, 4), "kept": round(kept, 4)},
        hint="Lower HONELOOP_LEARNING_RATE, or HONELOOP_FEEDBACK_LEARNING_RATE.",
    )


def _none_of(problems: Sequence[str], well: str) -> Outcome:
    return Outcome(
        not problems,
        f"{len(problems)} problems, the first: {problems[0]}." if problems else well,
        {"problems": len(problems)},
        hint="A stored training set does not change by itself: it was edited, or building it has a defect.",
    )
