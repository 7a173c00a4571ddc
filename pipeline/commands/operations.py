"""`honeloop check`, `status`, `up` and `migrate`: keeping it going."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import Json, output, print_json, settings_in_force, working

if TYPE_CHECKING:
    from pipeline.config import Settings


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(check)
    app.command()(status)
    app.command(epilog="Example:\n\n[cyan]HONELOOP_UI_PORT=3333 honeloop up[/cyan]")(up)
    app.command(
        epilog="Examples:\n\n[cyan]honeloop migrate[/cyan]\n\n[cyan]honeloop migrate --down 1[/cyan]"
    )(migrate)


def check(json: Json = False) -> None:
    """Checks the present state: snippets, vectors, index, training set, models. Exits with 1 on a failure.

    What is only behind the code is marked with ! and fails nothing: the next `honeloop index` mends it.
    """
    from rich.markup import escape

    from pipeline.checks import run_checks

    with working(json) as bench:
        found = run_checks(bench)
    failed = [one for one in found if one.failed and one.blocking]
    if json:
        print_json({"passed": not failed, "checks": [one.to_json() for one in found]})
    else:
        console = output()
        for one in found:
            passed = None if one.outcome is None else one.outcome.passed
            mark = {None: "[dim]–[/dim]", True: "[green]✓[/green]", False: "[red]✗[/red]"}[passed]
            said = one.message
            if one.outcome is not None and one.outcome.warning:
                mark, said = "[yellow]![/yellow]", f"{said} {one.outcome.hint}"
            of = f" [dim]({one.subject})[/dim]" if one.subject else ""
            console.print(f"{mark} {one.asset}.{one.name}{of}  {escape(said)}", soft_wrap=True)
    if failed:
        from pipeline.errors import HoneloopError

        names = ", ".join(
            f"{one.asset}.{one.name}" + (f" ({one.subject})" if one.subject else "") for one in failed
        )
        hints = " ".join(
            dict.fromkeys(one.outcome.hint for one in failed if one.outcome and one.outcome.hint)
        )
        raise HoneloopError(f"{len(failed)} of {len(found)} checks failed: {names}.", hint=hints)


def status(json: Json = False) -> None:
    """Shows the database, sources, snippets, feedback, what serves, and the last runs."""
    from pipeline.commands.status import collect_status, print_status

    with working(json) as bench:
        found = collect_status(bench)
    if json:
        print_json(found)
    else:
        print_status(found)


def up() -> None:
    """Starts the database, the search service, Dagster's web page and daemon; Ctrl-C stops them all.

    The daemon runs the schedules and sensors: fine-tuning at night, promotion of what passes, new feedback.
    """
    from pipeline.commands.up import run_services

    run_services(settings_in_force(), output())


def migrate(
    down: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Revert the last N migrations instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Brings the database's schema up to date, or reverts the last migrations.

    Reverting refuses what would lose data that cannot be made again, such as feedback. Going forward also
    tells Dagster its pools, so that from the first run on, one at a time fine-tunes, and one embeds.
    """
    from pipeline.store import migrations
    from pipeline.store.connections import create_database
    from pipeline.store.server import DATABASE, database_url

    settings = settings_in_force()
    url = database_url(settings)
    if settings.database_url is None:
        create_database(settings, DATABASE)
    if down is None:
        report = migrations.apply(url, settings.sql_path)
        _tell_pools(settings)
    else:
        report = migrations.revert(url, settings.sql_path, down)
    if json:
        print_json(asdict(report))
        return
    done = "Reverted" if down is not None else "Applied"
    output().print(f"{done}: {', '.join(report.ran)}." if report.ran else "The schema is up to date.")
    output().print(f"In force: {', '.join(report.applied) or 'none'}.")


def _tell_pools(settings: Settings) -> None:
    """Where `honeloop up` does not run, nobody else would. Without Dagster's database, that is said."""
    from pipeline.defs.instance import make_pools
    from pipeline.errors import HoneloopError

    try:
        make_pools(settings)
    except HoneloopError as error:
        typer.echo(f"Dagster was not told its pools: {error}", err=True)
