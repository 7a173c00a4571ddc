"""What the database's failures mean to a person: it went away, or its disk is full. No driver is imported.

psycopg raises them here, SQLAlchemy and psycopg2 in Dagster's storage; each carries the server's SQLSTATE, or
none if the server could no longer answer.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import DatabaseAwayError, HoneloopError

_DRIVERS = ("psycopg", "psycopg2", "psycopg_pool")
# Connection exceptions; the server shuts down, crashed, or starts.
_AWAY = ("08", "57P01", "57P02", "57P03")
_WITHOUT_ANSWER = ("OperationalError", "InterfaceError")
_DISK_FULL = "53100"
_NO_ROOM = "No space left on device"
# Shared memory that is too small is said to be a full disk, too.
_ELSEWHERE = "shared memory"
_MAKE_ROOM = (
    "Make room there (the embedded database lies under HONELOOP_HOME/postgres), and do it again; what was"
    " stored is kept."
)


def unreachable(error: BaseException) -> DatabaseAwayError:
    """The error to raise where a connection could not be opened.

    On a full disk the server may let nobody in: who comes first after its catalogs changed writes a file.
    """
    if _is_full(error):
        return DatabaseAwayError(_full(error), hint=_MAKE_ROOM)
    return DatabaseAwayError(
        f"The database cannot be reached: {str(error).strip()}.",
        hint="Check HONELOOP_DATABASE_URL and that the server runs; unset it for the embedded one.",
    )


def explained(error: BaseException) -> HoneloopError | None:
    """The error to raise in the place of this one; None if it is about something else.

    Returns:
        DatabaseAwayError if the database went away; HoneloopError if its disk is full.
    """
    cause = _of_the_driver(error)
    if cause is None:
        return None
    state: str | None = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    said = _first_line(cause)
    if _is_full(cause, state):
        return HoneloopError(_full(cause), hint=_MAKE_ROOM)
    silent = state is None and any(each.__name__ in _WITHOUT_ANSWER for each in type(cause).__mro__)
    if silent or (state is not None and state.startswith(_AWAY)):
        return DatabaseAwayError(
            f"The database went away: {said}.",
            hint="What was stored is kept. When it runs again, do the same once more; `honeloop status` says"
            " whether it does.",
        )
    return None


def _is_full(error: BaseException, state: str | None = None) -> bool:
    said = str(error)
    return (state == _DISK_FULL or _NO_ROOM in said) and _ELSEWHERE not in said


def _full(error: BaseException) -> str:
    return f"The disk that holds the database is full: {_first_line(error)}."


def _of_the_driver(error: BaseException | None) -> BaseException | None:
    """The driver's own exception in a chain of causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        original: Any = getattr(error, "orig", None)  # as SQLAlchemy wraps it
        for candidate in (original, error):
            if isinstance(candidate, BaseException) and type(candidate).__module__.split(".")[0] in _DRIVERS:
                return candidate
        error = error.__cause__
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
