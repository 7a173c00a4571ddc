"""Migrations of databases in use: forward from each version, back, killed half way, and two at once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from assets_tests.conftest import _create, _drop  # pyright: ignore[reportPrivateUsage]
from assets_tests.store.rows import FILL, everything, fill
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.store import migrations
from pipeline.store.server import database_url

NAMES = list(FILL)
# What a way back drops, as it is made again.
MADE_AGAIN = {
    "0006.words": {"content_words", "word_documents", "word_corpus", "ranking_weights"},
    "0008.training-data": {"commit_histories", "commits", "commit_functions"},
    "0017.recall-queries": {"recall_queries"},
}
REFUSED = {
    "0001.corpus": "refusing to drop 2 registered repositories",
    "0002.models-and-indexes": "refusing to drop the registry of 1 fine-tuned",
    "0003.searches-and-feedback": "refusing to drop 2 searches and 3 pieces of feedback",
    "0004.training-and-evaluation": "refusing to drop the training sets of 1 model",
    "0007.feedback-quality": "refusing to drop the promise to keep 1 people forgotten",
    "0009.evaluation-evidence": "refusing to drop which model the results of 1 interleaved",
    "0014.ranked-as-searches": "refusing to forget how 1 frozen test sets rank",
    "0015.frozen-words": "refusing to forget how rare the words of 1 frozen queries were",
}
# What stands in the way of going back to before it, as the refusal says; then the rest is kept.
CLEARED = {
    "0007.feedback-quality": ["search_day_ranks", "search_days", "forgotten"],
    "0009.evaluation-evidence": ["interleavings", "general_test_sets", "test_sets"],
    "0014.ranked-as-searches": ["general_test_sets", "test_sets"],
    "0015.frozen-words": ["general_test_sets", "test_sets"],
}


@pytest.fixture
def bare(server_settings: Settings) -> Iterator[str]:
    """The URL of a database without a schema."""
    name = f"bare_{uuid4().hex[:12]}"
    _create(server_settings, name, "template0")
    yield database_url(server_settings, name)
    _drop(server_settings, name)


def filled_up_to(url: str, name: str, sql_path: Path) -> None:
    """The schema of that version, with rows that were made by each version's own."""
    for each in NAMES[: NAMES.index(name) + 1]:
        migrations.apply(url, sql_path, only=[each])
        with psycopg.connect(url) as connection:
            fill(connection, [each])


def read(url: str, sql_path: Path) -> dict[str, list[str]]:
    with psycopg.connect(url) as connection:
        return everything(connection, sql_path)


@pytest.mark.parametrize("name", NAMES)
def test_up_down_and_up_again_with_data(bare: str, server_settings: Settings, name: str) -> None:
    """From each version to the newest; then back over that version's own migration, if it does not refuse."""
    path = server_settings.sql_path
    filled_up_to(bare, name, path)
    before = read(bare, path)
    assert all(before.values()), [table for table, rows in before.items() if not rows]
    if name in REFUSED:
        with pytest.raises(BadInputError, match=REFUSED[name]):
            migrations.revert(bare, path, 1)
        assert read(bare, path) == before
    if name in CLEARED:
        with psycopg.connect(bare) as connection:
            for table in CLEARED[name]:
                connection.execute(f"DELETE FROM {table}".encode())
        before = read(bare, path)
    if name not in REFUSED or name in CLEARED:
        assert migrations.revert(bare, path, 1).ran == (name,)
        migrations.apply(bare, path, only=[name])
        after = read(bare, path)
        lost = MADE_AGAIN.get(name, set())
        if name == "0009.evaluation-evidence":
            lost = lost | {"measured_corpora", "measured_texts", "test_set_queries"}  # of test sets that went
            # Who was on which team is known of interleaved searches only, and those refuse.
            before["impressions"] = [row.replace('"candidate"', "null") for row in before["impressions"]]
            # Numbers of verdicts are given anew, in their order.
        assert {t: rows for t, rows in after.items() if t not in lost} == {
            t: rows for t, rows in before.items() if t not in lost
        }
    migrations.apply(bare, path)
    newest = read(bare, path)
    assert len(newest["feedback"]) == len(before.get("feedback", []))
    assert len(newest["content_words"]) == len(newest["contents"]) == 3


