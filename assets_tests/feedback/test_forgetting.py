"""Forgetting somebody: no trace of them in any column, and nothing of others lost that need not be."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from assets_tests.feedback.world import add_code, content_hash, show, write_lines
from pipeline.config import Settings
from pipeline.errors import BadInputError, UnavailableError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.expiring import expire_searches
from pipeline.feedback.forgetting import forget_in_queue, forget_user
from pipeline.feedback.forgetting_runs import redacted_table
from pipeline.feedback.grouping import group_key
from pipeline.feedback.importing import import_feedback
from pipeline.feedback.pairs import FeedbackPairs, feedback_pairs
from pipeline.store.connections import Database, create_database
from pipeline.store.server import dagster_database, database_url
from pipeline.training import store as training_store
from pipeline.training.pairs import Negative, Pair

TEXTS = [f"def snippet_{number}(): return {number}" for number in range(6)]
HASHES = [content_hash(text) for text in TEXTS]
ANNS = "where do we keep ann's secret"
SHARED = "parse a json file"


@pytest.fixture
def ids(db: Database) -> list[int]:
    return list(add_code(db, {f"{n}.py": {f"s{n}": text} for n, text in enumerate(TEXTS)}).values())


@dataclass
class World:
    """What Ann and others did, and what was made of it."""

    training_set: int
    models: list[str]


@pytest.fixture
def world(db: Database, settings: Settings, ids: list[int]) -> World:
    """Ann asked a query of her own and, spelled otherwise, one of Bob's; Cyd judged in her search."""
    hers = show(db, ANNS, ids[:4], "ann")
    add_feedback(db, hers, ids[2], "accept")
    add_feedback(db, hers, ids[3], "accept", user="cyd")
    both = show(db, "Parse a  JSON file", ids, "ann")
    add_feedback(db, both, ids[4], "accept")
    add_feedback(db, both, ids[5], "reject")
    bobs = show(db, SHARED, ids, "bob")
    add_feedback(db, bobs, ids[4], "accept")
    add_feedback(db, bobs, ids[0], "reject")
    add_feedback(db, bobs, ids[3], "accept", user="ann")  # hers in Bob's search
    add_feedback(db, show(db, "untouched", ids[:2], "bob"), ids[1], "accept")
    show(db, "only asked", ids[:1], "ann")
    learned_from_it = learned(db, feedback_pairs(db, settings))
    freeze_evaluated(db)
    return World(*learned_from_it)


def learned(db: Database, found: FeedbackPairs) -> tuple[int, list[str]]:
    """A stored training set of these pairs, a model trained on it, one on top of that, an evaluation."""
    base, tuned, further, other = (letter * 64 for letter in "0123")
    text_of = dict(zip(HASHES, TEXTS, strict=True))
    pairs = [
        Pair(
            id=0,
            split="train",
            origin="feedback",
            query=pair.query,
            positive_hash=pair.content_hash,
            positive_text=text_of[pair.content_hash],
            weight=pair.weight,
            language=pair.language,
            group_key=pair.group_key,
            negatives=tuple(
                Negative(
                    each.content_hash, text_of[each.content_hash], each.reason, 0.5, 0.4, weight=each.weight
                )
                for each in pair.negatives
            ),
        )
        for pair in found.pairs
    ]
    documented = Pair(
        id=0,
        split="train",
        origin="docstring",
        query=SHARED,
        positive_hash=HASHES[0],
        positive_text=TEXTS[0],
        weight=0.95,
        language="python",
        group_key=group_key(SHARED),
    )
    with db.connect() as connection:

        def model(version: str, base_version: str | None, training_set: int | None) -> None:
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state, base_version,"
                " training_set_id) VALUES (%s, %s, '{}', 4, 'x', 'candidate', %s, %s)",
                [version, f"model {version[0]}", base_version, training_set],
            )

        model(base, None, None)
        set_id = training_store.save_set(
            connection,
            fingerprint="f" * 64,
            pairs_fingerprint="e" * 64,
            model_version=base,
            counts={"pairs": {}},
            settings={},
            pairs=[*pairs, documented],
        )
        model(tuned, base, set_id)
        model(further, tuned, None)
        model(other, base, None)
        row = connection.execute(
            "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
            " VALUES (%s, 't', 3, 6, %s) RETURNING id",
            [tuned, Jsonb({})],
        ).fetchone()
        assert row is not None
        for origin, query in (("feedback", ANNS), ("feedback", "Parse a JSON file"), ("docstring", SHARED)):
            connection.execute(
                "INSERT INTO evaluation_queries VALUES (%s, %s, %s, %s, 'python', 2, %s)",
                [row[0], evaluation_key(query, origin), query, origin, Jsonb({"mrr@10": 0.5})],
            )
    return set_id, [tuned, further]


