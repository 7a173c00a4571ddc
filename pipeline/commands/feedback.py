"""`honeloop feedback`: saying which answers were right."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import Json, output, print_json, working

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
    dwell_ms: Annotated[
        int | None, typer.Option(min=0, help="How long you looked at it, in milliseconds.")
    ] = None,
    json: Json = False,
) -> None:
    """Records what you did with one result of a search."""
    from pipeline.feedback.events import add_feedback

    with working(json) as bench:
        result = add_feedback(bench.db, search_id, snippet_id, judgement.value, dwell_ms=dwell_ms)
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
    """Shows how much feedback there is, and what became of it."""
    from pipeline.feedback.pairs import feedback_pairs
    from pipeline.feedback.pairs import stats as read_stats

    with working(json) as bench:
        counts = asdict(read_stats(bench.db))
        found = feedback_pairs(bench.db, bench.settings)
    if json:
        print_json({**counts, "pairs": len(found.pairs), "dropped": found.dropped})
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), str(value))
    table.add_row("pairs for training and testing", str(len(found.pairs)))
    for reason, count in found.dropped.items():
        table.add_row(f"  left out: {reason}", str(count))
    output().print(table)
