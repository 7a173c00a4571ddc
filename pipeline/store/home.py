"""The home: made on first use, and refused in a sentence where there can be none."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import HoneloopError

_HINT = "Set HONELOOP_HOME to a directory that you may write to."


def usable_home(settings: Settings) -> Path:
    """The home directory, made if it is not there.

    Raises:
        HoneloopError: it is a file, or may not be made or written to.
    """
    home = settings.home_path
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK | os.X_OK)
    except (FileExistsError, NotADirectoryError) as error:
        raise HoneloopError(
            f"The home {home} is not a directory, or one of its parents is a file.", hint=_HINT
        ) from error
    except OSError as error:
        raise HoneloopError(f"The home {home} cannot be made: {error.strerror}.", hint=_HINT) from error
    if not writable:
        raise HoneloopError(
            f"The home {home} may not be written to by {user_name(os.geteuid())}.", hint=_HINT
        )
    return home


def require_owner(data: Path, user: int) -> None:
    """Raises HoneloopError if the files of the embedded database are another user's.

    Postgres runs only as the user whose files they are. To try would already change whose they are.

    Args:
        data: The database's directory; it need not be there.
        user: The number of the user as which Postgres would run.
    """
    try:
        owner = data.stat().st_uid
        empty = owner == os.geteuid() and not any(data.iterdir())
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise HoneloopError(
            f"{data} may not be looked at by {user_name(os.geteuid())}.", hint=_HINT
        ) from error
    if owner != user and not empty:
        of = user_name(owner)
        raise HoneloopError(
            f"The database {data} belongs to the user {of}, and Postgres would run as {user_name(user)}"
            f"{' here, as root may not run it' if os.geteuid() == 0 else ''}.",
            hint="Run Honeloop as the user who made this home, or set HONELOOP_HOME to a home of your own.",
        )


def user_name(number: int) -> str:
    """What a user is called; a number that has no name, as in containers, stays a number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
