"""`honeloop search`: one question, its answers, and how to say which was right."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.common import Json, User, output, print_json, working

if TYPE_CHECKING:
    from pipeline.search.answer import SearchAnswer, SearchResult

# As much code of each result as shows what it is; --json has all of it.
SHOWN_LINES = 10


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog='Examples:\n\n[cyan]honeloop search "shortest path between two nodes"[/cyan]\n\n'
        '[cyan]honeloop search "parse command line options" -k 3 --source click[/cyan]\n\n'
        '[cyan]honeloop search "wrap text to a width" --language python --path "rich/**" --json[/cyan]'
    )(search)


def search(
    query: Annotated[str, typer.Argument(help="What the code should do, in your own words.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many results.")] = 10,
    language: Annotated[
        list[str] | None, typer.Option(help="Only code in this language; may be repeated.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Only code from this source; may be repeated.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only function, method, class or module; may be repeated.")
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only files whose path matches, such as 'src/**/*.py'.")
    ] = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Searches the indexed code by meaning.

    What was shown is remembered, so that feedback on it can teach the model.
    """
    from pipeline.index.serving import serving_index
    from pipeline.search.query import search as ask
    from pipeline.search.request import SearchRequest

    request = SearchRequest(
        query,
        k,
        tuple(language or ()),
        tuple(source or ()),
        tuple(kind or ()),
        path,
        user=user,
        client="cli",
    )
    request.check()
    with working(json) as bench:
        serving = serving_index(bench.db)
        answer = ask(bench.db, bench.encoder_at(serving.location), request)
    if json:
        print_json(_shown(answer))
    else:
        _print(answer)


def _shown(answer: SearchAnswer) -> dict[str, Any]:
    shown = asdict(answer)
    del shown["times"]  # how long each part took is the service's to watch
    return shown


def _print(answer: SearchAnswer) -> None:
    from rich.syntax import Syntax
    from rich.text import Text

    console = output()
    for result in answer.results:
        console.print(_heading(result))
        lines = result.code.splitlines()
        console.print(
            Syntax(
                "\n".join(lines[:SHOWN_LINES]),
                _lexer(result.language),
                start_line=result.start_line,
                line_numbers=True,
                background_color="default",
                word_wrap=False,
            )
        )
        more = len(lines) - SHOWN_LINES
        console.print(Text(f"     … {more} more lines\n" if more > 0 else "", style="dim"))
    if not answer.results:
        console.print("Nothing matches.")
        return
    console.print(
        Text(
            f"search {answer.search_id}   {len(answer.results)} results in {answer.latency_ms:.0f} ms   "
            f"model {answer.model_version[:12]}",
            style="dim",
        )
    )
    console.print("Tell it which one was right:")
    console.print(
        f"  honeloop feedback add {answer.search_id} {answer.results[0].snippet_id} accept",
        style="cyan",
        soft_wrap=True,
    )


def _heading(result: SearchResult) -> Any:
    from rich.text import Text

    others = f"  +{result.places - 1} same elsewhere" if result.places > 1 else ""
    return Text.assemble(
        (f"{result.rank:>2}. ", "bold"),
        (f"{result.repository} ", "magenta"),
        (f"{result.path}:{result.start_line}", "cyan"),
        f"  {result.symbol} ",
        (f"{result.kind}  {result.score:.3f}  snippet {result.snippet_id}{others}", "dim"),
    )


def _lexer(language: str) -> str:
    # Pygments calls two of them otherwise.
    return {"csharp": "c#", "tsx": "tsx"}.get(language, language)
