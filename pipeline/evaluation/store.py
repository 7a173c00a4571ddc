"""Evaluations in the database: each (model version, test set) once, with every query's result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from psycopg.types.json import Jsonb

from pipeline.errors import HoneloopError
from pipeline.evaluation.results import Evaluation, QueryResult, breakdown_from_json, breakdown_to_json
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.store.connections import Connection, Database


def live_hashes(db: Database) -> list[bytes]:
    """The hashes of all live contents, ascending: the corpus that is ranked."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT content_hash FROM snippets WHERE vanished_at IS NULL ORDER BY content_hash"
        ).fetchall()
    return [bytes(row[0]) for row in rows]


def repositories_of(db: Database, hashes: Sequence[bytes]) -> dict[bytes, str]:
    """The repository each content stands in, live: the first by name where there are several."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT s.content_hash, min(r.name) FROM snippets s JOIN repositories r ON r.id = s.repository_id"
            " WHERE s.content_hash = ANY(%s) AND s.vanished_at IS NULL GROUP BY 1",
            [sorted(set(hashes))],
        ).fetchall()
    return {bytes(content_hash): name for content_hash, name in rows}


def places_of(db: Database, hashes: Collection[bytes]) -> dict[bytes, str]:
    """Where each content stands, as a person reads it: `repository path symbol`.

    One place for each, a live one if there is any; "(gone)" is said of code that has vanished. A path that
    begins with the repository's name, as in installed packages, does not say it twice.
    """
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT ON (s.content_hash) s.content_hash, r.name, s.path, s.symbol,"
            " s.vanished_at IS NOT NULL FROM snippets s JOIN repositories r ON r.id = s.repository_id"
            " WHERE s.content_hash = ANY(%s)"
            " ORDER BY s.content_hash, s.vanished_at IS NOT NULL, r.name, s.path, s.symbol",
            [sorted(hashes)],
        ).fetchall()
    return {
        bytes(content_hash): ("" if path.startswith(f"{name}/") else f"{name} ")
        + f"{path} {symbol}{' (gone)' if gone else ''}"
        for content_hash, name, path, symbol, gone in rows
    }


def find_evaluation(db: Database, model_version: str, test_set: str) -> Evaluation | None:
    """The stored evaluation of a model on a test set, if it was made."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT id, model_version, test_set, queries, corpus, metrics FROM evaluations"
            " WHERE model_version = %s AND test_set = %s",
            [model_version, test_set],
        ).fetchone()
        return None if row is None else _evaluation(connection, row)


def latest_evaluation(db: Database, model_version: str) -> Evaluation:
    """The newest stored evaluation of a model.

    Raises:
        HoneloopError: it was never evaluated.
    """
    with db.connect() as connection:
        row = connection.execute(
            "SELECT id, model_version, test_set, queries, corpus, metrics FROM evaluations"
            " WHERE model_version = %s ORDER BY id DESC LIMIT 1",
            [model_version],
        ).fetchone()
        if row is None:
            raise HoneloopError(
                f"The model version {model_version[:12]} was never evaluated.",
                hint="Run `honeloop train` or `honeloop run`.",
            )
        return _evaluation(connection, row)


def save_evaluation(db: Database, evaluation: Evaluation) -> Evaluation:
    """Stores it whole or not at all, and returns it with its id; one stored meanwhile stays as it is."""
    metrics: dict[str, Any] = breakdown_to_json(evaluation)
    metrics["ranking"] = list(evaluation.ranking)
    metrics["margins"] = [round(margin, 5) for margin in evaluation.margins]
    with db.connect() as connection:
        row = connection.execute(
            "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
            [
                evaluation.model_version,
                evaluation.test_set,
                evaluation.queries,
                evaluation.corpus,
                Jsonb(metrics),
            ],
        ).fetchone()
        if row is not None:
            _save_queries(connection, row[0], evaluation.per_query)
            return replace(evaluation, id=row[0])
    stored = find_evaluation(db, evaluation.model_version, evaluation.test_set)
    if stored is None:
        raise HoneloopError(
            "An evaluation vanished while it was being stored.", hint="Run the same command again."
        )
    return stored


def _save_queries(connection: Connection, evaluation_id: int, results: Sequence[QueryResult]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY evaluation_queries (evaluation_id, query_key, query, origin, language, rank, metrics,"
            " repository, words, answer, top) FROM STDIN (FORMAT BINARY)"
        ) as copy,
    ):
        copy.set_types(
            ["int8", "bytea", "text", "text", "text", "int4", "jsonb", "text", "int4", "bytea", "bytea[]"]
        )
        for result in results:
            copy.write_row(
                (
                    evaluation_id,
                    result.query_key,
                    result.query,
                    result.origin,
                    result.language,
                    result.rank,
                    Jsonb(result.metrics),
                    result.repository,
                    result.words,
                    result.answer,
                    list(result.top),
                )
            )


def _evaluation(connection: Connection, row: tuple[Any, ...]) -> Evaluation:
    identity, model_version, test_set, queries, corpus, metrics = row
    found = connection.execute(
        "SELECT query_key, query, origin, language, rank, metrics, repository, words, answer, top"
        " FROM evaluation_queries WHERE evaluation_id = %s ORDER BY query_key",
        [identity],
    ).fetchall()
    breakdown = breakdown_from_json(metrics)
    return Evaluation(
        id=identity,
        model_version=model_version,
        test_set=test_set,
        queries=queries,
        corpus=corpus,
        overall=breakdown.overall,
        slices=breakdown.slices,
        per_query=tuple(
            QueryResult(
                bytes(key),
                *rest,
                answer=None if answer is None else bytes(answer),
                top=tuple(bytes(each) for each in top),
            )
            for key, *rest, answer, top in found
        ),
        margins=tuple(metrics["margins"]),
        ranking=Weights(*metrics.get("ranking", MEANING_ALONE)),
        reused=True,
    )
