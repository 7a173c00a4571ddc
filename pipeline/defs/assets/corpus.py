"""Where code comes from, and the snippets cut out of it: one partition per repository."""

from typing import Any

import dagster as dg

from pipeline.config import load_settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.news import state_of_source
from pipeline.corpus.report import ExtractionReport
from pipeline.corpus.repositories import Repository, get_repository
from pipeline.corpus.state import live_fingerprint, sample
from pipeline.defs.freshness import code_is_fresh
from pipeline.defs.partitions import repository_partitions
from pipeline.defs.reporting import code_block, counts_table, reported, table
from pipeline.errors import HoneloopError
from pipeline.workbench import Workbench

GROUP = "corpus"
OWNERS = ["team:honeloop"]

repositories = dg.AssetSpec(
    "repositories",
    description="The registered sources of code. Registered with `honeloop source add NAME LOCATION`.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"git", "postgres"},
)


@dg.asset(
    partitions_def=repository_partitions,
    deps=[repositories],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "postgres"},
    freshness_policy=code_is_fresh(load_settings()),
    description="Functions, methods, classes and module heads of one repository, cut out by its syntax "
    "trees. Only files that changed are parsed; what is gone is marked as vanished.",
)
def snippets(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Extracts the repository of the partition."""
    with reported(context.log, workbench.progress) as progress:
        repository = get_repository(workbench.db, context.partition_key)
        state = _state(repository, workbench)
        report = extract_repository(
            workbench.db, repository, workbench.settings, workbench.token_budget(), progress
        )
        for problem in report.problems:
            context.log.warning(problem)
        if report.failed:
            raise dg.Failure(
                description=f"The source {repository.name!r} could not be read: {'; '.join(report.problems)}",
                metadata={
                    "message": f"The source {repository.name!r} could not be read.",
                    "hint": " ".join(report.problems),
                    "exit_code": 1,
                },
                allow_retries=False,
            )
        return dg.MaterializeResult(
            metadata={
                **_metadata(workbench, repository.id, report),
                "state": state or report.commit_id or "",
            },
            data_version=dg.DataVersion(live_fingerprint(workbench.db, repository.id)),
        )


def _state(repository: Repository, workbench: Workbench) -> str:
    """What was there before it was read: what changes meanwhile is new. Of a git repository the commit that
    was read says it.
    """
    if repository.kind == "git":
        return ""
    try:
        return state_of_source(repository, workbench.settings) or ""
    except HoneloopError:  # reading it will say why
        return ""


def _metadata(workbench: Workbench, repository_id: int, report: ExtractionReport) -> dict[str, Any]:
    shown = sample(workbench.db, repository_id)
    return {
        "dagster/row_count": report.snippets_live,
        "commit": report.commit_id or "",
        "unchanged": report.unchanged,
        "snippets_live": report.snippets_live,
        "snippets_added": report.snippets_added,
        "snippets_changed": report.snippets_changed,
        "snippets_vanished": report.snippets_vanished,
        "files_seen": report.files_seen,
        "files_parsed": report.files_parsed,
        "files_unchanged": report.files_unchanged,
        "files_with_syntax_errors": report.files_with_syntax_errors,
        "secrets_left_out": report.secrets,
        "seconds": round(report.seconds, 3),
        "by language": counts_table("language", report.by_language),
        "by kind": counts_table("kind", report.by_kind),
        "files skipped": counts_table("reason", report.files_skipped),
        "problems": table(["problem"], [[problem] for problem in report.problems]),
        **(
            {"sample": code_block(shown.code, shown.language, f"`{shown.path}` · `{shown.symbol}`")}
            if shown
            else {}
        ),
    }
