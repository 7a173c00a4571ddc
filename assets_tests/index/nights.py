"""Models of past nights, whose vectors an index build cleans away, and that build at the worst moment."""

from __future__ import annotations

from pipeline.index.cleaning import clean_up
from pipeline.index.embeddings import embedding_table
from pipeline.progress import Silent
from pipeline.store.connections import Database


def turn_down(db: Database, version: str, base_version: str) -> None:
    """Makes a registered model a fine-tuned one that the gate rejected."""
    with db.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET state = 'rejected', base_version = %s WHERE version = %s",
            [base_version, version],
        )


def has_vectors(db: Database, version: str) -> bool:
    """Whether the model version has its table of vectors."""
    with db.connect() as connection:
        return embedding_table(connection, version) is not None


class CleansInBetween(Silent):
    """When everything is embedded, and before anybody reads it, cleans up as a build for `built` does."""

    def __init__(self, db: Database, built: str) -> None:
        self._db, self._built = db, built
        self.cleaned = 0

    def note(self, message: str) -> None:
        if "texts embedded" in message:
            clean_up(self._db, self._built, keep=0)
            self.cleaned += 1
