"""`honeloop source`: which code is indexed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from pipeline.commands.common import Json, Yes, confirm, output, print_json, working

app = typer.Typer(no_args_is_help=True, help="Register code: git repositories, directories, distributions.")


class Kind(StrEnum):
    """The kinds of source."""

    git = "git"
    directory = "directory"
    distribution = "distribution"


@app.command(
    epilog="Examples:\n\n[cyan]honeloop source add mine ~/code/mine[/cyan]\n\n"
    "[cyan]honeloop source add flask https://github.com/pallets/flask --ref main[/cyan]\n\n"
    "[cyan]honeloop source add networkx networkx --kind distribution[/cyan]"
)
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    location: Annotated[
        str, typer.Argument(help="A path, a git URL, or the name of an installed distribution.")
    ],
    kind: Annotated[
        Kind | None, typer.Option(help="What is at LOCATION; by default found out from it.")
    ] = None,
    ref: Annotated[
        str | None, typer.Option(help="git only: branch, tag or commit; by default what HEAD names.")
    ] = None,
    json: Json = False,
) -> None:
    """Registers a source of code. `honeloop index` or `honeloop run` then reads it."""
    from pipeline.corpus.repositories import add_repository

    with working(json) as bench:
        repository = add_repository(
            bench.db, name, location, kind=kind.value if kind is not None else None, ref=ref
        )
    if json:
        print_json(_shown(repository))
    else:
        from rich.markup import escape

        output().print(
            f"Registered [bold]{repository.name}[/bold]: {repository.kind} {escape(repository.location)}. "
            "`honeloop index` reads it."
        )


@app.command("list")
def list_sources(json: Json = False) -> None:
    """Lists the registered sources, and what was found in them."""
    from pipeline.corpus.repositories import list_repositories

    with working(json) as bench:
        repositories = list_repositories(bench.db)
    if json:
        print_json({"sources": [_shown(repository) for repository in repositories]})
        return
    if not repositories:
        output().print(
            "No source is registered. `honeloop source add NAME LOCATION` registers one; `honeloop run` "
            "starts with real code that is already on this machine."
        )
        return
    from rich.table import Table

    table = Table("name", "kind", "location", "ref", "commit", "snippets", "read")
    for repository in repositories:
        table.add_row(
            repository.name,
            repository.kind,
            repository.location,
            repository.ref or "",
            (repository.commit_id or "")[:12],
            str(repository.report.get("snippets_live", "")),
            f"{repository.extracted_at:%Y-%m-%d %H:%M}" if repository.extracted_at else "not yet",
        )
    output().print(table, markup=False)  # a path or a branch may have brackets


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A registered source; see `honeloop source list`.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Forgets a source with its snippets and what people said of them.

    The next `honeloop index` takes the snippets out of the index. If there are judgements of them, it asks
    first: those cannot be made again.
    """
    from pipeline.corpus.repositories import count_judgements, remove_repository

    with working(json) as bench:
        judgements = count_judgements(bench.db, name)
    if judgements:
        confirm(
            f"{judgements:,} judgements of snippets of {name} go with it, and cannot be made again.",
            f"Remove {name} all the same?",
            yes=yes,
            json=json,
        )
    with working(json) as bench:
        remove_repository(bench.db, name, bench.settings)
    if json:
        print_json({"removed": name})
    else:
        output().print(f"Removed {name}. `honeloop index` takes its snippets out of the index.")


def _shown(repository: Any) -> dict[str, Any]:
    return {
        "name": repository.name,
        "kind": repository.kind,
        "location": repository.location,
        "ref": repository.ref,
        "commit": repository.commit_id,
        "extracted_at": repository.extracted_at,
        "report": repository.report,
    }
