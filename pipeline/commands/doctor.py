"""`honeloop doctor`: what a crash left, named and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import Json, output, print_json, settings_in_force, shown_progress
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.doctor.findings import Examination, Outcome
    from pipeline.progress import Progress

# Mending one thing may bring another to light: a database that could not be looked into, say.
ROUNDS = 3


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Examples:\n\n[cyan]honeloop doctor[/cyan]\n\n[cyan]honeloop doctor --repair[/cyan]")(
        doctor
    )


def doctor(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    json: Json = False,
) -> None:
    """Looks for what a crash has left: half-written files, orphan tables, runs without a process, and more.

    Most of it the next run clears away by itself. Without --repair nothing is changed, and what is in use is
    left alone in any case. Exits with 1 if something was found that is not mended.
    """
    settings = settings_in_force()
    with shown_progress(json) as progress:
        outcomes, notes = examined(settings, progress, repair=repair)
    left = [outcome for outcome in outcomes if not outcome.mended]
    if json:
        found = [outcome.to_json() for outcome in outcomes]
        print_json({"sound": not left, "found": found, "notes": notes})
    else:
        _print(outcomes, notes)
    if left:
        can = any(outcome.finding.mend is not None for outcome in left) and not repair
        raise HoneloopError(
            f"{len(left)} of {len(outcomes)} things found are not mended.",
            hint="`honeloop doctor --repair` mends what can be mended."
            if can
            else "See what it says of each.",
        )


def examined(settings: Settings, progress: Progress, *, repair: bool) -> tuple[list[Outcome], list[str]]:
    """What was found and became of it, and the notes of the last look."""
    from pipeline.doctor.findings import Outcome, mended

    examination = _look(settings, progress)
    if not repair:
        return [Outcome(finding, False) for finding in examination.findings], examination.notes
    outcomes: dict[str, Outcome] = {}
    for _ in range(ROUNDS):
        new = [finding for finding in examination.findings if finding.what not in outcomes]
        if not new:
            break
        with progress.stage("Mending", len(new)) as advance:
            for finding in new:
                outcomes[finding.what] = mended(finding)
                advance(1)
        examination = _look(settings, progress)
    # What was mended, and is there again, was not.
    still = {finding.what for finding in examination.findings}
    return [
        Outcome(each.finding, each.mended and what not in still, each.problem)
        for what, each in outcomes.items()
    ], examination.notes


def _look(settings: Settings, progress: Progress) -> Examination:
    from pipeline.doctor.examining import examine
    from pipeline.doctor.findings import Examination

    found = Examination()
    with progress.stage("Looking"):
        db = examine(settings, found, progress)
        if db is not None:
            from pipeline.defs.examining import examine_runs

            examine_runs(settings.model_copy(update={"database_url": db.url}), db, found)
    return found


def _print(outcomes: list[Outcome], notes: list[str]) -> None:
    from rich.markup import escape

    console = output()
    for outcome in outcomes:
        finding = outcome.finding
        mark = "[green]mended[/green]" if outcome.mended else "[red]found [/red]"
        said = " ".join(part for part in (finding.what, outcome.problem, finding.hint) if part)
        console.print(f"{mark}  [bold]{finding.kind}[/bold]  {escape(said)}", soft_wrap=True)
    for note in notes:
        console.print(f"[dim]note    {escape(note)}[/dim]", soft_wrap=True)
    if not outcomes:
        console.print("Nothing was left behind.")
