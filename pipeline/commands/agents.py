"""`honeloop mcp` and `honeloop embed-worker`: search for agents, embeddings over NATS."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from pipeline.commands.common import print_json, settings_in_force
from pipeline.errors import HoneloopError

MCP_PORT = 8322


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "mcp",
        epilog="Examples:\n\n"
        '[cyan]claude mcp add honeloop -e HONELOOP_HOME="$PWD/.honeloop" -- honeloop mcp[/cyan]\n\n'
        "An agent then starts it wherever it works, and talks to it by standard input and output.\n\n"
        "[cyan]honeloop mcp --http[/cyan]   one for several agents, at http://127.0.0.1:8322/mcp",
    )(mcp)
    app.command(
        "embed-worker",
        epilog="What it takes and answers is described in pipeline/search/nats/__init__.py. Start as many as "
        "you like: they share the requests.\n\n"
        "Example:\n\n[cyan]HONELOOP_NATS_URL=nats://10.0.0.5:4222 honeloop embed-worker[/cyan]",
    )(embed_worker)


def mcp(
    *,
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="With --http: the address. Beyond this machine only with HONELOOP_API_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --http: the port.")] = MCP_PORT,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --http: a further name that clients call this server by; may be repeated.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="Whose searches these are, for the record. Default: agent:<the client's name>."),
    ] = None,
) -> None:
    """Serves search to coding agents over the Model Context Protocol.

    The tools are search_code, get_snippet and report_usefulness. What an agent opens is feedback.
    """
    from pipeline.search.agents.backend import AgentBackend

    settings = settings_in_force()
    # Before the library does: its own form breaks lines to the width of a terminal.
    _log_to_stderr()
    backend = AgentBackend(settings)
    try:
        if http:
            from pipeline.search.agents.http import serve_http

            serve_http(
                backend,
                settings,
                host=host,
                port=port,
                allowed_hosts=allow_host or (),
                user=user or None,
                ready=lambda address: typer.echo(f"Agents connect to {address}; Ctrl-C ends it."),
            )
        else:
            from pipeline.search.agents.stdio import serve_stdio

            serve_stdio(backend, user=user or None)
    finally:
        backend.close()


def embed_worker(
    *,
    json: Annotated[
        bool, typer.Option("--json", help="Print what happens, every request too, as one JSON object a line.")
    ] = False,
) -> None:
    """Answers embedding requests that come over NATS, until Ctrl-C or SIGTERM.

    It then finishes the requests it has and takes no new ones. It follows every model that comes to serve.
    """
    settings = settings_in_force()
    if find_spec("nats") is None:
        raise HoneloopError(
            "The NATS client is not installed.", hint='Install it: pip install "honeloop[nats]".'
        )
    import asyncio

    from pipeline.search.nats.worker import EmbedWorker
    from pipeline.workbench import Workbench

    _log_to_stderr()
    worker = EmbedWorker(Workbench(settings), _say_json if json else _say)
    try:
        asyncio.run(worker.run())
    finally:
        worker.close()


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _say_json(event: str, particulars: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    print_json({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **particulars})


_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "serving": lambda it: f"Model {it['model_version'][:12]} serves, on {it['device']}.",
    "listening": lambda it: (
        f"Answering {it['subject']} at {it['url']}, queue group {it['queue_group']}; Ctrl-C ends it."
    ),
    "disconnected": lambda it: f"The server at {it['url']} went away; trying to reach it again.",
    "reconnected": lambda it: f"The server at {it['url']} is back.",
    "error": lambda it: f"{it['error']}",
    "draining": lambda it: f"Ending: {it['in_flight']} requests are finished first.",
    "ended": lambda it: (
        f"{it['answered']:,} requests answered, {it['refused']:,} refused, {it['unanswered']:,} lost with "
        "the connection."
    ),
}


def _say(event: str, particulars: dict[str, Any]) -> None:
    """For people: not a line for each request."""
    if event in _SENTENCES:
        typer.echo(_SENTENCES[event](particulars))
