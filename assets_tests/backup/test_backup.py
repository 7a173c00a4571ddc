"""What a backup holds comes back, all of it or nothing, and only into an empty home."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from assets_tests.search.test_spool import a_record
from assets_tests.store.rows import FILL, SEARCH, Everything, everything, fill
from pipeline.backup.forgotten_since import forget_again, forgotten_since
from pipeline.backup.manifest import ABOUT, FORMAT, MADE_LAST, OPENING, QUEUE, Manifest, Table, table_member
from pipeline.backup.restoring import check_backup, restore_backup
from pipeline.backup.taking import BackupReport, take_backup
from pipeline.backup.writing import Writer, writing
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.forgetting import forget_user
from pipeline.progress import Silent
from pipeline.search.spool import SearchSpool, queue_path
from pipeline.store import migrations
from pipeline.store.connections import Database, open_database
from pipeline.store.migrations import applied_in

# What is not kept, or not as it was.
MADE_AGAIN = {"embedding_tables", "recall_queries", "word_documents", "word_corpus"}
NOT_AS_IT_WAS = {"repositories", "files", "index_versions", "model_versions"}


def backed_up(settings: Settings, file: Path) -> BackupReport:
    return take_backup(settings, file, Silent())


def rows(db: Database, settings: Settings) -> Everything:
    with psycopg.connect(db.url) as connection:
        return everything(connection, settings.sql_path)


def schema(settings: Settings) -> list[Any]:
    with psycopg.connect(str(settings.database_url)) as connection:
        return connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated"
            " FROM pg_constraint WHERE conrelid::regclass::text = ANY(%s) ORDER BY 1, 2",
            [list(migrations.tables_in(settings.sql_path))],
        ).fetchall()


def test_every_row_comes_back(full: Database, settings: Settings, empty: Settings, tmp_path: Path) -> None:
    report = backed_up(settings, tmp_path / "b")
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    # The checkpoint of these rows is nowhere: all else is written, and that is said.
    (lacking,) = report.left_out
    assert "/home/checkpoints/bbb" in lacking
    with pytest.raises(HoneloopError, match="lacks what was damaged"):
        report.raise_if_incomplete()
    restored = restore_backup(empty, tmp_path / "b", Silent())
    assert restored.serving == "b" * 64
    before, after = rows(full, settings), rows(Database(str(empty.database_url)), settings)
    learned = ("training_sets", "training_pairs", "training_negatives")
    for name in before.keys() - MADE_AGAIN - NOT_AS_IT_WAS - set(learned):
        assert after[name] == before[name], name
    for name in learned:  # the first set is neither the newest nor did a model learn from it
        (kept,) = after[name]
        assert kept in before[name]
        assert len(before[name]) == 2
    assert not any(after[name] for name in MADE_AGAIN)
    assert {json.loads(row)["state"] for row in after["index_versions"]} == {"dropped", "failed"}
    assert all(json.loads(row)["extracted_at"] is None for row in after["repositories"])
    # Files whose code is kept are known, by no bytes, so that they are read again or found to be gone.
    assert [(json.loads(r)["path"], json.loads(r)["blob_hash"]) for r in after["files"]] == [
        ("a/rêad.py", ""),
        ("gone.py", ""),
    ]
    assert schema(empty) == schema(settings)
    with open_database(empty).connect() as connection:
        # Number 4 was given and taken back: whoever learned up to it has not learned from what comes next.
        add_feedback(Database(str(empty.database_url)), SEARCH, 3, "accept", user="cy")
        assert connection.execute("SELECT max(id) FROM feedback").fetchone() == (5,)


def test_code_that_nobody_was_shown_is_left_out(full: Database, settings: Settings, tmp_path: Path) -> None:
    with full.connect() as connection:
        connection.execute("INSERT INTO contents (content_hash, text) VALUES (sha256('new'), 'new')")
        connection.execute(
            "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
            " end_line, content_hash)"
            " VALUES (1, 'new.py', 'new', 'function', 'python', 'x', 'new', 1, 1, sha256('new'))"
        )
    report = backed_up(settings, tmp_path / "b")
    assert (report.rows["snippets"], report.rows["contents"], report.rows["files"]) == (3, 3, 2)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage_byte(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        offset = file.getinfo("tables/contents.copy").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], *, sealed: bool) -> None:
    """The same file with members changed, as somebody with a ZIP program would."""
    with zipfile.ZipFile(path) as old:
        comment, members = old.comment, {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            if (changed := change(name, content)) is not None:
                new.writestr(name, changed)
        new.comment = comment if sealed else b""


def damage_member(path: Path) -> None:
    rewritten(path, lambda n, c: c.replace(b"accept", b"reject") if "feedback" in n else c, sealed=True)


def damage_manifest(path: Path) -> None:
    rewritten(
        path,
        lambda n, c: c.replace(b'"queued": 0', b'"queued": 1') if n == "manifest.json" else c,
        sealed=True,
    )


def damage_removed(path: Path) -> None:
    rewritten(path, lambda n, c: None if n == "tables/feedback.copy" else c, sealed=True)


def damage_wrong(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 no backup at all")


def damage_other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("holiday.txt", "sun")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_cut, "cut off or damaged"),
        (damage_byte, r"tables/contents\.copy"),
        (damage_member, r"tables/feedback\.copy is not what it was"),
        (damage_manifest, "manifest of .* was edited"),
        (damage_removed, r"does not hold what its manifest lists: tables/feedback\.copy"),
        (damage_wrong, "is no backup of Honeloop"),
        (damage_other_zip, "is no backup of Honeloop"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_changes_nothing(
    full: Database,
    settings: Settings,
    *,
    empty: Settings,
    tmp_path: Path,
    damage: Callable[[Path], None],
    says: str,
) -> None:
    file = tmp_path / "the backup"
    backed_up(settings, file)
    damage(file)
    for attempt in (
        lambda: restore_backup(empty, file, Silent()),
        lambda: check_backup(file, empty, Silent()),
    ):
        with pytest.raises(BadInputError, match=says) as caught:
            attempt()
        assert str(file) in caught.value.message
    assert not empty.home.exists()
    with psycopg.connect(str(empty.database_url)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


def test_what_the_database_refuses_changes_nothing(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    """A backup that was edited with care, hashes and all, and whose feedback is about nothing."""
    file = tmp_path / "b"
    backed_up(settings, file)
    with zipfile.ZipFile(file) as old:
        manifest = Manifest.model_validate_json(old.read("manifest.json"))
        members = {name: old.read(name) for name in old.namelist() if name not in ("manifest.json", OPENING)}
    members["tables/impressions.copy"] = b""
    manifest.tables["impressions"].rows = 0
    with writing(file, force=True) as writer:
        for name, content in members.items():
            writer.add(name, content)
        writer.seal(manifest)
    with pytest.raises(BadInputError, match='"feedback" violates foreign key'):
        restore_backup(empty, file, Silent())
    with open_database(empty).connect() as connection:
        assert connection.execute("SELECT count(*) FROM searches").fetchone() == (0,)


def test_it_is_restored_into_an_empty_home_only(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    backed_up(settings, tmp_path / "b")
    before = rows(full, settings)
    with pytest.raises(
        BadInputError, match="database is not empty: it has 3 feedback, 2 model versions, 2 repositories"
    ):
        restore_backup(settings, tmp_path / "b", Silent())
    assert rows(full, settings) == before
    with SearchSpool(empty, Database("postgresql://nobody@127.0.0.1:1/nothing")) as spool:
        assert spool.record(a_record())
    with pytest.raises(BadInputError, match="searches wait in its queue"):
        restore_backup(empty, tmp_path / "b", Silent())
    queue_path(empty).unlink()
    (empty.checkpoints_path / ("c" * 64)).mkdir(parents=True)
    with pytest.raises(BadInputError, match="it has the checkpoint cccccccccccc"):
        restore_backup(empty, tmp_path / "b", Silent())


def test_a_file_that_is_there_is_kept_unless_forced(
    full: Database, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "b"
    file.write_text("mine")
    with pytest.raises(BadInputError, match="is there already"):
        backed_up(settings, file)
    assert file.read_text() == "mine"
    take_backup(settings, file, Silent(), force=True)
    assert check_backup(file, settings, Silent()).tables["feedback"].rows == 3
    for wrong, says in ((tmp_path, "is a directory"), (tmp_path / "no" / "b", "There is no directory")):
        with pytest.raises(BadInputError, match=says):
            backed_up(settings, wrong)
    assert [path.name for path in tmp_path.glob(".*.unfinished")] == []


def test_a_disk_that_is_full_leaves_nothing(full: Database, settings: Settings, tmp_path: Path) -> None:
    """In a process that may write files of 5,000 bytes; the file that was there stays."""
    (tmp_path / "b").write_text("the one before")
    code = (
        "import resource, signal, sys; from pathlib import Path; from pipeline.config import load_settings;"
        "from pipeline.backup.taking import take_backup; from pipeline.progress import Silent;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
        "take_backup(load_settings(), Path(sys.argv[1]), Silent(), force=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b")],
        cwd=PROJECT_ROOT,
        env={"HONELOOP_HOME": str(settings.home), "HONELOOP_DATABASE_URL": str(settings.database_url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"The backup could not be written to {tmp_path / 'b'}: File too large" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir() if path.is_file()] == ["the one before"]


def test_nothing_that_was_acknowledged_is_missing(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    """Searches go on being recorded while backups are taken, and a service carries them to the database."""
    acknowledged: list[str] = []
    promised: set[str] = set()
    stop = threading.Event()
    with SearchSpool(settings, full) as spool:

        def search() -> None:
            while not stop.is_set():
                record = a_record(shown=[1, 3])
                if spool.record(record):
                    acknowledged.append(record.search_id)

        thread = threading.Thread(target=search)
        thread.start()
        try:
            for number in range(3):
                deadline = time.monotonic() + 60
                while len(acknowledged) < 20 * (number + 1):
                    assert time.monotonic() < deadline, "no search is recorded"
                    time.sleep(0.01)
                seen = len(acknowledged)
                backed_up(settings, tmp_path / str(number))
                promised = set(acknowledged[:seen])
                assert promised <= in_backup(tmp_path / str(number))
        finally:
            stop.set()
            thread.join()
    restored = restore_backup(empty, tmp_path / "2", Silent())
    with SearchSpool(empty, Database(str(empty.database_url))) as spool:
        assert spool.flush()
    with open_database(empty).connect() as connection:
        found = {str(row[0]) for row in connection.execute("SELECT id FROM searches WHERE user_name = 'ada'")}
        shown = connection.execute("SELECT count(*) FROM impressions").fetchone()
    assert promised <= found
    assert shown == (2 * len(found) + 3,)
    assert restored.queued <= len(acknowledged)


def in_backup(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        waiting = {json.loads(line)["search_id"] for line in file.read(QUEUE).splitlines()}
        stored = {line.split("\t")[0] for line in file.read("tables/searches.copy").decode().splitlines()}
    return waiting | stored


@pytest.mark.parametrize("last", ["0003.searches-and-feedback", "0008.training-data"])
def test_a_backup_of_an_older_honeloop_is_brought_up_to_date(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path, last: str
) -> None:
    """Written as that one would have: its tables, its columns, its migrations."""
    path, names = settings.sql_path, [name for name in FILL if name <= last]
    source = str(empty.database_url)
    for name in names:
        migrations.apply(source, path, only=[name])
        with psycopg.connect(source) as connection:
            fill(connection, [name])
    with psycopg.connect(source) as connection:
        before = everything(connection, path)
        old_backup(connection, tmp_path / "old", names, before)
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    report = restore_backup(empty, tmp_path / "old", Silent())
    assert report.migrated == tuple(name for name in migrations.names_in(path) if name > last)
    with psycopg.connect(source) as connection:
        after = everything(connection, path)
        assert applied_in(connection) == migrations.names_in(path)
    assert after["feedback"] == before["feedback"]
    shown = [json.loads(row) for row in before["impressions"]]
    assert [json.loads(row) for row in after["impressions"]] == [row | {"team": None} for row in shown]
    assert len(after["content_words"]) == 3
    assert len(after["searches"]) == len(before["searches"]) == 2


def old_backup(connection: psycopg.Connection[Any], path: Path, names: list[str], there: Everything) -> None:
    kept = [name for name in there if name not in {*MADE_AGAIN, "content_words"}]
    found: dict[str, Table] = {}
    with writing(path, force=False) as writer:
        for name in kept:
            row = connection.execute(
                "SELECT array_agg(column_name::text ORDER BY ordinal_position) FROM"
                " information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = %s",
                [name],
            ).fetchone()
            assert row is not None
            found[name] = Table(columns=row[0], rows=len(there[name]))
            copy_out(connection, writer, name)
        writer.add(QUEUE, b"")
        writer.add(MADE_LAST, b"[]")
        created = connection.execute("SELECT now()").fetchone()
        assert created is not None
        writer.seal(
            Manifest(
                format=FORMAT,
                honeloop="0.0.1",
                created_at=created[0],
                home="/old",
                checkpoints="/old/checkpoints",
                postgres="15",
                pgvector="0.8.4",
                migrations=names,
                tables=found,
                sequences={"feedback.id": 4},
                queued=0,
                models=[],
                left_out=[],
            )
        )


def copy_out(connection: psycopg.Connection[Any], writer: Writer, name: str) -> None:
    statement = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(name))
    if name == "index_versions":  # as a backup has them
        statement = sql.SQL(
            "COPY (SELECT id, model_version, NULL, 'dropped', dims, row_count, recall_at_10,"
            " recall_sample, build_seconds, parameters, previous_id, created_at, served_from, served_until"
            " FROM index_versions) TO STDOUT"
        )
    with (
        writer.member(table_member(name)) as pieces,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for block in copy:
            pieces.write(block)


def test_a_backup_of_a_newer_honeloop_is_refused(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    with full.connect() as connection:
        connection.execute("INSERT INTO _yoyo_migration VALUES ('x', '0099.tomorrow', now())")
        names = [*applied_in(connection)]
        old_backup(connection, tmp_path / "new", names, everything(connection, settings.sql_path))
    with pytest.raises(BadInputError, match=r"newer Honeloop, 0\.0\.1: 0099\.tomorrow is not known here"):
        restore_backup(empty, tmp_path / "new", Silent())
    assert not empty.home.exists()


def test_whoever_was_forgotten_since_is_forgotten_again(
    full: Database, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    backed_up(settings, tmp_path / "before")
    forget_user(full, settings, "ann")
    backed_up(settings, tmp_path / "after")
    before = check_backup(tmp_path / "before", empty, Silent())
    promises = forgotten_since(tmp_path / "after", before, Silent())
    restore_backup(empty, tmp_path / "before", Silent())
    db = open_database(empty)
    names = "SELECT user_name FROM searches UNION SELECT user_name FROM feedback"
    with db.connect() as connection:
        assert ("ann",) in connection.execute(names).fetchall()
    assert forget_again(db, empty, promises) == 1
    with db.connect() as connection:
        assert ("ann",) not in connection.execute(names).fetchall()
    after = check_backup(tmp_path / "after", empty, Silent())
    with pytest.raises(BadInputError, match="is not later"):
        forgotten_since(tmp_path / "before", after, Silent())


def test_what_unzip_shows_says_what_it_is(full: Database, settings: Settings, tmp_path: Path) -> None:
    backed_up(settings, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b") as file:
        assert file.namelist()[0] == OPENING
        assert file.read(OPENING) == ABOUT
        assert all(
            re.fullmatch(r"[\w./-]+\.(txt|jsonl?|copy|safetensors|png)", name) for name in file.namelist()
        )
