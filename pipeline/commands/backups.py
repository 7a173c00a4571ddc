"""`honeloop backup` and `restore`: what cannot be made again, in one file, and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import Json, output, print_json, settings_in_force, shown_progress

if TYPE_CHECKING:
    from pipeline.backup.manifest import Manifest
    from pipeline.backup.restoring import RestoreReport
    from pipeline.backup.taking import BackupReport

_WHAT = (
    "In it: searches and what they showed, feedback, registered sources, the registry of models with all "
    "measurements and verdicts, frozen test sets, the training sets that models learned from, the learned "
    "weight of words, the code that any of this refers to, searches that wait to be recorded, and the "
    "checkpoints of the model that serves and of those that may serve next or again.\n\n"
    "Not in it, as it is made again: vectors and indexes, clones, and code that nobody was shown. Dagster's "
    "runs are history and stay behind; how far they had come is in it. Encoders in directories of your own "
    "are named, and are yours to keep."
)
_PEOPLE = (
    "The file holds people's names and queries: only its owner may read it. Whoever is forgotten later "
    "([cyan]honeloop feedback forget[/cyan]) is still in it, and comes back with it: delete the backups from "
    "before, or restore with --forgotten. Whoever was forgotten before stays forgotten."
)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Examples:\n\n[cyan]honeloop backup ~/honeloop.backup[/cyan]\n\n"
        "[cyan]honeloop backup /backups/honeloop-$(date +%F)[/cyan]   every day by cron; exits with 1 if "
        f"something that belongs in it is damaged\n\n{_WHAT}\n\n{_PEOPLE}"
    )(backup)
    app.command(
        epilog="Examples:\n\n[cyan]HONELOOP_HOME=~/new honeloop restore ~/honeloop.backup --index[/cyan]"
        "\n\n"
        "[cyan]honeloop restore ~/honeloop.backup --check[/cyan]   is it whole? changes nothing\n\n"
        "It needs an empty home and an empty database, and names what is there otherwise: nothing is mixed, "
        "nothing overwritten. The whole file is verified first; all of it comes back, or nothing. A"
        " backup of "
        "an older Honeloop is brought up to date, one of a newer is refused.\n\n"
        "Afterwards [cyan]honeloop index[/cyan] reads the sources again, which have to be where they were, "
        f"and embeds them; then the model serves that served before.\n\n{_PEOPLE}"
    )(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the backup goes.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    json: Json = False,
) -> None:
    """Writes everything that cannot be made again to one file, while searches go on."""
    settings = settings_in_force()
    from pipeline.backup.taking import take_backup
    from pipeline.defs.made_last import made_last
    from pipeline.store.connections import open_database

    with shown_progress(json) as progress:
        made = made_last(settings, open_database(settings))
        report = take_backup(settings, file, progress, made_last=made, force=force)
    if json:
        print_json(asdict(report))
    else:
        _say_backup(report)
    report.raise_if_incomplete()


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `honeloop backup` wrote.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only verify the file, and say what is in it.")
    ] = False,
    index: Annotated[
        bool, typer.Option("--index", help="Then run `honeloop index`, so that it serves.")
    ] = False,
    forgotten: Annotated[
        Path | None,
        typer.Option(
            metavar="LATER",
            help="A later backup: whoever was forgotten between the two is forgotten again.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Makes an empty home what the backup is of; `honeloop index` does the rest."""
    settings = settings_in_force()
    from pipeline.backup.forgotten_since import forget_again, forgotten_since
    from pipeline.backup.restoring import check_backup, restore_backup
    from pipeline.defs.in_process import run_loop
    from pipeline.defs.made_last import report_made_last
    from pipeline.store.connections import open_database

    with shown_progress(json) as progress:
        if check:
            manifest = check_backup(file, settings, progress)
            _say_checked(file, manifest, as_json=json)
            return
        promises = None
        if forgotten is not None:
            promises = forgotten_since(forgotten, check_backup(file, settings, progress), progress)
        report = restore_backup(settings, file, progress)
        people = 0 if promises is None else forget_again(open_database(settings), settings, promises)
        said = f"from the backup of {report.created_at:%Y-%m-%d %H:%M} UTC"
        report_made_last(settings, report.made_last, said)
        indexed = run_loop(settings, progress, only_index=True) if index else None
    if json:
        index_version = None if indexed is None else indexed.index.get("index_version")
        print_json(
            {
                **asdict(replace(report, made_last=())),
                "index_version": index_version,
                "forgotten_again": people,
            }
        )
    else:
        _say_restored(report, people, indexed=indexed is not None)
    if indexed is not None:
        indexed.raise_for_failure()


def _say_backup(report: BackupReport) -> None:
    console = output()
    console.print(f"[bold]{report.file}[/bold]: {report.length / 1e6:,.1f} MB", soft_wrap=True)
    _say_rows(report.rows, report.queued, [f"{model.name} ({model.state})" for model in report.models])
    for place in report.elsewhere:
        console.print(f"Not in it, keep it yourself: {place}", markup=False, soft_wrap=True)


def _say_checked(file: Path, manifest: Manifest, *, as_json: bool) -> None:
    rows = {name: table.rows for name, table in manifest.tables.items()}
    if as_json:
        print_json(
            {"file": file, **manifest.model_dump(mode="json", exclude={"members", "tables"}), "rows": rows}
        )
        return
    output().print(
        f"{file} is whole: of {manifest.created_at:%Y-%m-%d %H:%M} UTC, of {manifest.home}, by Honeloop "
        f"{manifest.honeloop}.",
        markup=False,
        soft_wrap=True,
    )
    _say_rows(rows, manifest.queued, [f"{model.name} ({model.state})" for model in manifest.models])


def _say_restored(report: RestoreReport, people: int, *, indexed: bool) -> None:
    console = output()
    console.print(
        f"{report.home} is what it was on {report.created_at:%Y-%m-%d %H:%M} UTC.",
        markup=False,
        soft_wrap=True,
    )
    _say_rows(report.rows, report.queued, [version[:12] for version in report.checkpoints])
    for lacking in report.left_out:
        console.print(f"The backup lacks: {lacking}", markup=False, soft_wrap=True)
    if people:
        console.print(f"Forgotten again: {people}, with all that was theirs.")
    if indexed:
        return
    serves = f"model {report.serving[:12]} serves as before" if report.serving else "the base encoder serves"
    console.print(f"`honeloop index` reads the sources and embeds them; then {serves}.")


def _say_rows(rows: dict[str, int], queued: int, models: list[str]) -> None:
    counted: list[tuple[int, str]] = [
        (rows.get("feedback", 0), "judgements"),
        (rows.get("searches", 0) + queued, "searches"),
        (rows.get("repositories", 0), "sources"),
        (rows.get("model_versions", 0), "model versions"),
        (rows.get("training_sets", 0), "training sets"),
        (rows.get("test_sets", 0), "test sets"),
        (rows.get("contents", 0), "texts that they refer to"),
    ]
    console = output()
    console.print("  ".join(f"{count:,} {what}" for count, what in counted), soft_wrap=True)
    console.print(f"Checkpoints: {', '.join(models) or 'none'}", markup=False, soft_wrap=True)
