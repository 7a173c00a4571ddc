"""`honeloop serve`: the search service alone."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.common import settings_in_force, shown_progress


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples:\n\n[cyan]honeloop serve[/cyan]\n\n"
        "[cyan]HONELOOP_API_TOKEN=… honeloop serve --host 0.0.0.0 --port 80[/cyan]"
    )(serve)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="By default HONELOOP_SEARCH_PORT, 8321; 0: any free one."),
    ] = None,
    *,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line per request on standard error.")] = False,
) -> None:
    """Starts the search service and its web page, and stops it on Ctrl-C.

    It follows every new model without a restart. An address that other machines can reach is refused unless
    HONELOOP_API_TOKEN is set.
    """
    settings = settings_in_force()
    from pipeline.search.api.serving import run_service

    with shown_progress(as_json=False) as progress:
        run_service(
            settings,
            progress,
            host=host,
            port=settings.search_port if port is None else port,
            say=typer.echo,
            access_log=not quiet,
        )
