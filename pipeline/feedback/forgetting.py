"""Forgetting somebody: what they asked and said goes from everywhere it was kept, and it is told what
remains.

Gone, in one transaction:

- their searches with all that was shown in them, and with what *others* said there: it is about a query that
  is theirs. Whoever asked the same in a search of their own keeps what they said in it. What expired is among
  them as long as others of theirs have not (expiring.py).
- their judgements in other people's searches, and the import keys of both.
- in the stored training sets, the pairs, and the negatives of pairs, that nobody left supports. Pairs that
  others support, too, stay, with the weight and in the spelling they have without that person. The next build
  is made anew from what is left.
- in the evaluations and the frozen test sets, the texts of their queries; the figures stay, as aggregates do.

Besides: their searches waiting in the queue on disk, and their queries in the records of past runs.

What remains: figures (aggregates, metrics); the model versions that learned from their judgements, until
models are trained again: weights hold no text, and the report names them; judgements that lost their name,
when all of theirs had expired; files that were imported, with what was set aside beside them, and backups,
which are not Honeloop's. A salted hash of the name remains, too, so that importing an old file again does not
bring them back (forgotten.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from pipeline.config import Settings
from pipeline.corpus.store import can_be_stored
from pipeline.errors import BadInputError, HoneloopError
from pipeline.feedback import forgetting_store as store
from pipeline.feedback.forgetting_runs import redact_runs
from pipeline.feedback.forgetting_store import LearnedModel
from pipeline.feedback.forgotten import promise
from pipeline.feedback.grouping import group_key, normalise_query
from pipeline.feedback.pairs import pairs_in
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import LEARNING_LOCK, locked_if_free

# A query that was cut off in a table is recognised by its beginning, if that is long enough.
MIN_CUT_OFF = 20


@dataclass(frozen=True)
class ForgetReport:
    """What was removed.

    Attributes:
        searches: Their searches.
        impressions: What was shown in those.
        feedback: What they said.
        feedback_of_others: What others said in their searches.
        training_sets: Stored training sets that were changed.
        training_pairs_removed: Pairs in them that nobody left supports.
        training_pairs_changed: Pairs that stay, with another weight, spelling or fewer negatives.
        negatives_removed: Negatives of those.
        evaluation_queries: Texts of queries in evaluations.
        queued_searches: Searches that waited in the queue on disk.
        run_records: Records of past runs in which a query was replaced.
        models: The model versions that learned from it; they stay until they are trained again.
        forgotten_at: From when on the name is barred from imports of what was before.
    """

    searches: int
    impressions: int
    feedback: int
    feedback_of_others: int
    training_sets: int
    training_pairs_removed: int
    training_pairs_changed: int
    negatives_removed: int
    evaluation_queries: int
    queued_searches: int
    run_records: int
    models: tuple[LearnedModel, ...]
    forgotten_at: datetime

    @property
    def found_nothing(self) -> bool:
        """Whether nothing of that name was there."""
        return not (self.searches or self.feedback or self.queued_searches)


def forget_user(db: Database, settings: Settings, user: str) -> ForgetReport:
    """Forgets a person, by the name that searches and judgements carry.

    Forgetting twice is no error. Should the records of past runs not be within reach, nothing is forgotten at
    all; should the process die between the transaction and the queue, the same command again sees to the
    queue.

    Raises:
        BadInputError: the name is blank, or no text.
        HoneloopError: a model is being trained, or the queue on disk cannot be cleaned.
    """
    name = user.strip()
    if not name or not can_be_stored(name):
        raise BadInputError("There is no name to forget.", hint="Give the name that the searches carry.")
    with locked_if_free(db, LEARNING_LOCK) as free:
        if not free:
            raise HoneloopError(
                "A model is being trained or measured now, perhaps on what is to be forgotten.",
                hint="Nothing was forgotten: do it again when that ends; `honeloop status` shows the runs.",
            )
        return _forgotten(db, settings, name)


def _forgotten(db: Database, settings: Settings, name: str) -> ForgetReport:
    with db.connect() as connection:
        forgotten_at = promise(connection, name)
        _wait_for_writers(connection)
        names = store.names_of(connection, name)
        found = store.count(connection, names)
        queries = store.asked_queries(connection, names)
        groups = store.judged_groups(connection, names)
        models = store.learned_models(connection, groups)
        store.delete_theirs(connection, names)
        left = pairs_in(connection, settings, with_vanished=True).pairs
        supported = {(pair.group_key, pair.content_hash): pair for pair in left}
        adjusted = store.adjust_training_sets(connection, groups, supported)
        spelling = {pair.group_key: pair.query for pair in left}
        evaluated = store.redact_evaluations(connection, groups, spelling)
        asked = {group_key(query): normalise_query(query) for query in queries}
        still_asked = store.groups_still_asked(connection, asked.keys())
        gone = {key: query for key, query in asked.items() if key not in still_asked}
        records = redact_runs(connection, settings, _Theirs(gone)) if gone else 0
    queued = forget_in_queue(settings, name)
    with db.connect() as connection:  # what was on its way from the queue to the database meanwhile
        _wait_for_writers(connection)
        store.delete_theirs(connection, store.names_of(connection, name), until=forgotten_at)
    return ForgetReport(
        searches=found.searches,
        impressions=found.impressions,
        feedback=found.feedback,
        feedback_of_others=found.of_others,
        training_sets=adjusted.sets,
        training_pairs_removed=adjusted.pairs_removed,
        training_pairs_changed=adjusted.pairs_changed,
        negatives_removed=adjusted.negatives_removed,
        evaluation_queries=evaluated,
        queued_searches=queued,
        run_records=records,
        models=tuple(models),
        forgotten_at=forgotten_at,
    )


def forget_in_queue(settings: Settings, name: str) -> int:
    """Removes somebody's searches from the queue on disk, if there is one; those it had set aside, too."""
    from pipeline.search.spool import queue_path

    path = queue_path(settings)
    if not path.exists():
        return 0
    removed = 0
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as file, file:
            file.execute("PRAGMA secure_delete = ON")  # or the text would stay in the file's free pages
            tables = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in tables & {"records", "unusable"}:
                # What was set aside may be no JSON at all: then it goes if the name is anywhere in it.
                removed += file.execute(
                    f"DELETE FROM {table} WHERE CASE WHEN json_valid(record)"
                    " THEN trim(json_extract(record, '$.user')) = ? ELSE instr(record, ?) > 0 END",
                    (name, name),
                ).rowcount
        # What was carried to the database or deleted just now still stands in the log of a service that runs.
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as file:
            blocked = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if blocked:
            raise sqlite3.OperationalError("another process keeps reading it")
    except sqlite3.Error as error:
        raise HoneloopError(
            f"The queue of searches {path} cannot be cleaned ({error}); all else of that name is forgotten.",
            hint="Run the same command again.",
        ) from error
    return removed


def _wait_for_writers(connection: Connection) -> None:
    """Searches and judgements under way are finished first, and others wait until this is done."""
    connection.execute("LOCK TABLE impressions IN EXCLUSIVE MODE")


class _Theirs:
    """Whether a query, perhaps cut off with an ellipsis, is one of those that nobody else asked."""

    def __init__(self, gone: dict[bytes, str]) -> None:
        self._gone = gone

    def __call__(self, query: str) -> bool:
        if group_key(query) in self._gone:
            return True
        beginning = normalise_query(query.removesuffix("…"))
        return (
            query.endswith("…")
            and len(beginning) >= MIN_CUT_OFF
            and any(whole.startswith(beginning) for whole in self._gone.values())
        )
