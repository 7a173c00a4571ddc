"""What upstream assets last materialized, read back from the database by the names in their metadata.

No data passes from asset to asset through Dagster: an asset says in its metadata which row it made, and the
next one reads that row.
"""

from typing import Any

import dagster as dg

from pipeline.defs.reporting import materialized
from pipeline.errors import HoneloopError
from pipeline.promotion.registry import ModelRecord
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench


def training_set_of(instance: dg.DagsterInstance, workbench: Workbench) -> TrainingSet:
    """The training set that `training_set` last materialized.

    Raises:
        HoneloopError: it was never materialized.
    """
    return load_training_set(workbench.db, int(_required(instance, "training_set")["training_set_id"]))


def candidate_of(instance: dg.DagsterInstance, workbench: Workbench) -> ModelRecord:
    """The model version that `model_checkpoint` last wrote, or found written.

    Raises:
        HoneloopError: it was never materialized.
    """
    return workbench.model(str(_required(instance, "model_checkpoint")["model_version"]))


def evaluated(instance: dg.DagsterInstance, workbench: Workbench) -> tuple[ModelRecord, str, str | None]:
    """The candidate that `model_evaluation` last measured, the test set, and the general set if there is one.

    Raises:
        HoneloopError: it was never materialized.
    """
    metadata = _required(instance, "model_evaluation")
    general = metadata.get("general_test_set")
    return (
        workbench.model(str(metadata["model_version"])),
        str(metadata["test_set"]),
        None if general is None else str(general),
    )


def fine_tuned(instance: dg.DagsterInstance) -> dict[str, Any]:
    """The metadata of `fine_tuned_model`: base version, recipe key, where the model was handed over.

    Raises:
        HoneloopError: it was never materialized.
    """
    return _required(instance, "fine_tuned_model")


def feedback_in_training_set(instance: dg.DagsterInstance) -> int:
    """The id of the last judgement that the newest training set could learn from; 0 without one."""
    return int((materialized(instance, "training_set") or {}).get("feedback_through", 0))


def feedback_learned(instance: dg.DagsterInstance) -> int:
    """The id of the last judgement that a model could learn from; 0 without one.

    By the last checkpoint: a training set that no model came of has taught nobody. Where a checkpoint does
    not say it, as those of earlier releases, the newest training set does.
    """
    checkpoint = materialized(instance, "model_checkpoint")
    if checkpoint is None:
        return 0
    if "feedback_through" not in checkpoint:
        return feedback_in_training_set(instance)
    return int(checkpoint["feedback_through"])


def _required(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    metadata = materialized(instance, asset)
    if metadata is None:
        raise HoneloopError(
            f"The asset {asset} was not materialized yet.", hint=f"Materialize {asset} first."
        )
    return metadata
