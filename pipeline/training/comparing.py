"""Recipes side by side: trained on the same set from the same base, and validated on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import HoneloopError
from pipeline.evaluation.permutation import sign_flip_test
from pipeline.training.account import Account
from pipeline.training.history import doubted, losses
from pipeline.training.lineage import metrics_of
from pipeline.training.pairs import TrainingSet
from pipeline.training.runs import Made, account_of, plan_run
from pipeline.training.validation import METRIC

if TYPE_CHECKING:
    from pipeline.promotion.registry import ModelRecord
    from pipeline.workbench import Workbench


@dataclass(frozen=True)
class Compared:
    """One recipe of a comparison.

    Attributes:
        name: the recipe's.
        made: whether it was trained now, or before.
        account: of its training.
        p_value: of its validation queries' differences from the best recipe's (a paired permutation test);
            1 for the best itself.
    """

    name: str
    made: Made
    account: Account
    p_value: float = 1.0

    @property
    def before(self) -> dict[str, Any]:
        """The validation of the base; empty without validation pairs."""
        return metrics_of(self.account)["validation"].get("before", {})

    @property
    def validation(self) -> dict[str, Any]:
        """The validation of what was kept, likewise."""
        return metrics_of(self.account)["validation"].get("best", {})

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        account = self.account
        return {
            "recipe": self.name,
            "recipe_key": account.recipe_key,
            "made": self.made,
            "validation": self.validation,
            "p_value": self.p_value,
            "seconds": account.seconds,
            "steps": len(losses(account.history)),
            "best_step": account.best_step,
            "peak_memory_bytes": account.peak_memory_bytes,
            "stages": account.stages,
            "merging": account.merging,
            "averaging": account.averaging,
            "negatives_taken_out": doubted(account.history),
            "settings": account.recipe,
        }


@dataclass(frozen=True)
class Comparison:
    """All recipes of a comparison.

    Attributes:
        training_set_id: what they were trained on.
        base_version: what they were trained from.
        compared: those that were trained, in the order they were asked for.
        failed: why others were not, by name.
    """

    training_set_id: int
    base_version: str
    compared: tuple[Compared, ...]
    failed: dict[str, str]

    @property
    def best(self) -> Compared | None:
        """The one whose validation is best; None if there were no validation pairs to tell by."""
        return best_of(self.compared)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        first = self.compared[0]
        return {
            "training_set_id": self.training_set_id,
            "base_version": self.base_version,
            "metric": METRIC,
            "decides": first.account.validation["decides"],
            "queries": first.account.validation["queries"],
            "before": first.before,
            "recipes": [each.to_json() for each in self.compared],
            "failed": self.failed,
            "best": None if self.best is None else self.best.name,
        }


def compare_recipes(
    workbench: Workbench, training_set: TrainingSet, base: ModelRecord, names: Sequence[str]
) -> Comparison:
    """Trains each recipe that was not trained before. Registers nothing: the models wait on disk.

    A recipe that fails, such as triplet without negatives, leaves the others to be compared.

    Raises:
        HoneloopError: all failed; the first failure.
        BadInputError: a guide goes by no such name.
    """
    settings = workbench.settings
    planned = [
        plan_run(workbench, training_set, base, settings.model_copy(update={"recipe": name}))
        for name in names
    ]
    compared: list[Compared] = []
    failures: dict[str, HoneloopError] = {}
    for number, run in enumerate(planned, 1):
        workbench.progress.note(f"Recipe {number} of {len(planned)}: {run.recipe.name}")
        try:
            made = run.make(workbench.progress)
        except HoneloopError as error:
            failures[run.recipe.name] = error
            workbench.progress.note(f"{run.recipe.name} failed: {error.message}")
            continue
        account = account_of(settings, run.key)
        assert account is not None  # it was made just now, or found
        compared.append(Compared(run.recipe.name, made, account))
    if not compared:
        raise next(iter(failures.values()))
    return Comparison(
        training_set.id,
        base.version,
        with_chances(compared, settings.permutations, settings.seed),
        {name: error.message for name, error in failures.items()},
    )


def best_of(compared: Sequence[Compared]) -> Compared | None:
    """The best validation; of equals the one asked for first."""
    measured = [each for each in compared if each.validation]
    return max(measured, key=lambda each: each.validation[METRIC]) if measured else None


def with_chances(compared: Sequence[Compared], permutations: int, seed: int) -> tuple[Compared, ...]:
    """The same with the p-value of each one's difference from the best, query by query."""
    best = best_of(compared)
    if best is None:
        return tuple(compared)
    values = best.account.validation["values"]
    return tuple(
        Compared(
            each.name,
            each.made,
            each.account,
            sign_flip_test(
                [a - b for a, b in zip(values, each.account.validation["values"], strict=True)],
                permutations,
                seed,
            ),
        )
        for each in compared
    )
