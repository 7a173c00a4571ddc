"""Vectors of the snippets, and the index that answers searches."""

from typing import Any

import dagster as dg

from pipeline.config import load_settings
from pipeline.corpus.repositories import get_repository
from pipeline.corpus.state import live_fingerprint
from pipeline.defs.assets.corpus import OWNERS, snippets
from pipeline.defs.assets.evaluation import promoted_model
from pipeline.defs.freshness import code_is_fresh
from pipeline.defs.partitions import repository_partitions
from pipeline.defs.pools import EMBEDDING
from pipeline.defs.reporting import reported, table
from pipeline.errors import OvertakenError
from pipeline.index.building import IndexReport, build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import FlipReport, flip
from pipeline.index.serving import serving_index
from pipeline.progress import Progress
from pipeline.promotion.registry import ModelRecord, serving_model
from pipeline.promotion.sanity import require_sane, sanity_of
from pipeline.search.challenger import keep_up
from pipeline.search.hybrid.line import learn_ranking
from pipeline.workbench import Workbench

GROUP = "index"
# How often it begins anew when code appears, or another model takes over, while it is built.
ATTEMPTS = 3


@dg.asset(
    partitions_def=repository_partitions,
    deps=[snippets, promoted_model],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "postgres"},
    pool=EMBEDDING,
    description="Vectors of one repository's snippets, made by the approved model, else by the one that "
    "serves. Keyed by content: equal code is embedded once, an unchanged snippet never again.",
)
def snippet_embeddings(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Embeds what the model has not embedded yet."""
    with reported(context.log, workbench.progress) as progress:
        repository = get_repository(workbench.db, context.partition_key)
        model = workbench.target_model()
        require_sane(model, sanity_of(workbench, model))  # before hours of embedding
        seen = live_fingerprint(workbench.db, repository.id)
        report = embed_missing(
            workbench.db, workbench.encoder(model), workbench.settings, progress, repository=repository
        )
        return dg.MaterializeResult(
            metadata={
                "model_version": model.version,
                "model": model.name,
                "dims": model.dims,
                "embedded": report.embedded,
                "reused": report.reused,
                "embedding_seconds": round(report.seconds, 3),
                "snippets_per_second": round(report.snippets_per_second, 1),
                **({"computed_by": " + ".join(report.backends)} if report.backends else {}),
            },
            data_version=dg.DataVersion(f"{model.version}:{seen}"),
        )


@dg.asset(
    deps=[snippet_embeddings],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    pool=EMBEDDING,
    freshness_policy=code_is_fresh(load_settings()),
    description="The HNSW index over all vectors of one model version. Its approximate recall is measured "
    "against exact search first; then it becomes what serves, in one transaction. What words and "
    "crowds count beside meaning in its ranking is learned from judged queries, and 0 until proven to help.",
)
def search_index(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Builds or extends the index of the target model, verifies it, and lets it serve."""
    with reported(context.log, workbench.progress) as progress:
        before = serving_model(workbench.db)
        seen = live_fingerprint(workbench.db)
        model, report, flipped = _built(workbench, progress)
        serving = serving_index(workbench.db)
        now = workbench.model(serving.model_version)
        ranking = learn_ranking(workbench, serving, progress, changed=report.action != "reused")
        challenger = keep_up(workbench, progress)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": report.rows,
                "index_version": report.index_version_id,
                "model_version": model.version,
                "model": model.name,
                "dims": model.dims,
                "action": report.action,
                "rows": report.rows,
                "recall_at_10": report.recall_at_10,
                "recall_sample": report.recall_sample,
                "build_seconds": round(report.build_seconds, 3),
                "lexical_weight": ranking.weights.words,
                "crowding_weight": ranking.weights.crowding,
                "ranking_reason": str(ranking.evidence["reason"]),
                **({"challenger": challenger} if challenger else {}),
                "previous_index_version": flipped.previous_index_version_id or 0,
                "serves": table(
                    ["", "model", "version"],
                    [
                        ["before", before.name, before.version[:12]] if before else ["before", "–", "–"],
                        ["now", now.name, now.version[:12]],
                    ],
                ),
            },
            data_version=dg.DataVersion(f"{model.version}:{seen}"),
        )


def _built(workbench: Workbench, progress: Progress) -> tuple[ModelRecord, IndexReport, FlipReport]:
    """The target model, its index, built or extended, and how that came to serve.

    What changes under its hands is taken up: code that appears, another model that takes over.

    Raises:
        OvertakenError: it was overtaken `ATTEMPTS` times.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _built_once(workbench, progress)
        except OvertakenError as error:
            progress.note(error.message)
            model = workbench.target_model()
            embed_missing(workbench.db, workbench.encoder(model), workbench.settings, progress)
    return _built_once(workbench, progress)


def _built_once(workbench: Workbench, progress: Progress) -> tuple[ModelRecord, IndexReport, FlipReport]:
    model = workbench.target_model()
    require_sane(model, sanity_of(workbench, model))
    report = build_index(
        workbench.db, model.version, workbench.settings, progress, lambda: workbench.recall_queries(model)
    )
    flipped = flip(
        workbench.db,
        report.index_version_id,
        actor="index",
        reasons=[f"recall@10 {report.recall_at_10:.3f} over {report.recall_sample} queries"],
        settings=workbench.settings,
        unless_overtaken=True,
    )
    return model, report, flipped
