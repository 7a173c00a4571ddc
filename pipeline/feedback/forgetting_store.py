"""The statements of forgetting somebody: what they did, and what was learned from it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.types.json import Jsonb

from pipeline.feedback.grouping import group_key
from pipeline.feedback.pairs import FeedbackPair
from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor

FORGOTTEN = "(forgotten)"

# Theirs: what they said, and whatever was said in a search of theirs.
_JUDGED_QUERIES = """
SELECT DISTINCT s.query FROM searches s JOIN feedback f ON f.search_id = s.id
WHERE btrim(s.user_name) = ANY(%(names)s) OR btrim(f.user_name) = ANY(%(names)s)
"""

_ALL_QUERIES = """
SELECT DISTINCT query FROM searches
WHERE btrim(user_name) = ANY(%(names)s)
    OR id IN (SELECT search_id FROM feedback WHERE btrim(user_name) = ANY(%(names)s))
"""

_COUNTS = """
SELECT (SELECT count(*) FROM searches WHERE btrim(user_name) = ANY(%(names)s)),
    (SELECT count(*) FROM impressions JOIN searches s ON s.id = search_id
        WHERE btrim(s.user_name) = ANY(%(names)s)),
    (SELECT count(*) FROM feedback f JOIN searches s ON s.id = f.search_id
        WHERE btrim(coalesce(f.user_name, s.user_name)) = ANY(%(names)s)),
    (SELECT count(*) FROM feedback f JOIN searches s ON s.id = f.search_id
        WHERE btrim(s.user_name) = ANY(%(names)s) AND btrim(f.user_name) <> ALL(%(names)s))
"""

# A model learned from its own training set, and from all that its base had learned.
_LEARNED = """
WITH RECURSIVE learned AS (
    SELECT version FROM model_versions WHERE training_set_id IN (
        SELECT training_set_id FROM training_pairs
        WHERE origin = 'feedback' AND split <> 'test' AND group_key = ANY(%s))
    UNION
    SELECT m.version FROM model_versions m JOIN learned l ON m.base_version = l.version
)
SELECT m.version, m.name, m.state FROM model_versions m JOIN learned USING (version)
ORDER BY m.created_at, m.version
"""


@dataclass(frozen=True)
class Counted:
    """How much somebody left behind; `of_others`: judgements that others made in their searches."""

    searches: int
    impressions: int
    feedback: int
    of_others: int


@dataclass(frozen=True)
class LearnedModel:
    """A model version that was trained on what somebody said."""

    version: str
    name: str
    state: str


@dataclass
class Adjusted:
    """What was changed in the stored training sets."""

    sets: int = 0
    pairs_removed: int = 0
    pairs_changed: int = 0
    negatives_removed: int = 0


def names_of(connection: Connection, name: str) -> list[str]:
    """The name, and what became of it in searches that have expired, as long as that is known."""
    rows = connection.execute("SELECT alias FROM expired_names WHERE btrim(user_name) = %s", [name])
    return [name, *(alias for (alias,) in rows)]


def judged_groups(connection: Connection, names: Sequence[str]) -> set[bytes]:
    """The groups of the queries that this person judged, or that anybody judged in a search of theirs."""
    return {group_key(query) for (query,) in connection.execute(_JUDGED_QUERIES, {"names": names})}


def asked_queries(connection: Connection, names: Sequence[str]) -> list[str]:
    """All queries they asked or judged."""
    return [query for (query,) in connection.execute(_ALL_QUERIES, {"names": names})]


def groups_still_asked(connection: Connection, groups: Collection[bytes]) -> set[bytes]:
    """Those of the groups that some search has yet."""
    with server_cursor(connection, "still_asked") as cursor:
        cursor.execute("SELECT DISTINCT query FROM searches")
        return {key for (query,) in cursor if (key := group_key(query)) in groups}


def learned_models(connection: Connection, groups: Collection[bytes]) -> list[LearnedModel]:
    """The model versions that were trained on judgements of these queries, the oldest first."""
    return [LearnedModel(*row) for row in connection.execute(_LEARNED, [list(groups)])]


def count(connection: Connection, names: Sequence[str]) -> Counted:
    """What there is of them."""
    row = connection.execute(_COUNTS, {"names": names}).fetchone()
    assert row is not None  # a row of sub-selects
    return Counted(*row)


def delete_theirs(connection: Connection, names: Sequence[str], until: datetime | None = None) -> None:
    """Deletes their searches, with all that was shown and said in them, and what they said in others'.

    Args:
        connection: In a transaction.
        names: Whose: all that `names_of` gives, which goes, too.
        until: Only what is not younger; None: all.
    """
    theirs = {"names": names, "until": until}
    for table in (sql.Identifier("feedback"), sql.Identifier("searches")):
        connection.execute(
            sql.SQL(
                "DELETE FROM {} WHERE btrim(user_name) = ANY(%(names)s)"
                " AND (%(until)s::timestamptz IS NULL OR at <= %(until)s)"
            ).format(table),
            theirs,
        )
    connection.execute("DELETE FROM expired_names WHERE btrim(user_name) = ANY(%(names)s)", theirs)


def adjust_training_sets(
    connection: Connection, groups: Collection[bytes], supported: Mapping[tuple[bytes, bytes], FeedbackPair]
) -> Adjusted:
    """Brings the stored pairs of these queries to what the feedback that is left supports.

    A set that was changed is no longer what its name said, so it gets another: nothing is taken for it again.

    Args:
        connection: In the transaction that deleted the feedback.
        groups: The queries' groups.
        supported: The pairs that are left, by group and content.
    """
    adjusted = Adjusted()
    rows = connection.execute(
        "SELECT training_set_id, id, group_key, positive_hash, query, weight FROM training_pairs"
        " WHERE origin = 'feedback' AND group_key = ANY(%s)",
        [list(groups)],
    ).fetchall()
    changed_sets: dict[int, dict[str, int]] = {}
    for set_id, pair_id, group, content_hash, query, weight in rows:
        pair = supported.get((bytes(group), bytes(content_hash)))
        if pair is None:
            connection.execute("DELETE FROM training_pairs WHERE id = %s", [pair_id])
            removed, changed, negatives = 1, 0, 0
        else:
            negatives = _adjust_negatives(connection, pair_id, pair)
            removed, changed = 0, int((query, weight) != (pair.query, pair.weight) or negatives > 0)
            connection.execute(
                "UPDATE training_pairs SET query = %s, weight = %s, because = because || %s WHERE id = %s",
                [
                    *(pair.query, pair.weight),
                    *(Jsonb({"judgement": pair.judgement, "people": pair.users}), pair_id),
                ],
            )
        if removed or changed:
            of_set = changed_sets.setdefault(set_id, {"pairs_removed": 0, "pairs_changed": 0})
            of_set["pairs_removed"] += removed
            of_set["pairs_changed"] += changed
        adjusted.pairs_removed += removed
        adjusted.pairs_changed += changed
        adjusted.negatives_removed += negatives
    # What else was spared rests on what people liked, and those may be gone.
    connection.execute(
        "UPDATE training_pairs p SET spared = ARRAY(SELECT DISTINCT coalesce(o.copy_group, o.positive_hash)"
        " FROM training_pairs o WHERE o.training_set_id = p.training_set_id AND o.group_key = p.group_key)"
        " WHERE p.origin = 'feedback' AND p.group_key = ANY(%s)",
        [list(groups)],
    )
    for set_id, counts in changed_sets.items():
        name = secrets.token_hex(32)
        connection.execute(
            "UPDATE training_sets SET fingerprint = %s, pairs_fingerprint = %s, counts = counts || %s"
            " WHERE id = %s",
            [name, name, Jsonb({"forgotten": counts}), set_id],
        )
    adjusted.sets = len(changed_sets)
    return adjusted


def _adjust_negatives(connection: Connection, pair_id: int, pair: FeedbackPair) -> int:
    """How many of the pair's judged negatives nobody who is left supports; they are deleted."""
    left = {negative.content_hash: negative.weight for negative in pair.negatives}
    removed = connection.execute(
        "DELETE FROM training_negatives"
        " WHERE pair_id = %s AND reason <> 'mined' AND NOT negative_hash = ANY(%s)",
        [pair_id, list(left)],
    ).rowcount
    connection.execute(
        "UPDATE training_negatives n SET weight = now.weight"
        " FROM unnest(%s::bytea[], %s::float8[]) AS now (negative_hash, weight)"
        " WHERE n.pair_id = %s AND n.reason <> 'mined' AND n.negative_hash = now.negative_hash",
        [list(left), list(left.values()), pair_id],
    )
    return removed


