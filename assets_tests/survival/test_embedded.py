"""The embedded Postgres after a crash: of it, of who used it, of the one that was making it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from assets_tests.survival.homes import Home, kill_all, kill_server, temporary_directory, wait_until
from pipeline.commands.doctor import examined
from pipeline.progress import Silent
from pipeline.store import server_leftovers
from pipeline.store.server import database_url

USING = """
import sys, time
from pathlib import Path
from pipeline.config import Settings
from pipeline.store.server import database_url
database_url(Settings(home=Path(sys.argv[1])), "template1")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def home() -> Iterator[Home]:
    with temporary_directory() as path:
        home = Home(path / "home")
        yield home
        home.leave()
        kill_all(home.processes())


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def using(home: Home) -> subprocess.Popen[str]:
    """A process that uses the home's server, and starts it if need be."""
    process = subprocess.Popen(
        [sys.executable, "-c", USING, str(home.path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kinds(home: Home, *, repair: bool = False) -> list[str]:
    outcomes, _ = examined(home.settings, Silent(), repair=repair)
    assert all(outcome.mended == repair for outcome in outcomes)
    return [outcome.finding.kind for outcome in outcomes]


def test_a_server_whose_user_was_killed_is_named_and_stopped(home: Home) -> None:
    with using(home) as process:
        process.kill()
    server = server_leftovers.running_postmaster(home.data)
    assert server is not None
    assert "leftover server" in kinds(home)
    assert (
        server_leftovers.running_postmaster(home.data) == server
    )  # looking stops nothing, and keeps nothing going
    assert "leftover server" in kinds(home, repair=True)
    home.leave()
    assert wait_until(lambda: not psutil.pid_exists(server), 30)
    # Without the doctor: the next that uses it is the last to, and stops it.
    for _ in range(2):
        with using(home) as process:
            process.kill()
    database_url(home.settings)
    home.leave()
    assert server_leftovers.running_postmaster(home.data) is None


def test_a_killed_server_recovers_though_its_lock_file_names_somebody_else(home: Home) -> None:
    url = database_url(home.settings, "template1")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    kill_server(home)
    lock = home.data / server_leftovers.LOCK_FILE
    # As after a restart of the machine: the number is that of a process that lives, and is no server.
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().split("\n")[1:]]))
    assert kinds(home) == ["stale lock file"]
    with psycopg.connect(database_url(home.settings, "template1")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]
    # And one that was killed while it wrote the file.
    kill_server(home)
    lock.write_text(lock.read_text()[:30])
    with psycopg.connect(database_url(home.settings, "template1")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]


def test_a_killed_postmaster_alone_is_waited_for(home: Home) -> None:
    """Its other processes are still at work in the data directory when the next start comes."""
    url = database_url(home.settings, "template1")
    busy = psycopg.connect(url, autocommit=True)
    postmaster = server_leftovers.running_postmaster(home.data)
    assert postmaster is not None
    busy.execute("SET client_min_messages = error")
    with pytest.raises(psycopg.OperationalError):
        os.kill(postmaster, signal.SIGKILL)
        busy.execute("SELECT count(*) FROM generate_series(1, 1000000) AS a(i)")
        busy.execute("SELECT 1")
        busy.execute("SELECT pg_sleep(5)")
    with psycopg.connect(database_url(home.settings, "template1")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_killed_initdb_leaves_no_database_that_cannot_start(home: Home) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", USING, str(home.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    unfinished = server_leftovers.unfinished_cluster(home.data)
    assert wait_until((unfinished / server_leftovers.VERSION_FILE).exists, 120, every=0.001)
    makers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not home.data.exists()
    # Until then somebody seems to be making it.
    assert wait_until(lambda: not any(map(lives, makers)), 30)
    assert kinds(home, repair=True) == ["half-made database"]
    with psycopg.connect(database_url(home.settings, "template1")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_dead_users_are_taken_off_the_record(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (tmp_path / server_leftovers.USERS_FILE).write_text(json.dumps([ended.pid, os.getpid()]))
    server_leftovers.forget_dead_users(tmp_path)
    assert server_leftovers.users(tmp_path) == [os.getpid()]
    assert [path.name for path in tmp_path.iterdir()] == [server_leftovers.USERS_FILE]
