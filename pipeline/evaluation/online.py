"""Interleaved searches in the database: which team each result shown is from, and what people chose."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pipeline.config import Settings
from pipeline.evaluation.interleaving import Choice, OnlineOutcome, Team, online_outcome, outcome_of
from pipeline.store.connections import Connection, Database


def challenger(connection: Connection) -> tuple[str, str] | None:
    """Which candidate searches may be interleaved with: its version and location; None if there is none.

    The newest on which the gate had not enough evidence against what serves now. One that was rejected is not
    shown to people, and one that was approved serves as soon as its index is built.
    """
    row = connection.execute(
        "SELECT m.version, m.location FROM model_versions m JOIN model_versions s ON s.state = 'serving'"
        " WHERE m.state = 'candidate' AND m.metrics -> 'verdict' ->> 'decision' = 'not enough evidence'"
        " AND m.metrics -> 'verdict' ->> 'serving_version' = s.version"
        " ORDER BY m.metrics -> 'verdict' ->> 'at' DESC, m.version LIMIT 1"
    ).fetchone()
    return None if row is None else (row[0], row[1])


def record_interleaving(
    connection: Connection,
    search_id: str,
    serving_version: str,
    candidate_version: str,
    teams: Mapping[int, Team | None],
) -> bool:
    """Notes that a search was interleaved, in the transaction that stored it or after.

    Args:
        connection: Sees the search with its impressions.
        search_id: The search; one that is not stored, or no longer, is left alone.
        serving_version: The model that served.
        candidate_version: The other one.
        teams: By snippet id, whose pick it was.

    Returns:
        Whether it was noted now; noting it twice adds nothing.
    """
    added = connection.execute(
        "INSERT INTO interleavings (search_id, serving_version, candidate_version)"
        " SELECT id, %s, %s FROM searches WHERE id = %s ON CONFLICT DO NOTHING RETURNING search_id",
        [serving_version, candidate_version, UUID(search_id)],
    ).fetchone()
    if added is None:
        return False
    picked = {snippet: team for snippet, team in teams.items() if team is not None}
    connection.execute(
        "UPDATE impressions i SET team = picked.team"
        " FROM unnest(%s::bigint[], %s::text[]) AS picked (snippet_id, team)"
        " WHERE i.search_id = %s AND i.snippet_id = picked.snippet_id",
        [list(picked), list(picked.values()), UUID(search_id)],
    )
    return True


def online_evidence(
    db: Database, candidate_version: str, serving_version: str, settings: Settings
) -> OnlineOutcome | None:
    """What the interleaved searches of two models say so far; None if there were none."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT i.search_id, coalesce(f.user_name, s.user_name), m.snippet_id, m.team, f.judgement"
            " FROM interleavings i JOIN searches s ON s.id = i.search_id"
            " LEFT JOIN impressions m ON m.search_id = i.search_id AND m.team IS NOT NULL"
            " LEFT JOIN feedback f ON f.search_id = m.search_id AND f.snippet_id = m.snippet_id"
            " WHERE i.candidate_version = %s AND i.serving_version = %s ORDER BY s.at, i.search_id, f.id",
            [candidate_version, serving_version],
        ).fetchall()
    if not rows:
        return None
    people: dict[UUID, str | None] = {}
    teams: dict[UUID, dict[int, Team | None]] = {}
    judgements: dict[UUID, dict[int, list[str]]] = {}
    for search, person, snippet, team, judgement in rows:
        shown = teams.setdefault(search, {})
        said = judgements.setdefault(search, {})
        people[search] = people.get(search) or person
        if snippet is not None:
            shown[snippet] = team
        if snippet is not None and judgement is not None:
            _hear(said.setdefault(snippet, []), judgement)
    choices = [
        Choice(people[search], outcome)
        for search, shown in teams.items()
        if (outcome := outcome_of(shown, judgements[search])) is not None
    ]
    return online_outcome(
        choices,
        len(teams),
        min_searches=settings.interleaving_min_searches,
        significance=settings.gate_significance,
        resamples=settings.bootstrap_resamples,
        permutations=settings.permutations,
        seed=settings.seed,
    )


def _hear(said: list[str], judgement: str) -> None:
    """Adds a judgement; of accept and reject the later one is the last word."""
    if judgement in ("accept", "reject"):
        said[:] = [each for each in said if each not in ("accept", "reject")]
    said.append(judgement)
