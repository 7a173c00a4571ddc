"""`honeloop models`, `evaluate`, `promote`, `rollback`: models, how good, which serves, exporting."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from pipeline.commands import exporting
from pipeline.commands.common import Json, output, print_json, settings_in_force, shown_progress, working


class ShowUnlessNamed(TyperGroup):
    """Lets `show` be left out: `honeloop models 3f2a91c0` shows that model, `honeloop models` all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `show` before arguments that begin with no command."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(
        cls=ShowUnlessNamed,
        help="Lists the model versions: where each came from, how good it is, what the gate said, what "
        "serves. Or exports one.",
        epilog="Examples:\n\n[cyan]honeloop models[/cyan]\n\n[cyan]honeloop models 3f2a91c0[/cyan]\n\n"
        "[cyan]honeloop models export 3f2a91c0 --onnx[/cyan]",
    )
    group.command("show")(models)
    group.command("export", epilog=exporting.EXAMPLES)(exporting.export)
    app.command(
        epilog="Example:\n\n[cyan]honeloop evaluate --queries questions.jsonl --model serving "
        "--json[/cyan]\n\n[cyan]honeloop evaluate --queries questions.jsonl --model base[/cyan]\n\n"
        "Each line is a JSON object:\n\n"
        '[cyan]{"query": "…", "relevant": [{"repository": "mine", "path": "a/b.py", "symbol": '
        '"f"}]}[/cyan]\n\n'
        "Without symbol, any snippet of the file counts."
    )(evaluate)
    app.add_typer(group, name="models")
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
    ranked_by: Annotated[
        Literal["search", "meaning"] | None,
        typer.Option(
            help="search: as searches by this model rank, with what words and crowds count for it; meaning: "
            "by the cosine alone. By default search, but meaning for base, which is where learning began.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measures a model on your own questions, each ranking the whole indexed corpus exactly."""
    from pipeline.evaluation.queries_file import evaluate_queries

    with working(json) as bench:
        encoder = bench.encoder(bench.named_model(model))
        by = ranked_by or ("meaning" if model == "base" else "search")
        report = evaluate_queries(bench.db, encoder, queries, bench.progress, bench.settings, ranked_by=by)
    if json:
        print_json(report.to_json())
        return
    from rich.table import Table

    console = output()
    console.print(
        f"Model {report.model_version[:12]}: {report.queries:,} queries, each ranking {report.corpus:,} "
        f"texts; {report.unmatched:,} left out, as none of their answers is indexed."
    )
    console.print(f"Ranked {report.ranking.said}.")
    table = Table("metric", "mean")
    for name, value in report.metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    if report.rejected_file is not None:
        console.print(f"{report.rejected:,} lines could not be used; they are in {report.rejected_file}.")


def models(
    version: Annotated[
        str | None, typer.Argument(help="One model: every verdict on it, with all that was looked at.")
    ] = None,
    json: Json = False,
) -> None:
    """Lists the model versions: where each came from, how good it is, what the gate said, what serves."""
    from pipeline.evaluation.online import online_comparisons
    from pipeline.index.challenging import challenger_version
    from pipeline.promotion.registry import list_events, list_models
    from pipeline.promotion.verdicts import list_verdicts
    from pipeline.promotion.weights import given_up_at

    with working(json) as bench:
        chosen = None if version is None else bench.named_model(version).version
        records = [record for record in list_models(bench.db) if chosen in (None, record.version)]
        events = list_events(bench.db, chosen, limit=10_000)
        verdicts = list_verdicts(bench.db, chosen, limit=1000)
        latest = {given.verdict.candidate_version: given for given in reversed(verdicts)}
        with bench.db.connect() as connection:
            online = online_comparisons(connection, bench.settings, chosen)
            challenging = challenger_version(connection)
    if json:
        shown = [
            asdict(record)
            | {
                "events": [asdict(event) for event in events if event.version == record.version],
                "verdicts": [
                    given.verdict.to_json() | {"at": given.at}
                    for given in verdicts
                    if given.verdict.candidate_version == record.version
                ],
                "online": [asdict(each) for each in online if each.candidate_version == record.version],
                "challenger": record.version == challenging,
                "weights_given_up": given_up_at(record),
            }
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
    from pipeline.promotion.models_view import evidence_parts, given_up_lines, last_words, models_table

    console.print(models_table(records))
    if chosen is None:
        for line in last_words(records, events, latest, online):
            console.print(line, soft_wrap=True)
    else:
        for line in given_up_lines(records):
            console.print(line, soft_wrap=True)
        for part in evidence_parts(verdicts, online):
            console.print(part)
    if challenging is not None and chosen in (None, challenging):
        console.print(
            f"\nSearches are interleaved with {challenging[:12]} where HONELOOP_INTERLEAVING_SHARE says so."
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
    from pipeline.commands.presence import running_services
    from pipeline.promotion.deciding import promote as approve

    services = running_services(settings)
    with shown_progress(json) as progress:
        if services is not None:
            from pipeline.defs.promoting import wait_until_it_serves
            from pipeline.workbench import Workbench

            bench = Workbench(settings, progress)
            record = approve(bench.db, settings, version, reason, progress=progress)
            progress.note(f"{record.name} ({record.version[:12]}) is approved.")
            record, built = wait_until_it_serves(
                bench,
                record,
                address=services.dagster,
                alive=lambda: running_services(settings) == services,
            )
        else:
            from pipeline.defs.in_process import Loop

            with Loop.running(settings, progress, "promote") as loop:
                record = approve(loop.workbench.db, settings, version, reason, progress=progress)
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
