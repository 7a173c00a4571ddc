"""`honeloop triplets`: reading what a model is trained on, and why it is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.commands.common import Json, output, print_json, working

app = typer.Typer(no_args_is_help=True, help="Read what a model is trained on, and why.")
Number = Annotated[
    int | None, typer.Option("--set", min=1, help="A training set's number; by default the newest.")
]


class OriginName(StrEnum):
    """Where a pair came from."""

    feedback = "feedback"
    docstring = "docstring"
    commit = "commit"


class SplitName(StrEnum):
    """The side a pair stands on."""

    train = "train"
    validation = "validation"
    test = "test"


@app.command(
    epilog="Examples:\n\n[cyan]honeloop triplets show --origin commit -n 3[/cyan]\n\n"
    "[cyan]honeloop triplets show -n 100 --json > samples.json[/cyan]"
)
def show(
    *,
    origin: Annotated[OriginName | None, typer.Option(help="Only pairs that came from this.")] = None,
    split: Annotated[SplitName | None, typer.Option(help="Only pairs of this side.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many to draw.")] = 5,
    seed: Annotated[int, typer.Option(help="Another number draws others.")] = 0,
    training_set: Number = None,
    json: Json = False,
) -> None:
    """Shows samples of the training set: query, answer, negatives, and the reasons for each."""
    from pipeline.training.training_set import load_training_set
    from pipeline.training.triplets import places, sampled, triplet_json
    from pipeline.training.triplets_view import render_triplets

    with working(json) as bench:
        built = load_training_set(bench.db, training_set)
        pairs, eligible = sampled(
            built,
            count,
            seed,
            origin=origin.value if origin else None,
            split=split.value if split else None,
        )
        with bench.db.connect() as connection:
            where = places(connection, pairs)
    if json:
        print_json(
            {
                "training_set": built.id,
                "eligible": eligible,
                "seed": seed,
                "triplets": [triplet_json(pair, where) for pair in pairs],
            }
        )
        return
    console = output()
    for part in render_triplets(pairs, where, width=console.width):
        console.print(part)
    console.print(
        f"{len(pairs)} of {eligible:,} pairs of training set {built.id}; --seed draws others, "
        "`honeloop triplets summary` counts them all.",
        style="dim",
    )


@app.command(epilog="Example:\n\n[cyan]honeloop triplets summary[/cyan]")
def summary(
    training_set: Number = None,
    json: Json = False,
) -> None:
    """Counts the training set: its pairs, what was left out and why, its negatives and their margins."""
    from pipeline.training.training_set import load_training_set
    from pipeline.training.triplets_view import render_set

    with working(json) as bench:
        built = load_training_set(bench.db, training_set)
    if json:
        print_json({"training_set": built.id, "fingerprint": built.fingerprint, "counts": built.counts})
        return
    console = output()
    console.print(f"Training set [bold]{built.id}[/bold] {built.fingerprint[:12]}\n")
    for part in render_set(built):
        console.print(part)
