"""Homes with odd names, on odd disks, and of other people: they work, or it is said why not."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.store.connections import open_database
from pipeline.store.embedded import MAX_SOCKET_BYTES, HomeServer, short_path
from pipeline.store.home import usable_home
from pipeline.store.server import database_url

NOBODY = pwd.getpwnam("nobody").pw_uid
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path that anybody may look into."""
    path = Path(tempfile.mkdtemp(prefix="hl-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def stop(home: Path) -> None:
    HomeServer.started(home / "postgres")._cleanup()  # pyright: ignore[reportPrivateUsage]
    link = short_path(home / "postgres")
    if link != home / "postgres":
        link.unlink()


@pytest.mark.parametrize(
    "name",
    ["/".join(["long" * 25] * 2), 'it\'s a «höme» 家 & "more" %20 +x;$HOME'],
    ids=["200 characters", "quotes and the like"],
)
def test_the_embedded_server_starts_in_any_home(place: Path, name: str) -> None:
    settings = Settings(home=place / name)
    try:
        database = open_database(settings)
        assert len(database.url.split("host=")[1]) <= MAX_SOCKET_BYTES
        with database.connect() as connection:
            row = connection.execute("SELECT current_setting('data_directory')").fetchone()
        assert row is not None
        assert Path(row[0]).resolve() == (place / name / "postgres").resolve()
        # What can be reached without a password stands where nobody else gets at it.
        assert (place / name / "postgres").stat().st_mode & 0o077 == 0
        assert database_url(settings) == database.url
    finally:
        stop(place / name)


def test_two_homes_do_not_meet(place: Path) -> None:
    homes = [place / "a", place / "b" / ("x" * 120)]
    try:
        for home in homes:
            with psycopg.connect(database_url(Settings(home=home), "postgres")) as connection:
                connection.execute("CREATE TABLE only_here (home text)")
                connection.execute("INSERT INTO only_here VALUES (%s)", [str(home)])
        for home in homes:
            with psycopg.connect(database_url(Settings(home=home), "postgres")) as connection:
                assert connection.execute("SELECT home FROM only_here").fetchall() == [(str(home),)]
    finally:
        for home in homes:
            stop(home)


def test_a_relative_home_is_the_same_from_where_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken from the directory that the command runs in, as every relative path is."""
    monkeypatch.chdir(place)
    assert usable_home(Settings(home=Path("home"))) == place / "home"
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    assert usable_home(Settings(home=Path("../home"))).resolve() == place / "home"


def test_a_file_is_no_home(place: Path) -> None:
    (place / "file").touch()
    for home in (place / "file", place / "file" / "below"):
        with pytest.raises(
            HoneloopError, match="is not a directory, or one of its parents is a file"
        ) as caught:
            database_url(Settings(home=home))
        assert "HONELOOP_HOME" in caught.value.hint


def test_somebody_else_s_link_is_not_followed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the directory of links first could lead a server to data of theirs."""
    from pipeline.store import embedded

    monkeypatch.setattr(embedded, "_LINKS", place)
    (place / f"honeloop-{os.geteuid()}").symlink_to(place)
    with pytest.raises(HoneloopError, match=r"is not a directory of .*'s own"):
        short_path(place / ("x" * 120) / "postgres")


def said_as(user: int, home: Path) -> str:
    """What opening the home says to this user; in a copy of this process, which has all its code already."""
    said = ""
    reading, writing = os.pipe()
    if os.fork() == 0:
        said, code = "", 1
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            HomeServer._instances.clear()  # pyright: ignore[reportPrivateUsage]
            said = database_url(Settings(home=home), "template1")
            stop(home)
            code = 0
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode())
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.wait()
    return said


@as_root
def test_root_and_others_do_not_share_a_home_and_leave_it_as_it_is(place: Path) -> None:
    place.chmod(0o777)
    theirs = place / "theirs"
    assert said_as(NOBODY, theirs) == f"postgresql://postgres:@/template1?host={theirs}/postgres"
    with pytest.raises(HoneloopError, match="belongs to the user nobody, and Postgres would run as pgserver"):
        database_url(Settings(home=theirs))
    assert (theirs / "postgres").stat().st_uid == NOBODY
    assert "template1" in said_as(NOBODY, theirs)
    ours = place / "ours"
    ours.mkdir(mode=0o755)
    assert f"{ours} may not be written to by nobody" in said_as(NOBODY, ours)
    assert f"{ours}/sub cannot be made: Permission denied" in said_as(NOBODY, ours / "sub")
    ours.chmod(0o777)
    (ours / "postgres").mkdir()
    assert said_as(NOBODY, ours).startswith("HoneloopError: The database")


@as_root
def test_a_full_disk_is_named(place: Path) -> None:
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(HoneloopError, match="No space left on device") as caught:
            database_url(Settings(home=small / "home"))
        assert "Free disk space" in caught.value.hint
        assert "initdb" in caught.value.message
    finally:
        subprocess.run(["umount", str(small)], check=True)
