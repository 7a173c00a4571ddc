"""`honeloop interleave`: compares another model with the one that serves, on people's own searches."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.commands.common import Json, output, print_json, working
from pipeline.errors import BadInputError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples:\n\n[cyan]honeloop interleave 3f2a91c0[/cyan]   builds its index and makes it the "
        "challenger\n\n[cyan]HONELOOP_INTERLEAVING_SHARE=0.2 honeloop up[/cyan]   a fifth of the searches "
        "are drafted from both\n\n[cyan]honeloop models 3f2a91c0[/cyan]   what people preferred, beside the "
        "gate's verdict\n\n[cyan]honeloop interleave --stop[/cyan]"
    )(interleave)


def interleave(
    version: Annotated[
        str | None,
        typer.Argument(
            help="The beginning of a model version. Without: the newest candidate about which the gate had "
            "not enough evidence."
        ),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End the comparison; what was found stays.")] = False,
    json: Json = False,
) -> None:
    """Lets a share of the searches show results of two models in one list, to see which people choose.

    The other model is checked, embeds everything, and gets an index of its own, which is kept up to date; it
    does not serve by this. How many searches take part is HONELOOP_INTERLEAVING_SHARE, 0 unless it is set.
    """
    if stop and version is not None:
        raise BadInputError("--stop takes no version: at most one model is compared at a time.")
    if stop:
        _stop(json)
        return
    from pipeline.search.challenger import challenge

    with working(json) as bench:
        model, index = challenge(bench, version)
        share = bench.settings.interleaving_share
    if json:
        print_json({"model_version": model.version, "name": model.name, "share": share, **asdict(index)})
        return
    console = output()
    console.print(
        f"[bold]{model.name}[/bold] {model.version[:12]} is the challenger: index version "
        f"{index.index_version_id}, {index.rows:,} texts, recall@10 {index.recall_at_10:.3f}."
    )
    console.print(
        f"{share:.0%} of the searches are drafted from both; `honeloop models {model.version[:12]}` says "
        "what people choose."
        if share
        else "No search is drafted from both yet: set HONELOOP_INTERLEAVING_SHARE (such as 0.2) where the "
        "service runs."
    )


def _stop(json: bool) -> None:
    from pipeline.index.challenging import dismiss_challenger

    with working(json) as bench, bench.db.connect() as connection:
        ended = dismiss_challenger(connection)
    if json:
        print_json({"stopped": ended})
    elif ended is None:
        output().print("Nothing was compared.")
    else:
        output().print(
            f"{ended[:12]} is no longer compared. What people chose stays: `honeloop models {ended[:12]}`."
        )
