"""`honeloop run`, `index` and `train`: the loop or parts of it, here or by the Dagster of `honeloop up`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.common import Json, output, print_json, settings_in_force, shown_progress
from pipeline.commands.errors import say
from pipeline.training.recipe_words import WORDS, names_of, words_of

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.defs.results import RunResult
    from pipeline.evaluation.run_report import ExampleSearch
    from pipeline.progress import Progress
    from pipeline.training.comparing import Comparison as RecipeComparison
    from pipeline.workbench import Workbench


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Examples:\n\n[cyan]honeloop run[/cyan]\n\n"
        "[cyan]honeloop source add mine ~/code/mine && honeloop run[/cyan]\n\n"
        "[cyan]HONELOOP_TRAIN_EPOCHS=2 honeloop run --json > report.json[/cyan]"
    )(run)
    app.command(
        epilog="Examples:\n\n[cyan]honeloop index[/cyan]\n\n[cyan]honeloop index --source mine[/cyan]"
    )(index)
    app.command(
        epilog="Examples:\n\n[cyan]honeloop train[/cyan]\n\n[cyan]honeloop train --base serving[/cyan]\n\n"
        "[cyan]HONELOOP_RECIPE=cached+two-stage honeloop train[/cyan]\n\n"
        "[cyan]honeloop train --compare multiple-negatives,cached+guided,two-stage+averaged[/cyan]\n\n"
        "A recipe is one of these words, or several joined by +:\n\n"
        + "\n\n".join(f"[cyan]{word}[/cyan]: {purpose}" for word, purpose in WORDS.items())
    )(train)


def run(json: Json = False) -> None:
    """Runs the whole loop once: index, fine-tune, measure, and let the better model serve.

    With no source registered it begins with real code that is already on this machine: Honeloop's own and
    three installed packages. What did not change since the last run is not done again.
    """
    settings = settings_in_force()
    with shown_progress(json) as progress:
        result = _run(settings, progress, "run")
    _report(settings, result, as_json=json)


def index(
    source: Annotated[
        str | None, typer.Option(help="Read only this source anew; see `honeloop source list`.")
    ] = None,
    json: Json = False,
) -> None:
    """Reads the sources, embeds what is new and brings the index up to date. Trains nothing."""
    settings = settings_in_force()
    with shown_progress(json) as progress:
        result = _run(settings, progress, "index", source=source)
    _report(settings, result, as_json=json)


def train(
    base: Annotated[
        str, typer.Option(help="What to fine-tune: base, serving, a preset, or the beginning of a version.")
    ] = "base",
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE,RECIPE",
            help="Train these recipes on one training set and compare them on its validation pairs; what "
            "was trained before is not trained again. No candidate comes of it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Fine-tunes a candidate and measures it against what serves. Lets nothing serve: `honeloop run` does.

    HONELOOP_RECIPE says how it is trained; `--compare` tells which recipe is best for your code.
    """
    settings = settings_in_force()
    names = None if compare is None else names_of(compare)
    if names is None:
        words_of(settings.recipe)  # before anything is built for it
    if names is not None:
        from pipeline.defs.in_process import Loop

        with shown_progress(json) as progress, Loop.running(settings, progress, "train") as loop:
            comparison = loop.compare(names, base)
        _print_recipes(comparison, as_json=json)
        return
    from pipeline.workbench import Workbench

    with shown_progress(json) as progress:
        result = _run(settings, progress, "train", base=base)
        result.raise_for_failure()
        bench = Workbench(settings, progress)
        evaluated, training_set = result.training["model_evaluation"], result.training["training_set"]
    if not json:
        _print_training_set(bench, training_set["training_set_id"])
    _print_comparison(bench, evaluated, training_set, json)


def _run(
    settings: Settings, progress: Progress, part: str, *, source: str | None = None, base: str | None = None
) -> RunResult:
    """Through the Dagster of the home's `honeloop up`, so that its page shows it; else in this process."""
    from pipeline.commands.presence import running_services

    services = running_services(settings)
    if services is None:
        from pipeline.defs.in_process import run_part

        return run_part(settings, progress, part, source=source, base=base)
    from pipeline.defs.launching import run_through_dagster

    return run_through_dagster(
        settings,
        progress,
        part,
        address=services.dagster,
        alive=lambda: running_services(settings) == services,
        source=source,
        base=base,
    )


def _print_recipes(comparison: RecipeComparison, *, as_json: bool) -> None:
    """Recipes side by side."""
    from pipeline.training.comparing_view import render_comparison

    if as_json:
        print_json(comparison.to_json())
    else:
        output().print(render_comparison(comparison))


