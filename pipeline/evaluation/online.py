"""Interleaved searches in the database: which team each result shown is from, and what people chose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
        # By their numbers, as clocks go back.
        " ORDER BY (SELECT max(id) FROM verdicts WHERE model_version = m.version) DESC NULLS LAST,"
        " m.metrics -> 'verdict' ->> 'at' DESC, m.version LIMIT 1"
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
        search_id: The search; one that is not stored, or no longer, is left alone, as one by models that are
            not registered is.
        serving_version: The model that served.
        candidate_version: The other one.
        teams: By snippet id, whose pick it was.

    Returns:
        Whether it was noted now; noting it twice adds nothing.
    """
    added = connection.execute(
        "INSERT INTO interleavings (search_id, serving_version, candidate_version)"
        " SELECT s.id, serving.version, candidate.version"
        " FROM searches s, model_versions serving, model_versions candidate"
        " WHERE s.id = %s AND serving.version = %s AND candidate.version = %s"
        " ON CONFLICT DO NOTHING RETURNING search_id",
        [UUID(search_id), serving_version, candidate_version],
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


@dataclass(frozen=True)
class OnlineComparison:
    """What the interleaved searches of two models say so far."""

    candidate_version: str
    serving_version: str
    outcome: OnlineOutcome


def online_evidence(
    db: Database, candidate_version: str, serving_version: str, settings: Settings
) -> OnlineOutcome | None:
    """What the interleaved searches of two models say so far; None if there were none."""
    with db.connect() as connection:
        found = online_comparisons(connection, settings, candidate_version)
    return next((each.outcome for each in found if each.serving_version == serving_version), None)


def online_comparisons(
    connection: Connection, settings: Settings, candidate_version: str | None = None
) -> tuple[OnlineComparison, ...]:
    """What interleaved searches say of each two models, those compared last first.

    Args:
        connection: Any.
        settings: How much evidence is enough, and how it is tested.
        candidate_version: Only of this candidate.
    """
    only = {"candidate": candidate_version}
    counts = connection.execute(
        "SELECT i.candidate_version, i.serving_version, count(*)"
        " FROM interleavings i JOIN searches s ON s.id = i.search_id"
        " WHERE %(candidate)s::text IS NULL OR i.candidate_version = %(candidate)s"
        " GROUP BY 1, 2 ORDER BY max(s.at) DESC, 1, 2",
        only,
    ).fetchall()
    # Where nothing was done, nothing was chosen: such searches are only counted.
    judged: dict[tuple[str, str], dict[UUID, _Judged]] = {}
    for candidate, serving, search, person, snippet, team, judgement in connection.execute(
        "SELECT i.candidate_version, i.serving_version, i.search_id, coalesce(f.user_name, s.user_name),"
        " m.snippet_id, m.team, f.judgement"
        " FROM interleavings i JOIN searches s ON s.id = i.search_id"
        " JOIN impressions m ON m.search_id = i.search_id AND m.team IS NOT NULL"
        " JOIN feedback f ON f.search_id = m.search_id AND f.snippet_id = m.snippet_id"
        " WHERE %(candidate)s::text IS NULL OR i.candidate_version = %(candidate)s"
        " ORDER BY s.at, i.search_id, f.id",
        only,
    ):
        of_pair = judged.setdefault((candidate, serving), {})
        of_pair.setdefault(search, _Judged(person)).hear(person, snippet, team, judgement)
    return tuple(
        OnlineComparison(
            candidate, serving, _outcome(judged.get((candidate, serving), {}).values(), count, settings)
        )
        for candidate, serving, count in counts
    )


@dataclass
class _Judged:
    """What was done in one interleaved search: by whom, whose picks these were, what was said of them."""

    person: str | None
    teams: dict[int, Team | None] = field(default_factory=dict[int, Team | None])
    said: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    def hear(self, person: str | None, snippet: int, team: Team, judgement: str) -> None:
        self.person = self.person or person
        self.teams[snippet] = team
        _hear(self.said.setdefault(snippet, []), judgement)


def _outcome(judged: Iterable[_Judged], searches: int, settings: Settings) -> OnlineOutcome:
    return online_outcome(
        [
            Choice(each.person, outcome)
            for each in judged
            if (outcome := outcome_of(each.teams, each.said)) is not None
        ],
        searches,
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
