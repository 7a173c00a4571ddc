"""How good the candidate is against what serves, and the gate's verdict on it."""

from typing import Any

import dagster as dg

from pipeline.defs.assets.corpus import OWNERS
from pipeline.defs.assets.training import model_checkpoint
from pipeline.defs.by_command import command_of
from pipeline.defs.pools import TRAINING
from pipeline.defs.reporting import picture, reported, table
from pipeline.defs.upstream import candidate_of, evaluated, training_set_of
from pipeline.engines.engine import engine_for
from pipeline.evaluation import plots, report
from pipeline.evaluation.changes import changes_markdown
from pipeline.evaluation.compare import compare, hashes_in, with_places
from pipeline.evaluation.evaluating import evaluate_model, evaluate_on, freeze_test_set
from pipeline.evaluation.frozen_sets import general_set, give_up_old_sets
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.store import places_of
from pipeline.promotion.deciding import apply_verdict
from pipeline.promotion.judging import judge
from pipeline.promotion.verdict_view import FINDINGS, findings_rows
from pipeline.promotion.weights import give_up_weights
from pipeline.search.hybrid.line import learn_serving_ranking
from pipeline.store.locks import learning
from pipeline.training.earlier_sets import earlier_sets
from pipeline.workbench import Workbench

GROUP = "evaluation"


@dg.asset(
    deps=[model_checkpoint],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "postgres"},
    pool=TRAINING,
    description="The candidate, the model that serves and the base encoder on the same frozen test queries, "
    "each ranking the whole corpus as searches rank it: MAP, MRR, nDCG, recall and triplet accuracy with "
    "confidence intervals, by origin, language, repository and query length; and by meaning alone on the "
    "general set that is held constant.",
)
def model_evaluation(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Measures what was not measured on this test set yet, and compares."""
    with reported(context.log, workbench.progress) as progress, learning(workbench.db):
        db, settings = workbench.db, workbench.settings
        training_set = training_set_of(context.instance, workbench)
        candidate = candidate_of(context.instance, workbench)
        serving, base = workbench.serving_model(), workbench.base_model()
        # First, so that what the ranking learns from new judgements is not put down to the candidate.
        learn_serving_ranking(workbench, progress)
        test_set = freeze_test_set(db, training_set)
        earlier = earlier_sets(db, candidate, training_set.id)
        general = general_set(db, test_set, training_set, settings, earlier)
        found: dict[str, Evaluation] = {}
        for model in (base, serving, candidate):
            if model.version in found:
                continue
            encoder = workbench.encoder(model)
            # First, so that a model's newest evaluation is the one on tonight's test set.
            if general is not None and general.name != test_set.name:
                evaluate_on(db, encoder, general, settings, progress)
            found[model.version] = evaluate_model(db, encoder, test_set, settings, progress)
        give_up_old_sets(db, settings.keep_test_sets)
        for gone in give_up_weights(db, settings, spared=found):
            progress.note(f"Gave up the weights of {gone.name}, which did not pass; its record stays.")
        comparison = compare(found[candidate.version], found[serving.version], settings)
        comparison = with_places(comparison, places_of(db, hashes_in(comparison)))
        named = {
            "base": found[base.version],
            "serving": found[serving.version],
            "candidate": found[candidate.version],
        }
        measured = named["candidate"]
        computed_by: dict[str, str] = {}
        if not measured.reused:  # else it was not even loaded
            backends = engine_for(settings, progress.note).backends(workbench.encoder(candidate))
            computed_by = {"computed_by": " + ".join(backends)}
        return dg.MaterializeResult(
            metadata={
                "model_version": candidate.version,
                "serving_version": serving.version,
                "base_version": base.version,
                "test_set": measured.test_set,
                **({} if general is None else {"general_test_set": general.name}),
                "queries": measured.queries,
                "corpus": measured.corpus,
                "ranked": measured.ranking.said,
                **computed_by,
                **command_of(context),
                "reused": all(evaluation.reused for evaluation in found.values()),
                **{name: round(interval.mean, 4) for name, interval in measured.overall.items()},
                "metrics": dg.MetadataValue.md(report.metrics_markdown(named, comparison)),
                "by slice": dg.MetadataValue.md(
                    report.slices_markdown(named, settings.gate_metric, comparison)
                ),
                "queries that moved most": dg.MetadataValue.md(changes_markdown(comparison)),
                "metrics as bars": picture(
                    plots.metric_bars(named), "metrics of base, serving and candidate"
                ),
                **_margins(named),
            },
            data_version=dg.DataVersion(f"{measured.test_set}:{candidate.version}:{serving.version}"),
        )


def _margins(named: dict[str, Evaluation]) -> dict[str, dg.MarkdownMetadataValue]:
    """The margins of the test triplets as a picture, if there are any."""
    if not any(evaluation.margins for evaluation in named.values()):
        return {}
    return {"margins": picture(plots.margins_histogram(named), "margins of the test triplets")}


@dg.asset(
    deps=[model_evaluation],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    description="The gate's verdict on the candidate, written to the registry with its reasons. Approved "
    "only when it beats what serves and the base beyond chance and by enough to matter, and no large slice "
    "nor the general set loses; it serves once its index is built.",
)
def promoted_model(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Lets the gate decide on the stored measurements, and records what it says."""
    with reported(context.log, workbench.progress) as progress:
        candidate, test_set, general = evaluated(context.instance, workbench)
        verdict = judge(workbench, candidate, test_set, general)
        record = apply_verdict(workbench.db, verdict, candidate.version)
        progress.note(f"Gate: {verdict.decision}. {' '.join(verdict.reasons)}")
        return dg.MaterializeResult(
            metadata={
                "model_version": candidate.version,
                "model": candidate.name,
                "serving_version": verdict.serving_version,
                "test_set": verdict.test_set,
                "decision": verdict.decision,
                "state": record.state,
                "reasons": table(["reason"], [[reason] for reason in verdict.reasons]),
                "findings": table(FINDINGS, findings_rows(verdict)),
                "thresholds": dg.MetadataValue.json(verdict.thresholds),
            },
            # What follows depends on which model is to serve, and not on who was turned down.
            data_version=dg.DataVersion(workbench.target_model().version),
        )
