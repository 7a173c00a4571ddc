"""How much there is to learn that an earlier training set could not have known."""

from __future__ import annotations

from pipeline.config import Settings
from pipeline.feedback.pairs import feedback_pairs
from pipeline.store.connections import Database


def newest_feedback_id(db: Database) -> int:
    """The highest id of a judgement; 0 if there is none. Ids only grow."""
    with db.connect() as connection:
        row = connection.execute("SELECT coalesce(max(id), 0) FROM feedback").fetchone()
    return row[0] if row else 0


def count_new_pairs(db: Database, settings: Settings, since: int) -> int:
    """How many pairs rest on a judgement with an id above `since`.

    Feedback that makes no pair (contradictory, too weak, about code that is gone) teaches nothing, and does
    not count.
    """
    if newest_feedback_id(db) <= since:
        return 0
    return sum(pair.newest_feedback_id > since for pair in feedback_pairs(db, settings).pairs)
