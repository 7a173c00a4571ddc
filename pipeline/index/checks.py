"""Whether the stored vectors and the serving index are as they must be, read from the tables themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.config import Settings
from pipeline.corpus.repositories import Repository
from pipeline.corpus.state import live_fingerprint
from pipeline.errors import HoneloopError
from pipeline.index.embeddings import count_missing, embedding_table
from pipeline.index.measured import note_measured, serving_measured_at
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.index.tables import LIVE_CONTENTS
from pipeline.index.verifying import Coverage, Recall, coverage, measure_recall
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Connection, Database

T = TypeVar("T")
# |norm - 1| of a stored vector; the sanity checks ask the same of the encoder itself.
NORM_TOLERANCE = 1e-3


def vectors_are_sound(
    db: Database, settings: Settings, model: ModelRecord, repository: Repository
) -> Outcome:
    """The stored vectors of a repository's live snippets have the model's dims and unit length."""
    del settings
    with db.connect() as connection:
        table = embedding_table(connection, model.version)
        if table is None:
            raise NothingToCheckError(f"{model.name} has embedded nothing yet: `honeloop index` does.")
        row = connection.execute(
            sql.SQL(
                # An infinite or undefined length is not within the tolerance either. OFFSET: once a vector.
                "SELECT count(*), count(*) FILTER (WHERE dims <> %(dims)s),"
                " count(*) FILTER (WHERE NOT off < %(tolerance)s), coalesce(max(off), 0)"
                " FROM (SELECT vector_dims(embedding) AS dims, abs(l2_norm(embedding) - 1) AS off"
                " FROM ({} AND repository_id = %(repository)s) AS live JOIN {} USING (content_hash)"
                " OFFSET 0) AS vectors"
            ).format(LIVE_CONTENTS, table.identifier),
            {"dims": model.dims, "tolerance": NORM_TOLERANCE, "repository": repository.id},
        ).fetchone()
    assert row is not None  # an aggregate always returns one row
    count, wrong_dims, wrong_norm, worst = row
    return Outcome(
        wrong_dims == wrong_norm == 0,
        f"Of {count} vectors by {model.name}, {wrong_dims} do not have {model.dims} dimensions and "
        f"{wrong_norm} are not finite and of unit length.",
        {"vectors": count, "dims": model.dims, "largest_norm_error": round(float(worst), 7)},
        hint="These vectors were not made by Honeloop; drop their table and run `honeloop index`.",
    )


def none_left_out(
    db: Database,
    settings: Settings,
    model: ModelRecord,
    repository: Repository,
    embedded: str | None = None,
) -> Outcome:
    """Every live snippet of a repository has its vector of the model.

    One that a run has left out, of the snippets whose fingerprint is `embedded`, is an error; one that has
    appeared since is to come.
    """
    del settings
    missing = count_missing(db, model.version, repository)
    since = missing > 0 and live_fingerprint(db, repository.id) != embedded
    return Outcome(
        missing == 0,
        f"{missing} texts of {repository.name} have no vector by {model.name} ({model.version[:12]})"
        f"{' yet' if since else ''}.",
        {"missing": missing},
        hint="`honeloop index` embeds them.",
        warning=since,
    )


def recall_is_enough(
    db: Database,
    settings: Settings,
    queries: Callable[[str], NDArray[np.float32]] | None = None,
) -> Outcome:
    """HNSW of the serving index finds at least `min_recall` of what exact search does.

    With `queries`, it is measured with what they give for the model version that serves, if they give any.
    Without, what was measured within HONELOOP_RECHECK_HOURS is believed, or else it is measured with indexed
    rows, which are easier to find, and for which no encoder has to be loaded.
    """

    def measured(connection: Connection, serving: ServingIndex) -> tuple[Recall, bool]:
        known = None if queries is not None else _known_recall(connection, serving, settings)
        if known is not None:
            return known, False
        vectors = None if queries is None else queries(serving.model_version)
        return measure_recall(
            connection,
            serving.table,
            ef_search=serving.ef_search,
            sample=settings.recall_sample,
            query_vectors=vectors if vectors is not None and len(vectors) else None,
        ), True

    serving, (recall, now) = _of_serving(db, measured)
    enough = recall.recall_at_10 >= settings.min_recall
    if enough and now:
        note_measured(db, serving.index_version_id)
    return Outcome(
        enough,
        f"recall@10 of index version {serving.index_version_id} is {recall.recall_at_10:.3f} over "
        f"{recall.queries} queries; at least {settings.min_recall} is asked for.",
        {"recall_at_10": round(recall.recall_at_10, 4), "queries": recall.queries},
        hint="Raise HONELOOP_HNSW_EF_SEARCH or HONELOOP_HNSW_M and run `honeloop index`.",
    )


def rows_are_equal(db: Database, settings: Settings) -> Outcome:
    """The serving index holds each live text once and nothing else.

    If it still holds all that it was built of, and only that, then the code has changed since, or what
    serves was built at another time than the newest: that is a warning.
    """
    del settings
    serving, (found, whole) = _of_serving(db, _covered)
    equal = found.equal and found.rows == found.live
    return Outcome(
        equal,
        f"Index version {serving.index_version_id} has {found.rows} rows for {found.live} live texts: "
        f"{found.missing} missing, {found.surplus} too many"
        + ("; it is of an earlier state of the code, and whole." if whole and not equal else "."),
        {"rows": found.rows, "live": found.live, "missing": found.missing, "surplus": found.surplus},
        hint="`honeloop index` brings it up to date.",
        warning=whole and not equal,
    )


def is_up_to_date(db: Database, model_version: str) -> bool:
    """Whether the index that serves is of this model version, with every live text and nothing else."""
    try:
        serving = serving_index(db)
    except HoneloopError:  # nothing serves yet
        return False
    if serving.model_version != model_version:
        return False
    with db.connect() as connection:
        return coverage(connection, serving.table).equal


def _covered(connection: Connection, serving: ServingIndex) -> tuple[Coverage, bool]:
    """Its coverage, and whether its rows are those it was built of; before that was noted, as many."""
    found = coverage(connection, serving.table)
    row = connection.execute(
        "SELECT row_count, (parameters ->> 'texts')::bigint FROM index_versions WHERE id = %s",
        [serving.index_version_id],
    ).fetchone()
    assert row is not None  # what serves has a row
    return found, found.rows == row[0] and row[1] in (None, found.rows_print)


def _known_recall(connection: Connection, serving: ServingIndex, settings: Settings) -> Recall | None:
    """The recall on record, if it was measured, or proven again, lately enough."""
    at = serving_measured_at(connection)
    if at is None or not 0 <= time.time() - at < settings.recheck_hours * 3600:
        return None
    row = connection.execute(
        "SELECT recall_at_10, recall_sample FROM index_versions WHERE id = %s", [serving.index_version_id]
    ).fetchone()
    return None if row is None or None in row else Recall(row[0], row[1], serving.ef_search)


def _of_serving(db: Database, measure: Callable[[Connection, ServingIndex], T]) -> tuple[ServingIndex, T]:
    """What serves, and something measured of it, both at one moment.

    Raises:
        NothingToCheckError: nothing serves.
    """
    while True:
        with db.connect() as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            try:
                serving = serving_index(connection)
            except HoneloopError as error:
                raise NothingToCheckError(str(error)) from error
            try:
                return serving, measure(connection, serving)
            except psycopg.errors.UndefinedTable:
                gone = serving
        if serving_index(db).index_version_id == gone.index_version_id:
            raise HoneloopError(
                f"The table {gone.table_name} of the index that serves is gone.",
                hint="`honeloop index` builds another.",
            )
