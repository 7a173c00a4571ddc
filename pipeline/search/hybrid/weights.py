"""The weight of words per model version, in the database, each with the evidence it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from pipeline.store.connections import Connection


@dataclass(frozen=True)
class RankingWeight:
    """How much words count beside meaning for a model version.

    Args:
        model_version: Whose.
        weight: From 0, meaning alone, to 1.
        evidence: What it was learned from, what was measured, and why it is what it is; plain JSON. It holds
            no query, so that whoever is forgotten is not found here.
    """

    model_version: str
    weight: float
    evidence: dict[str, Any]


def ranking_weight(connection: Connection, model_version: str) -> RankingWeight | None:
    """The weight in force; None while none was ever learned, which counts as 0."""
    row = connection.execute(
        "SELECT model_version, weight, evidence FROM ranking_weights WHERE model_version = %s"
        " ORDER BY id DESC LIMIT 1",
        [model_version],
    ).fetchone()
    return None if row is None else RankingWeight(*row)


def store_weight(connection: Connection, weight: RankingWeight) -> None:
    """From now on this one is in force; those before it are kept."""
    connection.execute(
        "INSERT INTO ranking_weights (model_version, weight, evidence) VALUES (%s, %s, %s)",
        [weight.model_version, weight.weight, Jsonb(weight.evidence)],
    )
