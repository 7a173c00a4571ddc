"""The `honeloop` command: puts the command groups together; each lives in `pipeline/commands/`.

Nothing heavy is imported before a command needs it: `honeloop --help` answers at once.
"""

from __future__ import annotations

import typer

from pipeline.commands import (
    agents,
    backups,
    doctor,
    feedback,
    interleaving,
    loop,
    models,
    operations,
    searching,
    serving,
    settings,
    sources,
    triplets,
)
from pipeline.commands.errors import SentenceErrors

app = typer.Typer(
    name="honeloop",
    cls=SentenceErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A code-search model that hones itself on its users' feedback.\n\n"
    "Honeloop indexes your repositories, answers code searches, records what people did with the answers, "
    "fine-tunes the embedding model on that, and lets a new model serve only when it measurably beats the "
    "one in use.",
    epilog="[bold]A first tour[/bold]\n\n"
    "[cyan]honeloop run[/cyan]   the whole loop, on real code that is already on this machine\n\n"
    '[cyan]honeloop search "read a graph from a file"[/cyan]   ask it something\n\n'
    "[cyan]honeloop feedback add SEARCH_ID SNIPPET_ID accept[/cyan]   say which answer was right\n\n"
    "[cyan]honeloop source add mine ~/code/mine[/cyan]   register your own code\n\n"
    "All state lies under HONELOOP_HOME (default: .honeloop). Every setting is an environment variable; "
    "[cyan]honeloop settings[/cyan] lists them.",
)

# The order is that of a first tour, and of --help.
loop.register(app)
app.add_typer(sources.app, name="source")
searching.register(app)
serving.register(app)
agents.register(app)
app.add_typer(feedback.app, name="feedback")
app.add_typer(triplets.app, name="triplets")
models.register(app)
interleaving.register(app)
operations.register(app)
settings.register(app)
backups.register(app)
doctor.register(app)


def main() -> None:
    """Runs the command of `sys.argv`. Exits with 0; 1: failure, 2: bad input, 130: interrupted."""
    app(prog_name="honeloop")


if __name__ == "__main__":
    main()
