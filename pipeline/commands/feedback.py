"""`honeloop feedback`: saying which answers were right, seeing what that makes, and taking it away again."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import Json, User, Yes, confirm, output, print_json, working

app = typer.Typer(no_args_is_help=True, help="Say which answers were right; the next run learns from it.")


class Judgement(StrEnum):
    """What a person did with a snippet."""

    click = "click"
    copy = "copy"
    accept = "accept"
    reject = "reject"


@app.command(
    epilog="Example:\n\n[cyan]honeloop feedback add 6b3f0c1e-… 1742 accept[/cyan]\n\n"
    "`honeloop search` prints the search and the snippets' numbers."
)
def add(
    search_id: Annotated[str, typer.Argument(help="The search, as `honeloop search` printed it.")],
    snippet_id: Annotated[int, typer.Argument(help="One of the snippets that it showed.")],
    judgement: Annotated[Judgement, typer.Argument(help="What you did with it.")],
    *,
    dwell_ms: Annotated[
        int | None, typer.Option(min=0, help="How long you looked at it, in milliseconds.")
    ] = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Records what you did with one result of a search; without a name, whoever searched is meant."""
    from pipeline.feedback.events import add_feedback

    with working(json) as bench:
        result = add_feedback(bench.db, search_id, snippet_id, judgement.value, dwell_ms=dwell_ms, user=user)
    if json:
        print_json({"added": result.added})
    else:
        output().print("Recorded. Thank you." if result.added else "That was known already.")


@app.command(
    "import",
    epilog="Each line is a JSON object:\n\n"
    '[cyan]{"query": "…", "repository": "mine", "path": "a/b.py", "symbol": "f", "judgement": '
    '"accept"}[/cyan]\n\n'
    "judgement is accept, reject or click; user and at (ISO 8601) are optional. Without symbol, the first "
    "snippet of the file is meant.",
)
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="The judgements, one JSON object a line.")
    ],
    json: Json = False,
) -> None:
    """Imports judgements that were made elsewhere. Importing a file twice adds nothing.

    Lines that cannot be used go to FILE.rejected.jsonl, each with its reason.
    """
    from pipeline.feedback.importing import import_feedback

    with working(json) as bench:
        report = import_feedback(bench.db, file, bench.progress)
    if json:
        print_json(asdict(report))
        return
    console = output()
    console.print(
        f"{report.read:,} lines read: {report.added:,} added, {report.already_known:,} known already, "
        f"{report.rejected:,} set aside."
    )
    for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
        console.print(f"  {count:,} × {reason}", markup=False)
    if report.rejected_file is not None:
        console.print(f"Those are in {report.rejected_file}, each with its reason.", markup=False)


@app.command()
def stats(json: Json = False) -> None:
    """Shows how much feedback there is, what pairs it makes, and what was left out and why."""
    from pipeline.feedback.overview import OtherPairs, collect
    from pipeline.feedback.overview_view import render
    from pipeline.training.commit_pairs import commit_candidates
    from pipeline.training.commit_store import left_out_commits
    from pipeline.training.documentation_pairs import documentation_candidates

    with working(json) as bench:
        others: dict[str, OtherPairs] = {}
        with bench.db.connect() as connection:
            for origin, made in (("docstring", documentation_candidates), ("commit", commit_candidates)):
                candidates, dropped = made(connection, bench.settings)
                others[origin] = OtherPairs.of((each.language for each in candidates), dropped)
            left_out = left_out_commits(connection)
        found = collect(bench.db, bench.settings, others, left_out).to_json()
    if json:
        print_json(found)
        return
    console = output()
    for part in render(found):
        console.print(part)


@app.command(epilog="Example:\n\n[cyan]honeloop feedback forget ann[/cyan]")
def forget(
    user: Annotated[str, typer.Argument(help="The name that the person's searches and judgements carry.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Removes a person: their searches and judgements, and what was stored for training because of them.

    What others said in that person's searches goes, too. Importing an old file again does not bring them
    back. It cannot be undone.
    """
    from pipeline.feedback.forgetting import forget_user

    confirm("Forgetting somebody cannot be undone.", f"Forget {user!r}?", yes=yes, json=json)
    with working(json) as bench:
        report = forget_user(bench.db, bench.settings, user)
    if json:
        print_json(asdict(report))
        return
    console = output()
    if report.found_nothing:
        console.print(
            f"There was nothing by {user!r}. Imports of that name are set aside from now on.", markup=False
        )
        return
    for count, what in (
        (report.searches, f"searches, which showed {report.impressions:,} snippets"),
        (report.queued_searches, "searches that waited to be recorded"),
        (report.feedback, "judgements"),
        (report.feedback_of_others, "judgements by others in those searches"),
        (report.training_pairs_removed, f"pairs of {report.training_sets:,} stored training sets"),
        (report.negatives_removed, "negatives of pairs that stay"),
        (report.evaluation_queries, "texts of queries in evaluations; their figures stay"),
        (report.run_records, "records of past runs had such texts, which were replaced"),
    ):
        if count:
            console.print(f"{count:>7,} {what}", markup=False)
    console.print("Removed. Imports of what that name said until now are set aside.")
    console.print(
        "Files that were imported, what was set aside beside them (*.rejected.jsonl) and backups are yours "
        "to clean."
    )
    if report.models:
        names = ", ".join(f"{model.name} ({model.state})" for model in report.models)
        console.print(
            "These models learned from it and stay until they are trained again; their weights hold no text: "
            f"{names}.",
            markup=False,
        )


@app.command()
def expire(
    older_than: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Searches of days before that; HONELOOP_SEARCH_RETENTION_DAYS if unset.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Deletes old searches that nobody judged, and takes the names from the others. Counts by day stay.

    This happens every day by itself while `honeloop up` runs.
    """
    from pipeline.feedback.expiring import expire_searches

    with working(json) as bench:
        report = expire_searches(
            bench.db, bench.settings, older_than_days=older_than, progress=bench.progress
        )
    if json:
        print_json({**asdict(report), "before": report.before.isoformat()})
        return
    output().print(
        f"Searches before {report.before}: {report.deleted:,} that nobody judged are deleted, "
        f"{report.stripped:,} judged ones have lost their names; {report.impressions:,} impressions went."
    )