def freeze_evaluated(db: Database) -> None:
    """Stores the evaluated queries as the frozen test set they were measured on."""
    with db.connect() as connection:
        connection.execute("INSERT INTO measured_corpora VALUES (sha256(''), 0, '')")
        connection.execute(
            "INSERT INTO test_sets (name, rules, queries, corpus) VALUES ('t', '2', 3, sha256(''))"
        )
        connection.execute(
            "INSERT INTO test_set_queries SELECT 't', query_key, query, origin, language, 'demo', '{}', '{}',"
            " '{}', ARRAY[origin || ' ' || query], '{1}', '{2.0}', 9 FROM evaluation_queries"
        )


def evaluation_key(query: str, origin: str = "feedback") -> bytes:
    return hashlib.sha256(f"{origin}\0{query.casefold()}".encode()).digest()


def everything(db: Database, *, but: str = "") -> str:
    """Every value of every column of every table (but one), as text."""
    with db.connect() as connection:
        tables = connection.execute(
            "SELECT quote_ident(table_name) FROM information_schema.tables"
            " WHERE table_schema = 'public' AND table_name <> %s",
            [but],
        ).fetchall()
        return "\n".join(
            str(connection.execute(f"SELECT * FROM {table}").fetchall())  # pyright: ignore
            for (table,) in tables
        )


@pytest.mark.usefixtures("world")
def test_no_trace_is_left_in_any_table(db: Database, settings: Settings) -> None:
    before = everything(db)
    for trace in ("'ann'", ANNS, "Parse a JSON file", "only asked"):
        assert trace in before
    forget_user(db, settings, "ann")
    after = everything(db)
    for trace in ("'ann'", "ann's secret", "Parse a", "only asked", repr(evaluation_key(ANNS))):
        assert trace not in after
    assert SHARED in after


@pytest.mark.usefixtures("world")
def test_a_frozen_test_set_goes_on_without_their_queries(db: Database, settings: Settings) -> None:
    forget_user(db, settings, "ann")
    with db.connect() as connection:
        left = connection.execute(
            "SELECT origin, query, words IS NULL FROM test_set_queries ORDER BY 1"
        ).fetchall()
        assert connection.execute("SELECT queries, forgotten FROM test_sets").fetchone() == (3, 1)
    assert len(left) == 2
    assert left[0] == ("docstring", SHARED, False)
    origin, spelling, words_are_gone = left[1]
    assert origin == "feedback"
    assert "Parse a" not in spelling
    assert words_are_gone, "another spelling can have other words"


@pytest.mark.usefixtures("world")
def test_a_test_set_that_nothing_was_measured_on_forgets_them_too(db: Database, settings: Settings) -> None:
    """It is frozen before the measurement, which may fail."""
    with db.connect() as connection:
        connection.execute("DELETE FROM evaluations")
    assert ANNS in everything(db)
    forget_user(db, settings, "ann")
    after = everything(db)
    for trace in (ANNS, "Parse a", repr(evaluation_key(ANNS))):
        assert trace not in after
    with db.connect() as connection:
        assert connection.execute("SELECT queries, forgotten FROM test_sets").fetchone() == (3, 1)
        left = connection.execute("SELECT origin, query FROM test_set_queries ORDER BY 1").fetchall()
    assert left == [("docstring", SHARED), ("feedback", SHARED)]


