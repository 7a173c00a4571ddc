"""Interleaved searches in the database: stored with their search, told by what people did."""

from __future__ import annotations

import pytest

from assets_tests.evaluation.made import CANDIDATE, SERVING
from assets_tests.feedback.world import add_code, show
from pipeline.config import Settings
from pipeline.evaluation.interleaving import Team
from pipeline.evaluation.online import online_evidence, record_interleaving
from pipeline.feedback.events import add_feedback
from pipeline.store.connections import Database

TEAMS: list[Team | None] = ["candidate", "serving", "serving", "candidate", None]


@pytest.fixture
def snippets(db: Database) -> list[int]:
    with db.connect() as connection:
        for version in (SERVING, CANDIDATE):
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state)"
                " VALUES (%s, 'made', '{}', 4, '/nowhere', 'candidate')",
                [version],
            )
    return list(add_code(db, {f"t{n}.py": {"f": f"def f{n}(): return {n}"} for n in range(5)}).values())


def interleaved(db: Database, snippets: list[int], user: str) -> str:
    search = show(db, f"a question of {user}", snippets, user)
    with db.connect() as connection:
        teams = dict(zip(snippets, TEAMS, strict=True))
        assert record_interleaving(connection, str(search), SERVING, CANDIDATE, teams)
        assert not record_interleaving(connection, str(search), SERVING, CANDIDATE, teams)
    return str(search)


def test_choices_become_wins_losses_and_ties(db: Database, settings: Settings, snippets: list[int]) -> None:
    assert online_evidence(db, CANDIDATE, SERVING, settings) is None
    won = interleaved(db, snippets, "ada")
    lost = interleaved(db, snippets, "bob")
    tied = interleaved(db, snippets, "eve")
    taken_back = interleaved(db, snippets, "kim")
    interleaved(db, snippets, "joe")  # who chose nothing
    left_over = interleaved(db, snippets, "max")
    plain = show(db, "not interleaved", snippets, "ann")
    add_feedback(db, won, snippets[0], "click")
    add_feedback(db, won, snippets[3], "accept")
    add_feedback(db, won, snippets[1], "click")
    add_feedback(db, lost, snippets[2], "copy")
    add_feedback(db, tied, snippets[0], "click")
    add_feedback(db, tied, snippets[1], "click")
    add_feedback(db, taken_back, snippets[0], "click")
    add_feedback(db, taken_back, snippets[0], "reject")
    add_feedback(db, left_over, snippets[4], "accept")
    add_feedback(db, str(plain), snippets[0], "accept")
    found = online_evidence(db, CANDIDATE, SERVING, settings)
    assert found is not None
    assert (found.searches, found.wins, found.losses, found.ties, found.people) == (6, 1, 1, 1, 3)
    assert found.verdict == "not enough evidence"
    assert online_evidence(db, SERVING, CANDIDATE, settings) is None
    # A change of mind is a change of the outcome.
    add_feedback(db, taken_back, snippets[0], "accept")
    again = online_evidence(db, CANDIDATE, SERVING, settings)
    assert again is not None
    assert again.wins == 2


def test_enough_people_make_a_verdict(db: Database, settings: Settings, snippets: list[int]) -> None:
    for number in range(12):
        search = interleaved(db, snippets, f"p{number}")
        add_feedback(db, search, snippets[0], "accept")
    asked = settings.model_copy(update={"interleaving_min_searches": 12})
    found = online_evidence(db, CANDIDATE, SERVING, asked)
    assert found is not None
    assert (found.verdict, found.wins) == ("candidate preferred", 12)
    assert found.p_value == pytest.approx(2 / 2**12)


def test_it_goes_with_its_search(db: Database, settings: Settings, snippets: list[int]) -> None:
    interleaved(db, snippets, "ada")
    with db.connect() as connection:
        connection.execute("DELETE FROM searches")
        assert connection.execute("SELECT count(*) FROM interleavings").fetchone() == (0,)
        # A search that was never stored, or has expired, is left alone.
        unknown = "00000000-0000-0000-0000-000000000001"
        assert not record_interleaving(connection, unknown, SERVING, CANDIDATE, {snippets[0]: "serving"})
    assert online_evidence(db, CANDIDATE, SERVING, settings) is None
