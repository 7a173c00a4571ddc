"""What words and the crowd count for each model version, in the database, with the evidence it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.store.connections import Connection


@dataclass(frozen=True)
class RankingWeights:
    """What counts beside meaning for a model version.

    Args:
        model_version: Whose.
        weights: All 0: meaning alone.
        evidence: What it was learned from, what was measured, and why it is what it is; plain JSON. It holds
            no query, so that whoever is forgotten is not found here.
    """

    model_version: str
    weights: Weights
    evidence: dict[str, Any]


def ranking_weights(connection: Connection, model_version: str) -> RankingWeights | None:
    """Those in force; None while none were ever learned, which counts as 0."""
    row = connection.execute(
        "SELECT weight, crowding, evidence FROM ranking_weights WHERE model_version = %s"
        " AND crowding IS NOT NULL ORDER BY id DESC LIMIT 1",
        [model_version],
    ).fetchone()
    return None if row is None else RankingWeights(model_version, Weights(row[0], row[1]), row[2])


def base_weights(connection: Connection, model_version: str) -> RankingWeights | None:
    """Those in force for the model that this one was trained from; None without one, or none were learned."""
    row = connection.execute(
        "SELECT base_version FROM model_versions WHERE version = %s", [model_version]
    ).fetchone()
    return None if row is None or row[0] is None else ranking_weights(connection, row[0])


def weights_to_serve(connection: Connection, model_version: str) -> Weights:
    """What counts in searches by this model; while nothing was learned for it, what it would take over."""
    known = ranking_weights(connection, model_version) or base_weights(connection, model_version)
    return MEANING_ALONE if known is None else known.weights


def weights_in_force(connection: Connection) -> Weights:
    """What counts in searches now; nothing but meaning while nothing serves."""
    row = connection.execute("SELECT model_version FROM index_versions WHERE state = 'serving'").fetchone()
    return MEANING_ALONE if row is None else weights_to_serve(connection, row[0])


def store_weights(connection: Connection, learned: RankingWeights) -> None:
    """From now on these are in force; those before them are kept."""
    connection.execute(
        "INSERT INTO ranking_weights (model_version, weight, crowding, evidence) VALUES (%s, %s, %s, %s)",
        [learned.model_version, *learned.weights, Jsonb(learned.evidence)],
    )