def redact_evaluations(connection: Connection, groups: Collection[bytes], left: Mapping[bytes, str]) -> int:
    """Takes the text of these queries out of evaluations and test sets; the figures, aggregates, stay.

    A verdict of the gate rests on every query's figures, and can be given again from them. The key is
    replaced too, the same way everywhere, as it is a hash of the text.

    Args:
        connection: In the transaction that deleted the feedback.
        groups: The queries' groups.
        left: The spelling of those that others asked as well and that still make a pair.

    Returns:
        How many query texts went from evaluations.
    """
    salt = secrets.token_bytes(32)
    redacted = 0
    # A set is frozen before anything is measured on it, and a run that ends in between leaves it unevaluated.
    rows = connection.execute(
        "SELECT query_key, query FROM evaluation_queries WHERE origin = 'feedback'"
        " UNION SELECT query_key, query FROM test_set_queries WHERE origin = 'feedback'"
    ).fetchall()
    for key, query in rows:
        group = group_key(query)
        if group not in groups or left.get(group) == query:
            continue
        if group in left:
            connection.execute(
                "UPDATE evaluation_queries SET query = %s WHERE query_key = %s AND query = %s",
                [left[group], key, query],
            )
            connection.execute(
                "UPDATE test_set_queries SET query = %s, words = NULL, word_documents = NULL,"
                " word_weights = NULL, mean_length = NULL WHERE query_key = %s AND query = %s",
                [left[group], key, query],
            )
            continue
        # A frozen test set cannot ask what nobody may know any more: it goes on with one query less.
        connection.execute(
            "WITH gone AS (DELETE FROM test_set_queries WHERE query_key = %s RETURNING test_set)"
            " UPDATE test_sets s SET forgotten = forgotten + 1 FROM gone WHERE s.name = gone.test_set",
            [key],
        )
        redacted += connection.execute(
            "UPDATE evaluation_queries SET query = %s, query_key = %s WHERE query_key = %s",
            [FORGOTTEN, hashlib.sha256(salt + bytes(key)).digest(), key],
        ).rowcount
    return redacted
