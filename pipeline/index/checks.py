"""Whether the stored vectors and the serving index are as they must be, read from the tables themselves."""

from __future__ import annotations

from psycopg import sql

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.config import Settings
from pipeline.corpus.repositories import Repository
from pipeline.errors import HoneloopError
from pipeline.index.embeddings import count_missing, embedding_table
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.index.tables import LIVE_CONTENTS
from pipeline.index.verifying import coverage, measure_recall
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Database

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
                # An infinite or undefined length is not within the tolerance either.
                "SELECT count(*), count(*) FILTER (WHERE vector_dims(embedding) <> %(dims)s),"
                " count(*) FILTER (WHERE NOT abs(l2_norm(embedding) - 1) < %(tolerance)s),"
                " coalesce(max(abs(l2_norm(embedding) - 1)), 0)"
                " FROM ({} AND repository_id = %(repository)s) AS live JOIN {} USING (content_hash)"
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


def none_left_out(db: Database, settings: Settings, model: ModelRecord, repository: Repository) -> Outcome:
    """Every live snippet of a repository has its vector of the model."""
    del settings
    missing = count_missing(db, model.version, repository)
    return Outcome(
        missing == 0,
        f"{missing} texts of {repository.name} have no vector by {model.name} ({model.version[:12]}).",
        {"missing": missing},
        hint="`honeloop index` embeds them.",
    )


def recall_is_enough(db: Database, settings: Settings) -> Outcome:
    """HNSW of the serving index finds at least `min_recall` of what exact search does, measured again now."""
    serving = _serving(db)
    with db.connect() as connection:
        recall = measure_recall(
            connection, serving.table, ef_search=serving.ef_search, sample=settings.recall_sample
        )
    return Outcome(
        recall.recall_at_10 >= settings.min_recall,
        f"recall@10 of index version {serving.index_version_id} is {recall.recall_at_10:.3f} over "
        f"{recall.queries} queries; at least {settings.min_recall} is asked for.",
        {"recall_at_10": round(recall.recall_at_10, 4), "queries": recall.queries},
        hint="Raise HONELOOP_HNSW_EF_SEARCH or HONELOOP_HNSW_M and run `honeloop index`.",
    )


def rows_are_equal(db: Database, settings: Settings) -> Outcome:
    """The serving index holds each live text once and nothing else."""
    del settings
    serving = _serving(db)
    with db.connect() as connection:
        found = coverage(connection, serving.table)
    return Outcome(
        found.equal and found.rows == found.live,
        f"Index version {serving.index_version_id} has {found.rows} rows for {found.live} live texts: "
        f"{found.missing} missing, {found.surplus} too many.",
        {"rows": found.rows, "live": found.live, "missing": found.missing, "surplus": found.surplus},
        hint="`honeloop index` brings it up to date.",
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


def _serving(db: Database) -> ServingIndex:
    try:
        return serving_index(db)
    except HoneloopError as error:
        raise NothingToCheckError(str(error)) from error
