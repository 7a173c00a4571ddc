"""Searches answered by two real models in one list, and what happens when one of them cannot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, another_model, store_vectors
from assets_tests.search.models import COUNT, Model, index_of
from assets_tests.search.test_engine import QUERIES, by_hand, codes, let_serve
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.interleaving import seed_of, takes_part, team_draft
from pipeline.evaluation.online import online_evidence
from pipeline.feedback.events import add_feedback
from pipeline.index.challenging import choose_challenger, dismiss_challenger
from pipeline.index.cleaning import discard
from pipeline.index.flipping import rollback
from pipeline.search import engine as engine_module
from pipeline.search.answer import SearchAnswer
from pipeline.search.api.metrics import Metrics
from pipeline.search.encoding import QueryEncoder
from pipeline.search.engine import SearchEngine
from pipeline.search.hybrid.fusion import Weights
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.search.hybrid.words import count_words
from pipeline.search.recording import DatabaseRecorder, SearchRecord
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


@pytest.fixture
def both(db: Database, settings: Settings, first: Model, second: Model) -> Database:
    """Click's functions, served by MiniLM; the other model's index stands beside it and challenges it."""
    add_functions(db, first.functions)
    let_serve(db, index_of(db, first, settings), settings)
    index_of(db, second, settings)
    challenge(db, second)
    return db


@pytest.fixture
def shared(settings: Settings) -> Settings:
    """Every search is to be interleaved, however slow this machine is."""
    return settings.model_copy(update={"interleaving_share": 1.0, "interleaving_patience_ms": 60_000})


@pytest.fixture
def engine(both: Database, shared: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchEngine]:
    monkeypatch.setattr(engine_module, "FOLLOW_SECONDS", 0.05)
    with SearchEngine(shared, both, DatabaseRecorder(both)) as engine:
        until_it_takes_part(engine)
        yield engine


def challenge(db: Database, model: Model) -> None:
    with db.connect() as connection:
        choose_challenger(connection, model.version)


def until_it_takes_part(engine: SearchEngine) -> None:
    deadline = time.monotonic() + 60
    while engine.search(SearchRequest("warm up")).interleaved is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rows(db: Database, statement: str, *values: object) -> list[tuple[object, ...]]:
    with db.connect() as connection:
        return connection.execute(statement, values).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]


def ask(engine: SearchEngine, query: str = QUERIES[0], **asked: object) -> SearchAnswer:
    return engine.search(SearchRequest(query, **asked))  # pyright: ignore[reportArgumentType]


def test_the_list_is_drafted_from_both_rankings_and_stored_with_its_teams(
    engine: SearchEngine, db: Database, first: Model, second: Model
) -> None:
    ours, theirs = by_hand(first), by_hand(second)
    cosine = {
        query: dict(zip([f.code for f in first.functions], row, strict=True))
        for query, row in zip(
            QUERIES,
            (
                first.encoder.embed_queries(QUERIES).astype(np.float16).astype(np.float64)
                @ first.vectors.astype(np.float16).astype(np.float64).T
            ),
            strict=True,
        )
    }
    differing = 0
    for query in QUERIES:
        answer = ask(engine, query)
        assert answer.search_id is not None
        drafted = team_draft(ours[query], theirs[query], 10, seed_of(answer.search_id))
        assert codes(answer) == [pick.item for pick in drafted]
        differing += codes(answer) != ours[query]
        # Whose pick it is cannot be told: all of it has the serving model's scores, ranks and version.
        assert [each.rank for each in answer.results] == list(range(1, 11))
        for each in answer.results:
            assert each.score == pytest.approx(cosine[query][each.code], abs=2e-3)
        assert answer.model_version == first.version
        assert answer.alone is None
        assert answer.interleaved is not None
        assert answer.interleaved.candidate_version == second.version
        assert rows(
            db,
            "SELECT snippet_id, team FROM impressions WHERE search_id = %s ORDER BY rank",
            answer.search_id,
        ) == [(each.snippet_id, pick.team) for each, pick in zip(answer.results, drafted, strict=True)]
        assert rows(
            db,
            "SELECT serving_version, candidate_version FROM interleavings WHERE search_id = %s",
            answer.search_id,
        ) == [(first.version, second.version)]
    assert differing >= 6


def test_what_people_choose_is_credited_to_the_model_that_picked_it(
    engine: SearchEngine, db: Database, settings: Settings, first: Model, second: Model
) -> None:
    for number, team in enumerate(("candidate", "candidate", "serving")):
        answer = ask(engine, user=f"p{number}")
        assert answer.search_id is not None
        assert answer.interleaved is not None
        liked = next(snippet for snippet, picked in answer.interleaved.teams.items() if picked == team)
        add_feedback(db, answer.search_id, liked, "accept")
    found = online_evidence(db, second.version, first.version, settings)
    assert found is not None
    assert (found.wins, found.losses, found.ties, found.people) == (2, 1, 0, 3)
    assert found.searches > 3  # those in which nothing was chosen are counted


def test_only_the_share_takes_part_and_by_default_none(
    both: Database, settings: Settings, second: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FOLLOW_SECONDS", 0.05)
    with SearchEngine(settings, both, DatabaseRecorder(both)) as engine:
        answers = [ask(engine, query) for query in QUERIES]
        assert {(each.interleaved, each.alone) for each in answers} == {(None, None)}
        assert second.version not in engine._models._models  # nor does it cost any memory
    half = settings.model_copy(update={"interleaving_share": 0.5, "interleaving_patience_ms": 60_000})
    with SearchEngine(half, both, DatabaseRecorder(both)) as engine:
        until_it_takes_part(engine)
        answers = [ask(engine, query) for query in QUERIES * 2]
    for each in answers:
        assert each.search_id is not None
        assert (each.interleaved is not None) == takes_part(each.search_id, 0.5)
    assert len({each.interleaved is None for each in answers}) == 2
    noted = rows(both, "SELECT search_id::text FROM interleavings")
    assert {each.search_id for each in answers if each.interleaved} <= {row[0] for row in noted}


def test_filters_and_words_count_for_both(
    engine: SearchEngine, db: Database, first: Model, second: Model
) -> None:
    answer = ask(engine, path="**/_termui_impl.py", kinds=("function",), k=5)
    assert answer.interleaved is not None
    assert {each.path for each in answer.results} == {"click/_termui_impl.py"}
    assert len({each.snippet_id for each in answer.results}) == len(answer.results) == 5
    # A rare word of a function that neither model would put first by its meaning.
    rare = ("bitbucket", "kernel", "urllib", "notepad", "subsequent", "traceback", "sensible", "truncate")
    word = next(word for word in rare if not has(first, word) and not has(second, word))
    with db.connect() as connection:
        count_words(connection)
        store_weights(connection, RankingWeights(second.version, Weights(1.0, 0.0), {"fingerprint": ""}))
    for _ in range(6):  # whoever picks first
        answer = ask(engine, word)
        assert answer.interleaved is not None
        teams = list(answer.interleaved.teams.values())
        assert word in answer.results[teams.index("candidate")].code.lower()


def has(model: Model, word: str) -> bool:
    """Whether the word is in the code that is nearest to it by its meaning."""
    nearest = int(np.argmax(model.vectors @ model.encoder.embed_queries([word])[0]))
    return word in model.functions[nearest].code.lower()


def test_without_a_challenger_what_serves_answers_alone(
    engine: SearchEngine, db: Database, first: Model, second: Model
) -> None:
    with db.connect() as connection:
        assert dismiss_challenger(connection) == second.version
    answer = ask(engine)
    assert (answer.interleaved, answer.alone) == (None, "no challenger")
    assert codes(answer) == by_hand(first)[QUERIES[0]]
    challenge(db, second)
    until_it_takes_part(engine)
    (index_id,) = rows(db, "SELECT id FROM index_versions WHERE model_version = %s", second.version)[0]
    assert isinstance(index_id, int)
    assert discard(db, index_id, "dropped")
    assert ask(engine).alone == "no challenger"


def test_a_table_that_is_gone_or_a_slow_model_harms_no_search(
    engine: SearchEngine, db: Database, first: Model, second: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = by_hand(first)[QUERIES[0]]
    name = rows(db, "SELECT table_name FROM index_versions WHERE model_version = %s", second.version)[0][0]
    # Somebody holds on to the challenger's table: its part is given up, the answer is not.
    engine._interleaver._patience_ms = 150
    with db.connect() as connection:
        connection.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE".encode())
        answer = ask(engine)
        assert (answer.alone, codes(answer)) == ("slow", ours)
        assert answer.times.candidate_ms >= 150
        connection.rollback()
    assert engine.read(lambda c: c.execute("SHOW statement_timeout").fetchone()) == ("30s",)
    with db.connect() as connection:
        connection.execute(f"DROP TABLE {name}".encode())
    answer = ask(engine)
    assert (answer.alone, codes(answer)) == ("failed", ours)
    # Its model hangs, or breaks.
    may_go_on = threading.Event()
    embed = Encoder.embed_queries

    def hanging(self: Encoder, texts: list[str]) -> Vectors:
        if self.version == second.version:
            may_go_on.wait(30)
            raise RuntimeError("broken")
        return embed(self, texts)

    monkeypatch.setattr(Encoder, "embed_queries", hanging)
    slow = ask(engine, "never asked before")
    may_go_on.set()
    assert slow.alone == "slow"
    broken = ask(engine, "nor this")
    assert broken.alone == "failed"
    assert len(broken.results) == len(slow.results) == 10


def test_a_model_that_cannot_be_loaded_harms_no_search(
    both: Database, shared: Settings, first: Model, second: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FOLLOW_SECONDS", 0.05)
    expected = by_hand(first)
    away = Path(second.location).rename(f"{second.location}-away")
    try:
        with SearchEngine(shared, both, DatabaseRecorder(both)) as engine:
            for query in QUERIES:
                answer = ask(engine, query)
                assert (answer.alone, codes(answer)) == ("not loaded", expected[query])
    finally:
        away.rename(second.location)


def test_a_vector_of_another_model_is_never_searched_with(
    engine: SearchEngine, second: Model, minilm: Encoder
) -> None:
    """Equal dimensions do not make two models one."""
    stranger = QueryEncoder(another_model(minilm), cache_size=10)
    try:
        assert stranger.encoder.dims == second.encoder.dims
        draft = engine._interleaver.begin("any search", SearchRequest(QUERIES[0]))
        assert draft is not None
        draft._challenger, draft._begun = stranger, stranger.submit(QUERIES[0])
        draft.wait()
        serving = engine.serving()
        vector = serving.encoder.submit(QUERIES[0]).result()
        plain = ask(engine)
        answer = engine.read(lambda c: draft.interleave(c, serving.index, vector, plain))
        assert answer.alone == "not loaded"
        assert answer.results == plain.results
    finally:
        stranger.close()


def test_texts_that_only_one_index_has_are_nobodys_to_pick(
    engine: SearchEngine, db: Database, shared: Settings, first: Model, functions: Functions
) -> None:
    new = functions[COUNT : COUNT + 5]
    add_functions(db, new)
    store_vectors(db, first.encoder, new, first.encoder.embed_documents([f.code for f in new]))
    index_of(db, first, shared)  # what serves is extended in place; the challenger is behind
    answer = ask(engine, new[0].code)
    assert answer.results[0].code == new[0].code
    assert (answer.interleaved, answer.alone) == (None, "stale")
    # A search that none of them comes up in is interleaved all the same.
    known = {f.code for f in first.functions}
    others = [ask(engine, query) for query in QUERIES]
    assert [each.interleaved is not None for each in others] == [set(codes(each)) <= known for each in others]
    assert any(each.interleaved for each in others)


def test_flips_are_followed_midway_without_a_failed_search(
    engine: SearchEngine, db: Database, settings: Settings, first: Model, second: Model
) -> None:
    """Eight threads search while the challenger is promoted, rolled back, dismissed and chosen again."""
    stop = threading.Event()
    answers: list[SearchAnswer] = []

    def keep_asking(thread: int) -> None:
        number = thread
        while not stop.is_set():
            answers.append(ask(engine, QUERIES[number % len(QUERIES)]))
            number += 1

    def some_more() -> None:
        seen = len(answers)
        while len(answers) < seen + 24:
            time.sleep(0.01)

    (index_id,) = rows(db, "SELECT id FROM index_versions WHERE model_version = %s", second.version)[0]
    assert isinstance(index_id, int)
    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(keep_asking, number) for number in range(8)]
        try:
            some_more()
            let_serve(db, index_id, settings)
            some_more()
            rollback(db)
            some_more()
            challenge(db, second)  # its index is a retired one now
            some_more()
            challenge_ends_with_the_flip(db)
            let_back = rows(db, "SELECT state FROM index_versions WHERE id = %s", index_id)
            assert let_back == [("retired",)]
        finally:
            stop.set()
        for each in asking:
            each.result()  # raises what a search raised
    expected = {model.version: by_hand(model) for model in (first, second)}
    both_ways = {(each.model_version, each.interleaved is not None) for each in answers}
    assert both_ways >= {(first.version, True), (second.version, False), (first.version, False)}
    for each in answers:
        if each.interleaved is None:
            assert codes(each) == expected[each.model_version][each.query]
        else:
            assert (each.model_version, each.interleaved.candidate_version) == (first.version, second.version)
            allowed = set(expected[first.version][each.query]) | set(expected[second.version][each.query])
            assert set(codes(each)) <= allowed


def challenge_ends_with_the_flip(db: Database) -> None:
    """The first challenge ended when its model served; the second has not."""
    assert rows(db, "SELECT until IS NULL FROM challengers ORDER BY id") == [(False,), (True,)]


def test_metrics_tell_how_many_were_interleaved_and_why_the_others_were_not(
    engine: SearchEngine, db: Database
) -> None:
    metrics = Metrics()
    metrics.answered(ask(engine))
    with db.connect() as connection:
        dismiss_challenger(connection)
    for query in QUERIES[:2]:
        metrics.answered(ask(engine, query))
    sample = metrics.registry.get_sample_value
    name = "honeloop_interleaved_searches_total"
    assert sample(name, {"outcome": "interleaved"}) == 1
    assert sample(name, {"outcome": "no challenger"}) == 2
    spent = sample("honeloop_search_seconds_sum", {"part": "candidate"})
    assert spent is not None
    assert spent > 0
    assert sample("honeloop_search_seconds_count", {"part": "candidate"}) == 3


def test_a_record_on_disk_keeps_its_teams_and_one_of_before_has_none(
    engine: SearchEngine, db: Database, second: Model
) -> None:
    import json
    from datetime import UTC, datetime

    answer = ask(engine)
    record = SearchRecord.of("0" * 32, datetime.now(UTC), SearchRequest(QUERIES[0]), answer)
    assert record.candidate_version == second.version
    assert record.teams
    written = json.loads(json.dumps(record.to_json()))
    assert SearchRecord.from_json(written) == record
    for name in ("teams", "candidate_version"):
        del written[name]
    assert SearchRecord.from_json(written).teams == ()
