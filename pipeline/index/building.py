"""Builds the index version of a model: loads its vectors, then HNSW, then proves the result.

The serving index is never touched by a build. When little has changed since, the index of the same model is
extended in one transaction instead, and when nothing has, it is used as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql
from psycopg.types.json import Jsonb

from pipeline.config import Settings
from pipeline.errors import HoneloopError, OvertakenError
from pipeline.index.cleaning import BUILD_LOCK, clean_up, discard, discard_passed_over
from pipeline.index.embeddings import embedding_table
from pipeline.index.hnsw import build_hnsw, ef_construction
from pipeline.index.measured import measured_now
from pipeline.index.tables import (
    LIVE_CONTENTS,
    VectorTable,
    add_key,
    create_table,
    state_model,
    use_tablespace,
)
from pipeline.index.verifying import Coverage, Recall, coverage, measure_recall
from pipeline.progress import Progress
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import try_lock, wait_for_lock

Action = Literal["reused", "extended", "built"]

# Raised when recall is measured by other means. What is on record without it was measured with indexed rows,
# which are easier to find than what people ask, so that too small a breadth did.
RECALL_RULES = 2


@dataclass(frozen=True)
class IndexReport:
    """What `build_index` did.

    Args:
        index_version_id: The index version to flip to, or the serving one itself.
        model_version: Whose vectors it holds.
        action: "reused": nothing had changed; "extended": rows were added and removed in place; "built".
        rows: Texts in it.
        added: Rows that came new.
        removed: Rows that went.
        recall_at_10: HNSW against exact search.
        recall_sample: Over how many queries.
        build_seconds: Loading and HNSW, without measuring recall; 0 when reused.
    """

    index_version_id: int
    model_version: str
    action: Action
    rows: int
    added: int
    removed: int
    recall_at_10: float
    recall_sample: int
    build_seconds: float


class _TooMuchChangedError(Exception):
    """The index in hand will not do; a new one is built."""


@dataclass(frozen=True)
class _Build:
    """What every step needs."""

    db: Database
    source: VectorTable
    settings: Settings
    progress: Progress
    queries: Callable[[], NDArray[np.float32] | None]

    def graph(self, rows: int) -> dict[str, Any]:
        """What the graph is built with; one with another m, or for fewer rows, needs another build."""
        return {"m": self.settings.hnsw_m, "ef_construction": ef_construction(rows, self.settings)}

    def breadth(self) -> dict[str, Any]:
        """What decides the breadth it is searched with; for another one it need only be measured again."""
        return {
            "least_ef_search": self.settings.hnsw_ef_search,
            "max_ef_search": self.settings.hnsw_max_ef_search,
            "target_recall": self.settings.target_recall,
            "recall_rules": RECALL_RULES,
        }

    def holds(self, live: Coverage) -> dict[str, Any]:
        """Which texts it is of, so that it can be told later whether it is still as it was built."""
        return {"texts": live.live_print}

    def searched(self, recall: Recall | None = None) -> dict[str, Any]:
        """As stored with the index version; `ef_search` is what recall was measured and is served with."""
        if recall is None:
            return {**self.breadth(), "ef_search": self.settings.hnsw_ef_search}
        return {**self.breadth(), "ef_search": recall.ef_search, **measured_now()}

    def recall(self, connection: Connection, table: VectorTable) -> Recall:
        queries = self.queries()
        with self.progress.stage(f"Measuring the recall of {table.name}"):
            return measure_recall(
                connection,
                table,
                ef_search=self.settings.hnsw_ef_search,
                sample=self.settings.recall_sample,
                query_vectors=queries if queries is not None and len(queries) else None,
                target=self.settings.target_recall,
                max_ef_search=self.settings.hnsw_max_ef_search,
            )


def build_index(
    db: Database,
    model_version: str,
    settings: Settings,
    progress: Progress,
    queries: Callable[[], NDArray[np.float32] | None] = lambda: None,
) -> IndexReport:
    """Makes an index version of all live texts ready to serve, at the least expense.

    Only one build runs at a time; a second waits. What a killed one left behind is cleaned up first.

    Args:
        db: The database.
        model_version: Every live text must have a vector of it (`embed_missing`).
        settings: HNSW parameters, memory, workers, least recall, share that may change in place.
        progress: Told of the stages.
        queries: Gives what recall is measured with, vectors of shape (n, dims), e.g. `documentation_queries`.
            Asked once at the most, and only if recall is measured: whoever has to embed them need not load
            the encoder for nothing. Where it gives none, a sample of the indexed rows search for their
            neighbours, which are easier to find than what people ask.

    Raises:
        OvertakenError: some live text has no vector, as it appeared, or its model took over, since the
            others were embedded.
        HoneloopError: there is no live text at all, recall is too low, or Postgres cannot build the index.
            The index that serves goes on serving.
    """
    with _one_build_at_a_time(db, progress):
        clean_up(db, model_version, settings.keep_retired_indexes)
        with db.connect() as connection:
            source = embedding_table(connection, model_version)
        if source is None:
            raise OvertakenError(
                f"Model version {model_version[:12]} has embedded nothing yet.",
                hint="`honeloop index` embeds first, then builds.",
            )
        build = _Build(db, source, settings, progress, cache(queries))
        report = _reuse(build) or _build_new(build)
        discard_passed_over(db, model_version, report.index_version_id)
        return report


@contextmanager
def _one_build_at_a_time(db: Database, progress: Progress) -> Generator[None]:
    """Holds a lock that the server lets go when this process dies, however it dies."""
    with db.connect(autocommit=True) as connection:
        if not try_lock(connection, BUILD_LOCK):
            progress.note("Another index build is under way; waiting for it.")
            wait_for_lock(connection, BUILD_LOCK)
        yield


def _reuse(build: _Build) -> IndexReport | None:
    """The report on an index version that could be used, changed a little if need be; None if none could."""
    for index_id, candidates, table in _candidates(build):
        try:
            return _bring_up_to_date(build, index_id, table, candidates)
        except psycopg.errors.SerializationFailure:  # flipped or rolled back meanwhile
            build.progress.note(f"Index version {index_id} changed its state meanwhile; building another.")
        except _TooMuchChangedError as reason:
            build.progress.note(f"Index version {index_id} is not used as it is: {reason}.")
    return None


def _candidates(build: _Build) -> list[tuple[int, int, VectorTable]]:
    """Index versions of this model that might do: the one ready but never flipped to, the serving one.

    Each with the `ef_construction` of its graph.
    """
    with build.db.connect() as connection:
        rows = connection.execute(
            "SELECT id, (parameters ->> 'ef_construction')::int, table_name, model_version, dims"
            " FROM index_versions WHERE model_version = %s AND state IN ('ready', 'serving')"
            " AND (parameters ->> 'm')::int = %s ORDER BY id DESC",
            [build.source.model_version, build.settings.hnsw_m],
        ).fetchall()
    return [(index_id, candidates, VectorTable(*table)) for index_id, candidates, *table in rows]


def _bring_up_to_date(build: _Build, index_id: int, table: VectorTable, candidates: int) -> IndexReport:
    """Adds and removes what differs, in one transaction: searches see the old rows or the new, never half.

    Raises:
        _TooMuchChangedError: a new build is cheaper, or the outcome's recall is too low.
    """
    started = time.perf_counter()
    with build.db.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        before = coverage(connection, table)
        _require_something(before.live)
        if candidates < (wanted := ef_construction(before.live, build.settings)):
            raise _TooMuchChangedError(
                f"its graph was built with ef_construction {candidates}, and {before.live} texts ask for"
                f" {wanted}"
            )
        changed = before.missing + before.surplus
        if changed > build.settings.in_place_share * before.live:
            raise _TooMuchChangedError(f"{changed} of {before.live} texts changed")
        if changed:
            with build.progress.stage(f"Extending {table.name} by {before.missing} texts"):
                _change(connection, build.source, table, before)
        seconds = time.perf_counter() - started if changed else 0.0
        recall = _stored_recall(connection, index_id, build)
        if changed or recall is None:
            recall = build.recall(connection, table)
            if recall.recall_at_10 < build.settings.min_recall:
                raise _TooMuchChangedError(f"its recall@10 is {recall.recall_at_10:.3f}")
            connection.execute(
                "UPDATE index_versions SET row_count = %s, recall_at_10 = %s, recall_sample = %s,"
                " parameters = parameters || %s WHERE id = %s",
                [
                    before.live,
                    recall.recall_at_10,
                    recall.queries,
                    Jsonb({**build.searched(recall), **build.holds(before)}),
                    index_id,
                ],
            )
    if before.surplus:
        with build.db.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.identifier))
    return IndexReport(
        index_id,
        table.model_version,
        "extended" if changed else "reused",
        before.live,
        before.missing,
        before.surplus,
        recall.recall_at_10,
        recall.queries,
        seconds,
    )


def _change(connection: Connection, source: VectorTable, table: VectorTable, before: Coverage) -> None:
    state_model(connection, source.model_version)
    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {} (content_hash, embedding) SELECT s.content_hash, s.embedding FROM {} s"
            " JOIN ({}) AS live USING (content_hash)"
            " WHERE NOT EXISTS (SELECT FROM {} t WHERE t.content_hash = s.content_hash)"
        ).format(table.identifier, source.identifier, LIVE_CONTENTS, table.identifier)
    ).rowcount
    if inserted != before.missing:
        raise _not_embedded(before.missing - inserted, before.live, source)
    connection.execute(
        sql.SQL(
            "DELETE FROM {} t WHERE NOT EXISTS"
            " (SELECT FROM snippets s WHERE s.content_hash = t.content_hash AND s.vanished_at IS NULL)"
        ).format(table.identifier)
    )


def _stored_recall(connection: Connection, index_id: int, build: _Build) -> Recall | None:
    """The recall on record, if it is enough and was measured as it would be now."""
    row = connection.execute(
        "SELECT recall_at_10, recall_sample, (parameters ->> 'ef_search')::int FROM index_versions"
        " WHERE id = %s AND recall_at_10 >= %s AND parameters @> %s",
        [index_id, build.settings.min_recall, Jsonb(build.breadth())],
    ).fetchone()
    return None if row is None else Recall(*row)


def _build_new(build: _Build) -> IndexReport:
    build.queries()  # needed at the end in any case, and an encoder that cannot be loaded is better known now
    with build.db.connect() as connection:
        row = connection.execute(
            "INSERT INTO index_versions (model_version, state, dims, parameters)"
            " VALUES (%s, 'building', %s, %s) RETURNING id",
            [build.source.model_version, build.source.dims, Jsonb({**build.graph(0), **build.searched()})],
        ).fetchone()
        assert row is not None  # RETURNING
        index_id: int = row[0]
        table = VectorTable(f"index_{index_id}", build.source.model_version, build.source.dims)
        connection.execute("UPDATE index_versions SET table_name = %s WHERE id = %s", [table.name, index_id])
    try:
        return _fill(build, index_id, table)
    except HoneloopError:
        discard(build.db, index_id, "failed")
        raise
    except psycopg.Error as error:
        discard(build.db, index_id, "failed")
        raise HoneloopError(
            f"Postgres could not build index version {index_id}: {error.diag.message_primary or error}.",
            hint=error.diag.message_hint or "What served before serves on.",
        ) from error


def _fill(build: _Build, index_id: int, table: VectorTable) -> IndexReport:
    started = time.perf_counter()
    loaded = _load(build, table)
    rows = loaded.rows
    build_hnsw(build.db, table, rows, build.settings, build.progress)
    with build.db.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.identifier))
    seconds = time.perf_counter() - started
    with build.db.connect() as connection:
        recall = build.recall(connection, table)
    with build.db.connect() as connection:
        enough = recall.recall_at_10 >= build.settings.min_recall
        connection.execute(
            "UPDATE index_versions SET state = %s, row_count = %s, recall_at_10 = %s, recall_sample = %s,"
            " parameters = %s, build_seconds = %s WHERE id = %s",
            [
                "ready" if enough else "building",
                rows,
                recall.recall_at_10,
                recall.queries,
                Jsonb({**build.graph(rows), **build.searched(recall), **build.holds(loaded)}),
                seconds,
                index_id,
            ],
        )
    if not enough:
        raise HoneloopError(
            f"Index version {index_id} finds {recall.recall_at_10:.3f} of the exact nearest 10, less than the"
            f" {build.settings.min_recall} asked for, even with a breadth of {recall.ef_search};"
            " it does not serve.",
            hint="Raise HONELOOP_HNSW_MAX_EF_SEARCH, HONELOOP_HNSW_M or HONELOOP_HNSW_EF_CONSTRUCTION.",
        )
    build.progress.note(
        f"Index version {index_id}: {rows} rows in {seconds:.1f} s, recall@10 {recall.recall_at_10:.4f}"
        f" with a breadth of {recall.ef_search}."
    )
    return IndexReport(
        index_id,
        table.model_version,
        "built",
        rows,
        rows,
        0,
        recall.recall_at_10,
        recall.queries,
        seconds,
    )


def _load(build: _Build, table: VectorTable) -> Coverage:
    """Copies the live texts' vectors over, within the server, and proves that none is left out."""
    with build.db.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        use_tablespace(connection, build.settings.index_tablespace)
        create_table(connection, table)
        state_model(connection, build.source.model_version)
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (content_hash, embedding) SELECT s.content_hash, s.embedding FROM {} s"
                " JOIN ({}) AS live USING (content_hash)"
            ).format(table.identifier, build.source.identifier, LIVE_CONTENTS)
        )
        add_key(connection, table)
        loaded = coverage(connection, table)
        _require_something(loaded.live)
        if not loaded.equal:
            raise _not_embedded(loaded.missing, loaded.live, build.source)
        return loaded


def _require_something(live: int) -> None:
    if not live:
        raise HoneloopError(
            "There is no live snippet to index.",
            hint="Register code with `honeloop source add`; `honeloop status` shows what was extracted.",
        )


def _not_embedded(missing: int, live: int, source: VectorTable) -> OvertakenError:
    return OvertakenError(
        f"{missing} of {live} live texts have no vector of model version {source.model_version[:12]};"
        " an index without them is not built.",
        hint="They appeared meanwhile, or its model took over: run again, the rest is kept.",
    )