def test_what_was_removed_and_what_learned_from_it_is_told(
    db: Database, settings: Settings, world: World
) -> None:
    report = forget_user(db, settings, " ann ")
    assert (report.searches, report.impressions) == (3, 4 + 6 + 1)
    assert (report.feedback, report.feedback_of_others) == (4, 1)
    assert report.training_sets == 1
    assert report.evaluation_queries == 1
    assert [model.version for model in report.models] == world.models
    assert not report.found_nothing


def test_pairs_that_others_support_stay_as_they_would_be_without_that_person(
    db: Database, settings: Settings, world: World
) -> None:
    with db.connect() as connection:
        before = training_store.load_set(connection, world.training_set, reused=True)
    assert before is not None
    assert {(pair.query, pair.positive_hash) for pair in before.pairs if pair.origin == "feedback"} == {
        (ANNS, HASHES[2]),
        (ANNS, HASHES[3]),
        ("Parse a JSON file", HASHES[4]),
        ("Parse a JSON file", HASHES[3]),
        ("untouched", HASHES[1]),
    }
    report = forget_user(db, settings, "ann")
    left = {pair.group_key: pair for pair in feedback_pairs(db, settings).pairs}
    with db.connect() as connection:
        after = training_store.load_set(connection, world.training_set, reused=True)
    assert after is not None
    assert (report.training_pairs_removed, report.training_pairs_changed) == (3, 1)
    kept = {pair.query: pair for pair in after.pairs if pair.origin == "feedback"}
    assert kept.keys() == {SHARED, "untouched"}  # in the spelling that is left
    shared = kept[SHARED]
    assert shared.weight == left[group_key(SHARED)].weight
    assert {(each.content_hash, each.reason, each.weight) for each in shared.negatives} < set(
        left[group_key(SHARED)].negatives  # with one that was no negative as long as she liked it
    )
    assert HASHES[0] in {each.content_hash for each in shared.negatives}
    assert HASHES[5] not in {each.content_hash for each in shared.negatives}  # only she rejected it
    assert report.negatives_removed == 1
    assert [pair for pair in after.pairs if pair.origin == "docstring"] == [
        pair for pair in before.pairs if pair.origin == "docstring"
    ]
    # It is not what its name said any more, and nothing will be taken for it.
    assert after.fingerprint != before.fingerprint
    assert after.pairs_fingerprint != before.pairs_fingerprint
    assert after.counts["forgotten"] == {"pairs_removed": 3, "pairs_changed": 1}


def test_what_expired_goes_as_long_as_others_of_theirs_have_not(
    db: Database, settings: Settings, world: World
) -> None:
    with db.connect() as connection:
        connection.execute("UPDATE searches SET at = now() - interval '200 days' WHERE query = %s", [ANNS])
    expire_searches(db, settings)
    with db.connect() as connection:
        ((alias,),) = connection.execute("SELECT user_name FROM searches WHERE expired_at IS NOT NULL")
    assert ANNS in everything(db)
    report = forget_user(db, settings, "ann")
    assert (report.searches, report.feedback, report.feedback_of_others) == (3, 4, 1)
    assert [model.version for model in report.models] == world.models
    after = everything(db)
    for trace in ("'ann'", "ann's secret", "Parse a", "only asked", alias):
        assert trace not in after


@pytest.mark.usefixtures("world")
def test_figures_of_evaluations_stay(db: Database, settings: Settings) -> None:
    forget_user(db, settings, "ann")
    with db.connect() as connection:
        found = connection.execute(
            "SELECT query, origin, rank, metrics FROM evaluation_queries ORDER BY query, origin"
        ).fetchall()
    figures = (2, {"mrr@10": 0.5})
    assert found == [
        ("(forgotten)", "feedback", *figures),
        (SHARED, "docstring", *figures),
        (SHARED, "feedback", *figures),
    ]