def test_of_several_migrations_none_is_reverted_if_one_refuses(bare: str, server_settings: Settings) -> None:
    """0011 and, were it not for its test sets, 0009 could go back; 0008 would come after them."""
    path = server_settings.sql_path
    filled_up_to(bare, "0011.challengers", path)
    before, applied = read(bare, path), migrations.apply(bare, path, only=()).applied
    with pytest.raises(BadInputError, match=r"0009\.evaluation-evidence was not reverted") as caught:
        migrations.revert(bare, path, 3)
    assert caught.value.hint
    assert read(bare, path) == before
    assert migrations.apply(bare, path, only=()).applied == applied


@pytest.mark.parametrize("way", ["apply", "revert"])
def test_a_migration_that_is_killed_is_whole_or_was_never_there(
    bare: str, server_settings: Settings, tmp_path: Path, way: str
) -> None:
    """Killed inside it, and in what yoyo does after it; the lock goes with the process."""
    path = tmp_path / "sql"
    shutil.copytree(server_settings.sql_path, path)
    filled_up_to(bare, "0004.training-and-evaluation", path)
    (path / "0099.slow.sql").write_text(
        "CREATE TABLE slow (x int);\nINSERT INTO slow VALUES (1);\n"
        + ("SELECT pg_sleep(60);" if way == "apply" else "")
    )
    (path / "0099.slow.rollback.sql").write_text("DROP TABLE slow;\nSELECT pg_sleep(60);")
    if way == "revert":
        migrations.apply(bare, path, only=["0099.slow"])
    before = read(bare, path), migrations.apply(bare, path, only=()).applied
    call = "apply(url, path, only=['0099.slow'])" if way == "apply" else "revert(url, path, 1)"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pipeline.store.migrations import apply, revert;"
            f"url, path = sys.argv[1], Path(sys.argv[2]); {call}",
            bare,
            str(path),
        ],
        cwd=PROJECT_ROOT,
    )
    with psycopg.connect(bare, autocommit=True) as watching:
        _wait_for(watching, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        watching.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        )
    # A row in yoyo's table of locks, as one that was killed elsewhere would have left, locks nobody out
    # either.
    with psycopg.connect(bare) as connection:
        connection.execute("INSERT INTO yoyo_lock VALUES (1, now(), 1)")
    (path / "0099.slow.sql").write_text("CREATE TABLE slow (x int);\nINSERT INTO slow VALUES (1);")
    assert (read(bare, path), migrations.apply(bare, path, only=()).applied) == before
    assert "0099.slow" in migrations.apply(bare, path, only=["0099.slow"]).applied


def _wait_for(
    connection: psycopg.Connection[tuple[object, ...]], query: str, process: subprocess.Popen[bytes]
) -> None:
    for _ in range(600):
        if connection.execute(query.encode()).fetchone() != (0,):
            return
        assert process.poll() is None
        threading.Event().wait(0.1)
    raise AssertionError("it did not begin")


def test_two_processes_migrate_at_once(bare: str, server_settings: Settings) -> None:
    ran: list[tuple[str, ...]] = []
    path = server_settings.sql_path
    threads = [
        threading.Thread(target=lambda: ran.append(migrations.apply(bare, path).ran)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran, key=len) == [(), (), (), migrations.names_in(path)]


def test_a_database_of_a_newer_honeloop_is_refused(
    bare: str, server_settings: Settings, tmp_path: Path
) -> None:
    newer = tmp_path / "sql"
    shutil.copytree(server_settings.sql_path, newer)
    (newer / "0099.tomorrow.sql").write_text("CREATE TABLE tomorrow (x int);")
    (newer / "0099.tomorrow.rollback.sql").write_text("DROP TABLE tomorrow;")
    migrations.apply(bare, newer)
    for attempt in (
        lambda: migrations.apply(bare, server_settings.sql_path),
        lambda: migrations.revert(bare, server_settings.sql_path, 1),
    ):
        with pytest.raises(HoneloopError, match=r"newer Honeloop: 0099\.tomorrow is not known here"):
            attempt()
    assert migrations.revert(bare, newer, 1).ran == ("0099.tomorrow",)
    assert migrations.apply(bare, server_settings.sql_path).ran == ()
