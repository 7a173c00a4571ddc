"""Restoring a backup into an empty home: all of it, or nothing.

The file is verified first. The schema is made what it was when the backup was taken, the rows come in one
transaction, and then the schema is brought up to date, so a backup may be of an older Honeloop.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from pipeline.backup import tables
from pipeline.backup.emptiness import require_empty_home, require_empty_tables, require_no_runs
from pipeline.backup.manifest import MADE_LAST, QUEUE, Manifest, checkpoint_prefix, table_member
from pipeline.backup.queue import fill_queue
from pipeline.backup.reading import Backup, reading
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.progress import Progress
from pipeline.search.spool import queue_path
from pipeline.store import migrations
from pipeline.store.connections import Connection, Database, create_database
from pipeline.store.server import DATABASE, database_url
from pipeline.training.checkpoints import take_in_checkpoint

_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND conrelid::regclass::text = ANY(%s)
ORDER BY conrelid::regclass::text, conname
"""


@dataclass(frozen=True)
class RestoreReport:
    """What came back.

    Attributes:
        file: From where.
        created_at: The moment that the backup is of.
        home: Into which home.
        rows: By table.
        queued: Searches that wait in the queue.
        checkpoints: Model versions whose checkpoints came back.
        serving: The model version that will serve once it is indexed; None if none did.
        left_out: What the backup should have had and had not.
        migrated: Migrations that were applied afterwards, to a backup of an older Honeloop.
        made_last: What Dagster had made last, for `defs.made_last`.
    """

    file: Path
    created_at: datetime
    home: Path
    rows: dict[str, int]
    queued: int
    checkpoints: tuple[str, ...]
    serving: str | None
    left_out: tuple[str, ...]
    migrated: tuple[str, ...]
    made_last: tuple[dict[str, Any], ...]


def check_backup(file: Path, settings: Settings, progress: Progress) -> Manifest:
    """Reads all of a backup and gives what it holds; changes nothing.

    Raises:
        BadInputError: it is none, damaged, edited, or of a newer Honeloop.
    """
    with reading(file.expanduser()) as backup:
        _require_known(backup, settings)
        backup.verify(progress)
        return backup.manifest


def restore_backup(settings: Settings, file: Path, progress: Progress) -> RestoreReport:
    """Makes an empty home what the backup is of, but for what `honeloop index` makes again.

    Args:
        settings: Say which home and which database.
        file: What `take_backup` wrote.
        progress: Told of every table and checkpoint.

    Raises:
        BadInputError: the file is no backup, damaged, edited, or of a newer Honeloop; or the home or its
            database is not empty. Nothing was changed then.
        HoneloopError: the disk is full, or the database cannot be reached.
    """
    with reading(file.expanduser()) as backup, ExitStack() as undo:
        _require_known(backup, settings)
        backup.verify(progress)
        manifest = backup.manifest
        require_empty_home(settings, {model.version for model in manifest.models})
        db = _opened(settings)
        with psycopg.connect(db.url) as connection:  # there may be no schema yet
            require_empty_tables(connection, settings.sql_path)
            require_no_runs(connection, settings)
        _make_schema(db, settings, manifest)
        for model in manifest.models:
            _restore_checkpoint(backup, model.version, settings, (progress, undo))
        with db.connect() as connection:
            serving = _restore_tables(connection, backup, settings, progress)
            _restore_queue(backup, settings, undo)
        undo.pop_all()  # it is all there
        migrated = migrations.apply(db.url, settings.sql_path).ran
        with db.connect() as connection:
            connection.execute("ANALYZE")
        return RestoreReport(
            backup.path,
            manifest.created_at,
            settings.home_path,
            {name: table.rows for name, table in manifest.tables.items()},
            manifest.queued,
            tuple(model.version for model in manifest.models),
            serving,
            tuple(manifest.left_out),
            migrated,
            tuple(json.loads(backup.content(MADE_LAST))),
        )


def _require_known(backup: Backup, settings: Settings) -> None:
    unknown = sorted(set(backup.manifest.migrations) - set(migrations.names_in(settings.sql_path)))
    if unknown:
        raise BadInputError(
            f"{backup.path} was written by a newer Honeloop, {backup.manifest.honeloop}: {', '.join(unknown)}"
            " is not known here.",
            hint="Restore it with that Honeloop, or a newer one.",
        )


def _opened(settings: Settings) -> Database:
    url = database_url(settings)
    if settings.database_url is None:
        create_database(settings, DATABASE)
    return Database(url)


def _make_schema(db: Database, settings: Settings, manifest: Manifest) -> None:
    """The schema that the rows are of, in a database without any: the migrations then in force, no others."""
    applied = migrations.apply(db.url, settings.sql_path, only=()).applied
    if not set(applied) <= set(manifest.migrations):
        migrations.revert(db.url, settings.sql_path, len(applied))
    migrations.apply(db.url, settings.sql_path, only=manifest.migrations)


