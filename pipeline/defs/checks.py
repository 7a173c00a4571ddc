"""Asset checks, made from the one list of checks: a blocking one that fails stops what is downstream in its
run.

What does not belong here: how anything is checked (`checks.py` of each room), and the list itself
(`pipeline/checks.py`).
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from pipeline.checking import NothingToCheckError
from pipeline.checks import CHECKS, Check, Subject
from pipeline.corpus.repositories import get_repository
from pipeline.defs.partitions import repository_partitions
from pipeline.defs.reporting import last_version, materialized
from pipeline.errors import HoneloopError
from pipeline.training.runs import account_of
from pipeline.workbench import Workbench


def _asset_check(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.asset,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        partitions_def=repository_partitions if check.scope == "repository" else None,
    )
    def run(
        context: dg.AssetCheckExecutionContext, workbench: dg.ResourceParam[Workbench]
    ) -> dg.AssetCheckResult:
        try:
            outcome = check.body(_subject(context, check, workbench))
        except NothingToCheckError as nothing:
            return dg.AssetCheckResult(passed=False, description=str(nothing))
        except HoneloopError as error:
            return dg.AssetCheckResult(passed=False, description=error.message, metadata={"hint": error.hint})
        metadata: dict[str, Any] = dict(outcome.figures)
        if not outcome.passed:
            metadata["hint"] = outcome.hint
        return dg.AssetCheckResult(
            passed=outcome.passed,
            severity=dg.AssetCheckSeverity.WARN if outcome.warning else dg.AssetCheckSeverity.ERROR,
            description=outcome.message,
            metadata=metadata,
        )

    return run


def _subject(context: dg.AssetCheckExecutionContext, check: Check, workbench: Workbench) -> Subject:
    """What the assets of the run, or of the latest one, have made."""
    subject = Subject(workbench)
    if check.scope == "repository":
        subject = replace(subject, repository=get_repository(workbench.db, context.partition_key))
        return _as_embedded(context, subject) if check.asset == "snippet_embeddings" else subject
    if check.scope == "index":
        return subject

    def latest(asset: str) -> Mapping[str, Any]:
        return materialized(context.instance, asset) or {}

    subject = replace(subject, training_set_id=latest("training_set").get("training_set_id"))
    if check.asset == "fine_tuned_model":
        recipe = latest("fine_tuned_model").get("recipe_key")
        return replace(subject, account=account_of(workbench.settings, recipe) if recipe else None)
    version = latest("model_checkpoint").get("model_version")
    if version is None:
        return subject
    evaluated = latest("model_evaluation")
    of_this = evaluated.get("model_version") == version
    return replace(
        subject,
        model=workbench.model(str(version)),
        against=evaluated.get("serving_version") if of_this else None,
        test_set=evaluated.get("test_set") if of_this else None,
    )


def _as_embedded(context: dg.AssetCheckExecutionContext, subject: Subject) -> Subject:
    """By whom, and what: another model may be the one to serve by now, and the code another."""
    version = last_version(context.instance, "snippet_embeddings", context.partition_key)
    if version is None:
        return subject
    model, _, fingerprint = version.partition(":")
    return replace(subject, embedded_by=subject.bench.model(model), embedded=fingerprint)


with warnings.catch_warnings():
    # Partitions of a check are new in Dagster; without them a check's result would not say of which
    # repository.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    asset_checks = [_asset_check(check) for check in CHECKS]
