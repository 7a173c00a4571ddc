"""Migration 0009: its way back keeps what it can, and refuses what it cannot."""

from __future__ import annotations

import pytest

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice, evaluation
from assets_tests.promotion.test_deciding import verdict
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.evaluation.store import find_evaluation, save_evaluation
from pipeline.promotion.deciding import apply_verdict
from pipeline.promotion.verdicts import list_verdicts
from pipeline.store import migrations
from pipeline.store.connections import Database


def back_and_forth(db: Database, settings: Settings) -> None:
    applied = migrations.apply(db.url, settings.sql_path).applied
    count = len(applied) - [name.startswith("0009") for name in applied].index(True)
    assert any(name.startswith("0009") for name in migrations.revert(db.url, settings.sql_path, count).ran)
    migrations.apply(db.url, settings.sql_path)


@pytest.fixture
def judged(db: Database) -> Database:
    with db.connect() as connection:
        for version, state in ((SERVING, "serving"), (CANDIDATE, "candidate")):
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state)"
                " VALUES (%s, 'made', '{}', 4, '/nowhere', %s)",
                [version, state],
            )
    return db


def test_rankings_and_verdicts_survive(judged: Database, settings: Settings) -> None:
    made = evaluation(CANDIDATE, Slice([1, 3, 50], repository="web", words=4), triplets=[0.5, -0.5])
    save_evaluation(judged, made)
    apply_verdict(judged, verdict("not enough evidence"), CANDIDATE)
    apply_verdict(judged, verdict("rejected"), CANDIDATE)
    before = list_verdicts(judged)
    back_and_forth(judged, settings)
    found = find_evaluation(judged, CANDIDATE, made.test_set)
    assert found is not None
    assert found.per_query == made.per_query
    assert [(each.at, each.verdict) for each in list_verdicts(judged)] == [
        (each.at, each.verdict) for each in before
    ]
    assert len(before) == 2


def test_a_verdict_from_before_becomes_the_first_of_the_history(judged: Database, settings: Settings) -> None:
    apply_verdict(judged, verdict("rejected"), CANDIDATE)
    (kept,) = list_verdicts(judged)
    with judged.connect() as connection:
        connection.execute("DELETE FROM verdicts")
    back_and_forth(judged, settings)
    (given,) = list_verdicts(judged)
    assert given.verdict == kept.verdict


@pytest.mark.parametrize(
    ("statements", "refusal"),
    [
        (
            [
                "INSERT INTO measured_corpora VALUES (sha256(''), 0, '')",
                "INSERT INTO test_sets (name, rules, queries, corpus) VALUES ('t', '2', 1, sha256(''))",
            ],
            "drop 1 frozen test sets",
        ),
        (
            [
                "INSERT INTO searches (query, source) VALUES ('q', 'search')",
                f"INSERT INTO interleavings SELECT id, '{SERVING}', '{CANDIDATE}' FROM searches",
            ],
            "results of 1 interleaved searches",
        ),
    ],
)
def test_what_could_not_be_kept_is_refused(
    judged: Database, settings: Settings, statements: list[str], refusal: str
) -> None:
    with judged.connect() as connection:
        for statement in statements:
            connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(BadInputError, match=refusal):
        back_and_forth(judged, settings)
