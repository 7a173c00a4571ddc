"""Vectors in use stay: whoever uses a model's shares their lock, and only what nobody uses is dropped."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from pipeline.errors import OvertakenError
from pipeline.index.tables import vectors_name
from pipeline.store.connections import Database
from pipeline.store.locks import shared


def vectors_lock(model_version: str) -> str:
    """Shared by whoever uses the vectors of this model version; had alone, if nobody uses them, to drop them.

    Nobody waits to have it alone, so that who shares it may share it once more.
    """
    return f"honeloop.vectors.{model_version}"


@contextmanager
def vectors_in_use(db: Database, model_version: str) -> Generator[None]:
    """Keeps all vectors of a model version, those there and those made within the block, until it ends.

    For whoever relies on them over several transactions: these may be on other connections, as the lock is on
    one of its own. If the server forgets the lock, as it does when it is started anew, they are as if not in
    use.

    Raises:
        OvertakenError: they were dropped within the block all the same.
    """
    try:
        with shared(db, vectors_lock(model_version)):
            yield
    except psycopg.errors.UndefinedTable as error:
        if vectors_name(model_version) not in (error.diag.message_primary or ""):
            raise
        raise OvertakenError(
            f"The vectors of model version {model_version[:12]} were cleaned away meanwhile.",
            hint="Run it again, which makes them anew; if it says the same, `honeloop doctor --repair`.",
        ) from error
