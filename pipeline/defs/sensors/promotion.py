"""The sensor of evaluated candidates."""

import dagster as dg

from pipeline.defs import jobs
from pipeline.defs.alone import run_under_way
from pipeline.defs.by_command import is_only_looked_at
from pipeline.defs.reporting import materialized
from pipeline.defs.sensors.asking import RUNNING, UNDER_WAY, once
from pipeline.workbench import Workbench


@dg.sensor(
    name="passed_evaluation",
    job=jobs.promote,
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Launches promote for a candidate that was evaluated and has no verdict yet, unless "
    "`honeloop train` made it to be looked at. The gate decides there, from the stored measurements, "
    "whatever this sensor believed.",
)
def passed_evaluation(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.RunRequest | dg.SkipReason:
    """A failed check of the evaluation does not keep the verdict away: it is written down as a rejection.

    Without a cursor: it reads one event and one row.
    """
    if run_under_way(workbench.db):
        return UNDER_WAY
    evaluated = materialized(context.instance, "model_evaluation")
    if evaluated is None:
        return dg.SkipReason("Nothing was evaluated yet.")
    candidate = workbench.model(str(evaluated["model_version"]))
    verdict = candidate.metrics.get("verdict", {})
    if candidate.state != "candidate":
        return dg.SkipReason(f"{candidate.name} is {candidate.state}.")
    if verdict.get("test_set") == evaluated["test_set"]:
        return dg.SkipReason(f"The gate said of {candidate.name}: {verdict['decision']}.")
    if is_only_looked_at(evaluated):
        return dg.SkipReason(
            f"{candidate.name} is of `honeloop train`, which lets nothing serve: `honeloop run` asks the "
            "gate, or the next fine-tuning at night."
        )
    return once(context.instance, "promote", f"{candidate.version} on {evaluated['test_set']}")
