"""Taking a backup: one moment of the database, of the queue and of the checkpoints, while searches go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as version_of_package
from pathlib import Path
from typing import Any

from psycopg import IsolationLevel, sql

from pipeline.backup import tables
from pipeline.backup.manifest import (
    CHUNK,
    FORMAT,
    MADE_LAST,
    QUEUE,
    Manifest,
    Model,
    Table,
    checkpoint_prefix,
    table_member,
)
from pipeline.backup.queue import QueuedSearches, queue_at
from pipeline.backup.tables import Referred
from pipeline.backup.writing import Writer, writing
from pipeline.config import Settings
from pipeline.encoders.manifest import check_files, is_checkpoint, read_manifest
from pipeline.errors import HoneloopError
from pipeline.progress import Progress
from pipeline.store.connections import Connection, open_database
from pipeline.store.migrations import applied_in

# What serves or may serve again: on its own, by the gate, by a rollback, or as what searches are compared
# with.
WANTED = """
SELECT version, name, state, location, base_version IS NOT NULL FROM model_versions
WHERE state IN ('serving', 'approved')
    OR version IN (SELECT model_version FROM index_versions WHERE state IN ('ready', 'serving', 'retired'))
    OR version IN (SELECT model_version FROM challengers WHERE until IS NULL)
    OR version = (SELECT m.version FROM model_versions m JOIN model_events e ON e.version = m.version
        WHERE m.state = 'candidate' ORDER BY e.id DESC LIMIT 1)