def _report(settings: Settings, result: RunResult, *, as_json: bool) -> None:
    """Shows what the run left in the database; a failure is said after it, and exits with 1."""
    from pipeline.evaluation.run_report import collect_run_report
    from pipeline.evaluation.run_report_view import render_run_report
    from pipeline.store.connections import open_database

    report = collect_run_report(
        open_database(settings),
        settings,
        [_example(example) for example in result.examples],
        judged=result.training.get("promoted_model", {}).get("model_version"),
    )
    failure = result.failures[0] if result.failures else None
    if as_json:
        print_json({**report.to_json(), **_account(result)})
    elif result.index:
        output().print(render_run_report(report))
    for problem in result.problems:
        say(problem)
    for later in result.failures[1:]:
        say(str(later.error()))
    if failure is not None:
        raise failure.error()


def _account(result: RunResult) -> dict[str, Any]:
    """What `--json` says of the run itself, beside the state it left."""
    first = result.failures[0] if result.failures else None
    return {
        "embedded": sum(int(entry.get("embedded", 0)) for entry in result.sources.values()),
        "reused": sum(int(entry.get("reused", 0)) for entry in result.sources.values()),
        "index": {key: result.index.get(key) for key in ("action", "index_version", "rows", "recall_at_10")}
        if result.index
        else None,
        "problems": result.problems,
        "error": None
        if first is None
        else {"message": first.message, "hint": first.hint, "step": first.step},
        "dagster_runs": result.run_ids,
    }


def _example(example: tuple[str, list[str], list[str]]) -> ExampleSearch:
    from pipeline.evaluation.run_report import ExampleSearch

    return ExampleSearch(*example)


def _print_training_set(bench: Workbench, training_set_id: int) -> None:
    """What it was trained on, and what mining did."""
    from pipeline.training.training_set import load_training_set
    from pipeline.training.triplets_view import render_set

    console = output()
    console.print(f"\nTraining set [bold]{training_set_id}[/bold]\n")
    for part in render_set(load_training_set(bench.db, training_set_id)):
        console.print(part)
    console.print("`honeloop triplets show` shows samples of it, with the reasons.", style="dim")


def _print_comparison(
    bench: Workbench, evaluated: Mapping[str, Any], training_set: Mapping[str, Any], as_json: bool
) -> None:
    """The candidate beside what serves and the base, from their stored measurements."""
    from pipeline.evaluation import report
    from pipeline.evaluation.changes import changes_table
    from pipeline.evaluation.compare import compare, hashes_in, with_places
    from pipeline.evaluation.results import breakdown_to_json
    from pipeline.evaluation.store import find_evaluation, places_of

    named = {
        role: find_evaluation(bench.db, evaluated[key], evaluated["test_set"])
        for role, key in (
            ("base", "base_version"),
            ("serving", "serving_version"),
            ("candidate", "model_version"),
        )
    }
    found = {role: evaluation for role, evaluation in named.items() if evaluation is not None}
    comparison = compare(found["candidate"], found["serving"], bench.settings)
    comparison = with_places(comparison, places_of(bench.db, hashes_in(comparison)))
    if as_json:
        print_json(
            {
                "model_version": evaluated["model_version"],
                "test_set": evaluated["test_set"],
                "queries": evaluated["queries"],
                "corpus": evaluated["corpus"],
                "ranking": found["candidate"].ranking._asdict(),
                "training_set": {
                    "id": training_set["training_set_id"],
                    "counts": training_set["counts"],
                },
                "evaluations": {
                    role: {"model_version": one.model_version, **breakdown_to_json(one)}
                    for role, one in found.items()
                },
                "comparison": comparison.to_json(),
            }
        )
        return
    console = output()
    candidate = bench.model(evaluated["model_version"])
    console.print(f"\nCandidate [bold]{candidate.name}[/bold] {candidate.version[:12]}, {candidate.state}\n")
    console.print(f"Ranked {found['candidate'].ranking.said}", style="dim")
    console.print(report.metrics_table(found, comparison))
    console.print()
    console.print(report.slices_table(found, bench.settings.gate_metric, comparison))
    console.print(f"\n{report.LEGEND}", style="dim")
    console.print()
    console.print(changes_table(comparison, 10))
    console.print(
        "\n`honeloop run` lets the gate decide; `honeloop promote "
        f"{candidate.version[:12]} --reason TEXT` overrules it."
    )
