"""`honeloop models`, `evaluate`, `promote`, `rollback`: models, how good, which serves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.common import Json, output, print_json, settings_in_force, shown_progress, working

if TYPE_CHECKING:
    from pipeline.promotion.registry import ModelRecord


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Example:\n\n[cyan]honeloop evaluate --queries questions.jsonl --model serving "
        "--json[/cyan]\n\nEach line is a JSON object:\n\n"
        '[cyan]{"query": "…", "relevant": [{"repository": "mine", "path": "a/b.py", "symbol": '
        '"f"}]}[/cyan]\n\n'
        "Without symbol, any snippet of the file counts."
    )(evaluate)
    app.command()(models)
    app.command(
        epilog='Example:\n\n[cyan]honeloop promote 3f2a91c0 --reason "better on our own queries"[/cyan]'
    )(promote)
    app.command()(rollback)


def evaluate(
    queries: Annotated[
        Path, typer.Option(metavar="FILE.jsonl", help="Questions with their right answers, one a line.")
    ],
    model: Annotated[
        str, typer.Option(help="base, serving, a preset, or the beginning of a model version.")
    ] = "serving",
    json: Json = False,
) -> None:
    """Measures a model on your own questions, each ranking the whole indexed corpus exactly."""
    from pipeline.evaluation.queries_file import evaluate_queries

    with working(json) as bench:
        encoder = bench.encoder(bench.named_model(model))
        report = evaluate_queries(bench.db, encoder, queries, bench.progress, bench.settings)
    if json:
        print_json(asdict(report))
        return
    from rich.table import Table

    console = output()
    console.print(
        f"Model {report.model_version[:12]}: {report.queries:,} queries, each ranking {report.corpus:,} "
        f"texts; {report.unmatched:,} left out, as none of their answers is indexed."
    )
    table = Table("metric", "mean")
    for name, value in report.metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    if report.rejected_file is not None:
        console.print(f"{report.rejected:,} lines could not be used; they are in {report.rejected_file}.")


def models(json: Json = False) -> None:
    """Lists the model versions: where each came from, how good it is, what became of it."""
    from pipeline.promotion.registry import list_events, list_models

    with working(json) as bench:
        records = list_models(bench.db)
        events = list_events(bench.db, limit=10_000)
    if json:
        shown = [
            asdict(record)
            | {"events": [asdict(event) for event in events if event.version == record.version]}
            for record in records
        ]
        print_json({"models": shown})
        return
    console = output()
    if not records:
        console.print(
            "No model is registered yet. `honeloop run` registers the base encoder and trains another."
        )
        return
    from rich.table import Table

    table = Table("version", "name", "state", "from", "dims", "nDCG@10", "MRR@10", "index", "made", box=None)
    for record in records:
        indexes = [index for index in record.index_versions if index.state in ("ready", "serving", "retired")]
        table.add_row(
            record.version[:12],
            record.name,
            f"[bold green]{record.state}[/bold green]" if record.state == "serving" else record.state,
            (record.base_version or "")[:8],
            str(record.dims),
            _metric(record, "ndcg@10"),
            _metric(record, "mrr@10"),
            " ".join(str(index.id) for index in indexes),
            f"{record.created_at:%m-%d %H:%M}",
        )
    console.print(table)
    latest = {event.version: event for event in reversed(events) if event.reasons}
    for record in records:
        event = latest.get(record.version)
        if event is not None:
            console.print(
                f"{record.version[:12]} became {event.to_state} ({event.actor}): {' '.join(event.reasons)}",
                markup=False,
                soft_wrap=True,
            )


def promote(
    version: Annotated[str, typer.Argument(help="The beginning of a model version; see `honeloop models`.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    json: Json = False,
) -> None:
    """Lets a model version serve by your decision, whatever the gate said.

    Its sanity is checked, everything is embedded with it, its index is built and verified, and then it
    serves.
    """
    settings = settings_in_force()
    from pipeline.defs.in_process import Loop
    from pipeline.promotion.deciding import promote as approve

    with shown_progress(json) as progress, Loop.running(settings, progress) as loop:
        record = approve(loop.workbench.db, settings, version, reason)
        progress.note(f"{record.name} ({record.version[:12]}) is approved.")
        loop.finish_promotion()
        loop.result.raise_for_failure()
        record, built = loop.workbench.model(record.version), loop.result.index
    if json:
        print_json(
            {"model_version": record.version, "state": record.state, "index_version": built["index_version"]}
        )
    else:
        output().print(
            f"[bold]{record.name}[/bold] {record.version[:12]} serves: index version "
            f"{built['index_version']}, "
            f"{built['rows']:,} texts, recall@10 {built['recall_at_10']:.3f}. `honeloop rollback` goes back."
        )


def rollback(
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.")] = None,
    json: Json = False,
) -> None:
    """Lets the index that served before serve again, in one transaction."""
    from pipeline.index.flipping import rollback as go_back

    with working(json) as bench:
        report = go_back(bench.db, reasons=[reason] if reason else [])
    if json:
        print_json(asdict(report))
    else:
        output().print(
            f"Index version {report.index_version_id} serves again, with model {report.model_version[:12]}; "
            f"version {report.previous_index_version_id} is retired."
        )


def _metric(record: ModelRecord, name: str) -> str:
    overall: dict[str, Any] = record.metrics.get("evaluation", {}).get("overall", {})
    return f"{overall[name][0]:.3f}" if name in overall else ""