ORDER BY created_at, version
"""


@dataclass(frozen=True)
class BackupReport:
    """What is in a backup.

    Attributes:
        file: Where it is.
        length: Its length in bytes.
        created_at: The moment that it is of.
        rows: By table.
        queued: Searches that waited in the queue.
        models: Whose checkpoints are in it.
        elsewhere: Models that are no checkpoints and lie in directories of their own, which are not in it.
        left_out: What should be in it and is not, a sentence each.
    """

    file: Path
    length: int
    created_at: datetime
    rows: dict[str, int]
    queued: int
    models: tuple[Model, ...]
    elsewhere: tuple[str, ...]
    left_out: tuple[str, ...]

    def raise_if_incomplete(self) -> None:
        """Raises HoneloopError if something is not in it that should be."""
        if self.left_out:
            raise HoneloopError(
                f"{self.file} was written, and lacks what was damaged: {' '.join(self.left_out)}",
                hint="All else is in it. Put the files back from an earlier backup, or train again.",
            )


@dataclass(frozen=True)
class _Wanted:
    version: str
    name: str
    state: str
    path: Path
    fine_tuned: bool


def take_backup(
    settings: Settings,
    file: Path,
    progress: Progress,
    *,
    made_last: Sequence[Mapping[str, Any]] = (),
    force: bool = False,
) -> BackupReport:
    """Writes everything that cannot be made again to `file`, whole or not at all.

    Nobody waits for it but migrations. What serves goes on serving, and what is recorded meanwhile is for the
    next backup.

    Args:
        settings: Say which home and which database.
        file: Where it goes; readable by its owner only.
        progress: Told of every table and checkpoint.
        made_last: What Dagster had made last (`defs.made_last`), read before this is called.
        force: Replace a file that is there.

    Raises:
        BadInputError: the file is there already, or there can be none.
        HoneloopError: the disk is full, or the queue cannot be read.
    """
    file = file.expanduser().absolute()
    db = open_database(settings)
    with db.connect() as connection:
        kept = tables.kept_tables(connection, settings.sql_path)
    with writing(file, force=force) as writer, db.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        # No migration changes them from here on. This comes before the moment that is seen.
        connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(
                sql.SQL(", ").join(map(sql.Identifier, kept))
            )
        )
        with queue_at(settings, lambda: _begin(connection)) as queue:
            queued = _write_queue(writer, queue)
            shown = queue.snippets()
        sets = [int(each["metadata"]["training_set_id"]) for each in made_last if _names_a_set(each)]
        tables.as_written_everywhere(connection)
        rows = {
            name: _write_table(connection, writer, (name, columns), Referred(shown, sets), progress)
            for name, columns in kept.items()
        }
        models, elsewhere, left_out = _write_checkpoints(connection, writer, progress)
        writer.add(MADE_LAST, json.dumps(list(made_last)).encode())
        manifest = _manifest(settings, connection).model_copy(
            update={
                "tables": {name: Table(columns=list(kept[name]), rows=count) for name, count in rows.items()},
                "sequences": _sequences(connection, list(kept)),
                "queued": queued,
                "models": models,
                "left_out": left_out,
            }
        )
        writer.seal(manifest)
    return BackupReport(
        file,
        file.stat().st_size,
        manifest.created_at,
        rows,
        queued,
        tuple(models),
        tuple(elsewhere),
        tuple(left_out),
    )


def _begin(connection: Connection) -> None:
    """From here on the connection sees the database as it is now."""
    connection.execute("SELECT now()")


def _names_a_set(made: Mapping[str, Any]) -> bool:
    return "training_set_id" in made["metadata"]


def _write_queue(writer: Writer, queue: QueuedSearches) -> int:
    count = 0
    with writer.member(QUEUE) as pieces:
        for line in queue.lines():
            pieces.write(json.dumps(line).encode() + b"\n")
            count += 1
    return count


def _write_table(
    connection: Connection,
    writer: Writer,
    table: tuple[str, Sequence[str]],
    referred: Referred,
    progress: Progress,
) -> int:
    name, columns = table
    statement = sql.SQL("COPY ({}) TO STDOUT").format(tables.rows_of(name, columns, referred))
    rows = 0
    with (
        progress.stage(f"Writing {name}") as advance,
        writer.member(table_member(name)) as pieces,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for block in copy:
            pieces.write(block)
            count = bytes(block).count(b"\n")  # line breaks in values are escaped
            rows += count
            advance(count)
    return rows


def _write_checkpoints(
    connection: Connection, writer: Writer, progress: Progress
) -> tuple[list[Model], list[str], list[str]]:
    models: list[Model] = []
    elsewhere: list[str] = []
    left_out: list[str] = []
    for row in connection.execute(WANTED).fetchall():
        wanted = _Wanted(row[0], row[1], row[2], Path(row[3]), row[4])
        if not wanted.path.is_absolute():
            continue  # a preset, or one of the hub: where it is from has it
        if not wanted.fine_tuned and not is_checkpoint(wanted.path):
            elsewhere.append(f"{wanted.name}: {wanted.path}")
            continue
        try:
            _require_whole(wanted)
        except HoneloopError as error:
            left_out.append(error.message)
            continue
        _write_checkpoint(writer, wanted, progress)
        models.append(Model(version=wanted.version, name=wanted.name, state=wanted.state))
    return models, elsewhere, left_out


def _require_whole(wanted: _Wanted) -> None:
    manifest = read_manifest(wanted.path)
    check_files(wanted.path, manifest)
    if manifest.version != wanted.version:
        raise HoneloopError(f"{wanted.path} holds {manifest.version[:12]}, not {wanted.version[:12]}.")


def _write_checkpoint(writer: Writer, wanted: _Wanted, progress: Progress) -> None:
    files = sorted(path for path in wanted.path.rglob("*") if path.is_file() and not path.is_symlink())
    total = sum(path.stat().st_size for path in files) // CHUNK
    with progress.stage(f"Writing the checkpoint of {wanted.name} (MB)", total) as advance:
        for path in files:
            name = checkpoint_prefix(wanted.version) + path.relative_to(wanted.path).as_posix()
            compressed = path.suffix != ".safetensors"  # weights are as good as random
            with writer.member(name, compressed=compressed) as pieces, path.open("rb") as source:
                while piece := source.read(CHUNK):
                    pieces.write(piece)
                    advance(len(piece) // CHUNK)


def _sequences(connection: Connection, kept: Sequence[str]) -> dict[str, int]:
    """The last number that each gave: one that was given and whose row is gone is never given again."""
    found: dict[str, int] = {}
    for identity in tables.identities(connection, kept):
        row = connection.execute(
            "SELECT pg_sequence_last_value(%s::regclass)", [identity.sequence]
        ).fetchone()
        if row is not None and row[0] is not None:
            found[identity.name] = row[0]
    return found


def _manifest(settings: Settings, connection: Connection) -> Manifest:
    row = connection.execute(
        "SELECT now(), current_setting('server_version'),"
        " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
    ).fetchone()
    assert row is not None  # no FROM: always one row
    created_at, postgres, pgvector = row
    return Manifest(
        format=FORMAT,
        honeloop=version_of_package("honeloop"),
        created_at=created_at,
        home=str(settings.home_path),
        checkpoints=str(settings.checkpoints_path.resolve()),
        postgres=postgres,
        pgvector=pgvector,
        migrations=list(applied_in(connection)),
        tables={},
        sequences={},
        queued=0,
        models=[],
        left_out=[],
    )