def _restore_checkpoint(
    backup: Backup, version: str, settings: Settings, told: tuple[Progress, ExitStack]
) -> None:
    progress, undo = told
    prefix = checkpoint_prefix(version)
    target = settings.checkpoints_path / version
    if not target.exists():  # one that is there is the same, of a restore that was killed
        undo.callback(shutil.rmtree, target, ignore_errors=True)

    def copy_to(directory: Path) -> None:
        for name in backup.under(prefix):
            path = directory / name.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sink:
                for piece in backup.pieces(name):
                    sink.write(piece)

    with progress.stage(f"Restoring the checkpoint of {version[:12]}"):
        take_in_checkpoint(version, settings.checkpoints_path, copy_to)


def _restore_queue(backup: Backup, settings: Settings, undo: ExitStack) -> None:
    if not backup.manifest.queued:
        return
    path = queue_path(settings)
    for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        undo.callback(each.unlink, missing_ok=True)
    fill_queue(settings, (json.loads(line) for line in _lines(backup, QUEUE)))


def _lines(backup: Backup, name: str) -> Iterator[bytes]:
    rest = b""
    for piece in backup.pieces(name):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _restore_tables(
    connection: Connection, backup: Backup, settings: Settings, progress: Progress
) -> str | None:
    """All rows, in the connection's transaction; returns the model version that served."""
    manifest = backup.manifest
    there = tables.kept_tables(connection, settings.sql_path)
    for name, table in manifest.tables.items():
        if set(table.columns) != set(there.get(name, ())):
            raise BadInputError(
                f"{backup.path} has a table {name} that its schema has not.",
                hint="It was edited, or written by a Honeloop that was changed; nothing was restored.",
            )
    connection.execute(
        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
            sql.SQL(", ").join(map(sql.Identifier, there))
        )
    )
    require_empty_tables(connection, settings.sql_path)
    tables.as_written_everywhere(connection)
    put_back = _without_foreign_keys(connection, list(there))
    try:
        for name, table in manifest.tables.items():
            rows = _restore_table(connection, backup, (name, table.columns), progress)
            if rows != table.rows:
                raise BadInputError(
                    f"{backup.path} has {rows} rows of {name}, and its manifest says {table.rows}.",
                    hint="It was edited; nothing was restored.",
                )
        _move_checkpoints(connection, manifest, settings)
        _set_sequences(connection, manifest, list(there))
        with progress.stage("Checking what refers to what"):
            put_back()
    except psycopg.Error as error:
        raise BadInputError(
            f"The database refuses what is in {backup.path}: {error.diag.message_primary or error}.",
            hint="It was edited, or written by a Honeloop that was changed; nothing was restored.",
        ) from error
    row = connection.execute("SELECT version FROM model_versions WHERE state = 'serving'").fetchone()
    return None if row is None else str(row[0])


def _without_foreign_keys(connection: Connection, there: list[str]) -> Callable[[], None]:
    """Takes the foreign keys away, as tables refer to each other in circles; what is returned puts them
    back.
    """
    keys = connection.execute(_FOREIGN_KEYS, [there]).fetchall()
    for table, name, _ in keys:
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(name))
        )

    def put_back() -> None:
        for table, name, definition in keys:
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    sql.Identifier(table),
                    sql.Identifier(name),
                    sql.SQL(cast("LiteralString", definition)),  # the server's own words
                )
            )

    return put_back


def _restore_table(
    connection: Connection, backup: Backup, table: tuple[str, list[str]], progress: Progress
) -> int:
    name, columns = table
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    rows = 0
    with (
        progress.stage(f"Restoring {name}", backup.manifest.tables[name].rows) as advance,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for piece in backup.pieces(table_member(name)):
            copy.write(piece)
            count = piece.count(b"\n")
            rows += count
            advance(count)
    return rows


def _move_checkpoints(connection: Connection, manifest: Manifest, settings: Settings) -> None:
    """Checkpoints lie in the new home now; those that are not in the backup would lie there, too."""
    versions = [model.version for model in manifest.models]
    connection.execute(
        "UPDATE model_versions SET location = %(new)s || '/' || version"
        " WHERE version = ANY(%(versions)s) OR location = %(old)s || '/' || version",
        {
            "new": str(settings.checkpoints_path.resolve()),
            "old": manifest.checkpoints,
            "versions": versions,
        },
    )


def _set_sequences(connection: Connection, manifest: Manifest, there: list[str]) -> None:
    for identity in tables.identities(connection, there):
        if (last := manifest.sequences.get(identity.name)) is not None:
            connection.execute("SELECT setval(%s::regclass, %s)", [identity.sequence, last])