@pytest.mark.usefixtures("world")
def test_nothing_changes_for_somebody_unknown_and_twice_is_as_once(db: Database, settings: Settings) -> None:
    before = everything(db)
    report = forget_user(db, settings, "nobody of that name")
    assert report.found_nothing
    assert report.models == ()
    with db.connect() as connection:
        connection.execute("DELETE FROM forgotten")
    assert everything(db) == before
    assert not forget_user(db, settings, "ann").found_nothing
    once = everything(db, but="forgotten")  # the promise is made anew, with another salt
    assert forget_user(db, settings, "ann").found_nothing
    assert everything(db, but="forgotten") == once
    with db.connect() as connection:
        assert connection.execute("SELECT count(*) FROM forgotten").fetchone() == (2 - 1,)


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "half a \ud83d"])
def test_a_name_that_is_none_is_refused(db: Database, settings: Settings, name: str) -> None:
    with pytest.raises(BadInputError, match="no name to forget"):
        forget_user(db, settings, name)


@pytest.mark.usefixtures("ids")
def test_importing_the_same_file_again_does_not_bring_them_back(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    line = {"repository": "demo", "path": "0.py", "judgement": "accept"}
    tomorrow = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    hers = {**line, "query": "of ann", "user": "ann"}
    dated = {**line, "query": "of ann, dated", "user": "ann", "at": "2026-01-01T00:00:00Z"}
    bobs = {**line, "query": "of bob", "user": "bob"}
    file = write_lines(tmp_path / "f.jsonl", hers, dated, bobs)
    assert import_feedback(db, file).added == 3
    assert forget_user(db, settings, "ann").feedback == 2
    report = import_feedback(db, file)
    assert (report.added, report.already_known, report.rejected) == (0, 1, 2)
    assert report.reasons == {"forgotten person": 2}
    assert "'ann'" not in everything(db)
    # What she says afterwards is new, whether here or in a file.
    later = write_lines(tmp_path / "g.jsonl", {**line, "query": "later", "user": "ann", "at": tomorrow})
    assert import_feedback(db, later).added == 1
    # Nor does the table of promises name her.
    with db.connect() as connection:
        (salt, name_hash, _), *none = connection.execute("SELECT * FROM forgotten").fetchall()
    assert none == []
    assert b"ann" not in bytes(salt) + bytes(name_hash)
    assert bytes(name_hash) == hashlib.sha256(bytes(salt) + b"ann").digest()


def test_if_it_fails_nothing_is_forgotten(
    db: Database, settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    before = everything(db)

    def away(*_: object) -> int:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr("pipeline.feedback.forgetting.redact_runs", away)
    with pytest.raises(UnavailableError, match="went away: gone"):
        forget_user(db, settings, "ann")
    assert everything(db) == before


def queued(search_id: str, user: str | None) -> Any:
    from pipeline.search.recording import SearchRecord

    return SearchRecord(
        search_id, datetime.now(UTC).isoformat(), f"asked by {user}", user, "web", {}, "0" * 64, 1, 2.0, ()
    )


def test_searches_that_wait_in_the_queue_go_too(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uuid import uuid4

    from pipeline.search import spool as spooling

    assert forget_in_queue(settings, "ann") == 0  # there is no queue
    # The database is away, so they wait.
    monkeypatch.setattr(spooling, "store_searches", _away)
    with spooling.SearchSpool(settings, db) as spool:
        for user in ("ann", "bob", None, "ann"):
            assert spool.record(queued(str(uuid4()), user))
        assert spool.depth == 4
        assert forget_user(db, settings, "ann").queued_searches == 2
        assert spool.depth == 2
    with sqlite3.connect(spooling.queue_path(settings)) as file:
        left = [json.loads(record)["user"] for (record,) in file.execute("SELECT record FROM records")]
    file.close()
    assert left == ["bob", None]


def test_nothing_of_them_stays_readable_in_the_queues_files_while_the_service_runs(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uuid import uuid4

    from pipeline.search import spool as spooling

    with spooling.SearchSpool(settings, db) as spool:
        assert spool.record(queued(str(uuid4()), "ann"))
        assert spool.flush()  # this one is in the database
        monkeypatch.setattr(spooling, "store_searches", _away)
        for user in ("ann", "bob"):  # these wait
            assert spool.record(queued(str(uuid4()), user))
        assert b"asked by ann" in files_of(spool.path)
        report = forget_user(db, settings, "ann")
        assert (report.searches, report.queued_searches) == (1, 1)
        assert b"asked by ann" not in files_of(spool.path)
        assert b"asked by bob" in files_of(spool.path)


def files_of(path: Path) -> bytes:
    """The queue's file with its log, as they are on disk."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def _away(*_: object) -> None:
    raise psycopg.OperationalError("away")


def test_queries_in_the_records_of_past_runs_are_replaced(
    db: Database, settings: Settings, world: World, request: pytest.FixtureRequest
) -> None:
    del world
    name = dagster_database(settings)
    create_database(settings, name)
    request.addfinalizer(_dropping(settings, name))
    table = f"| query | relevant |\n|---|---|\n| {ANNS} | f \\| g |\n| {SHARED} | g |"
    event = json.dumps({"metadata": [{"md_str": table}, {"text": f"not a table: {SHARED}"}]})
    url = database_url(settings, name)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE event_logs (id bigint, event text)")
        connection.execute("INSERT INTO event_logs VALUES (1, %s), (2, '{}')", [event])
    assert forget_user(db, settings, "ann").run_records == 1
    with psycopg.connect(url) as connection:
        (first,), (second,) = connection.execute("SELECT event FROM event_logs ORDER BY id").fetchall()
    assert first == event.replace(ANNS, "(forgotten)")
    assert second == "{}"


def test_searches_in_the_account_of_a_whole_loop_are_replaced(
    db: Database, settings: Settings, world: World
) -> None:
    """`honeloop run` through Dagster leaves its account there, as the metadata of an output."""
    import dagster as dg

    from pipeline.defs.instance import open_instance
    from pipeline.defs.results import RESULT, RunResult

    del world
    result = RunResult(
        problems=["left out"],
        examples=[(ANNS, ["demo 0.py:1 s0"], ["demo 1.py:1 s1"]), (SHARED, [], ["demo 2.py:1 s2"])],
        run_ids=["r"],
    )

    @dg.op
    def account():
        return dg.Output(None, metadata={RESULT: dg.MetadataValue.json(result.to_json())})

    @dg.job
    def whole_loop() -> None:
        account()

    with open_instance(settings) as instance:
        run_id = whole_loop.execute_in_process(instance=instance).run_id
    assert forget_user(db, settings, "ann").run_records == 1
    with open_instance(settings) as instance:
        kept = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT).records
    (event,) = [record.event_log_entry.dagster_event for record in kept]
    assert event is not None
    found = RunResult.from_json(event.step_output_data.metadata[RESULT].value)  # pyright: ignore
    assert found.examples == [("(forgotten)", *result.examples[0][1:]), result.examples[1]]
    assert (found.problems, found.run_ids) == (result.problems, result.run_ids)


def _dropping(settings: Settings, name: str) -> Callable[[], None]:
    def drop() -> None:
        with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return drop


def test_only_the_column_of_queries_is_replaced() -> None:
    table = "| | query | rank |\n|---|---|---|\n| up | a \\| b | 1 |\n| a \\| b | c | 2 |\n| x | lo… | 3 |"
    found = redacted_table(table, lambda query: query in {"a | b", "lo…"})
    assert found == (
        "| | query | rank |\n|---|---|---|\n| up | (forgotten) | 1 |\n| a \\| b | c | 2 |\n"
        "| x | (forgotten) | 3 |"
    )


def test_a_sample_of_code_with_such_a_heading_in_it_is_no_table() -> None:
    """Nor does it keep a table below it, or anybody, from being found."""
    heading = "```python\ndef shown():\n    '''Prints | query | rank |.'''\n    return a | b\n```"
    assert redacted_table(heading, lambda _: True) == heading
    table = "| query | rank |\n|:---|---:|\n| {} | 1 |"
    both = f"{heading}\n\n{table.format('lo…')}"
    assert redacted_table(both, lambda query: query == "lo…") == f"{heading}\n\n{table.format('(forgotten)')}"
