"""The training set as a whole: built of real feedback and documentation, stored, found again, and sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assets_tests.feedback.world import show, write_lines
from assets_tests.training.standard_library import Function, add_functions, add_vectors, functions, named
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, HoneloopError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.importing import import_feedback
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database
from pipeline.training.documentation_pairs import unusable
from pipeline.training.pairs import Pair, Split, TrainingSet
from pipeline.training.splits import split_of
from pipeline.training.training_set import (
    build_training_set,
    load_training_set,
    no_leakage,
    validate_triplets,
)

ASKED = {
    "middle value of some numbers": "median",
    "most frequent values": "multimode",
    "copy from one open file to another": "copyfileobj",
    "put a prefix before every line": "indent",
    "smallest item of a heap": "heappop",
    "how strongly two series go together": "correlation",
    "shuffle a list in place": "shuffle",
    "bring a text to a maximal width": "shorten",
}


@pytest.fixture(scope="module")
def chosen() -> list[Function]:
    wanted = {named(name) for name in [*ASKED.values(), "mean", "stdev", "wrap", "heappush"]}
    documented = [function for function in functions() if function.documentation]
    plain = [function for function in functions() if not function.documentation]
    return list(dict.fromkeys([*sorted(wanted, key=lambda f: f.text), *documented[:50], *plain[:40]]))


@pytest.fixture
def ids(db: Database, minilm: Encoder, chosen: list[Function]) -> dict[bytes, int]:
    """The code with its vectors, and what people judged; snippet ids by content hash."""
    found = add_functions(db, chosen)
    add_vectors(db, minilm, chosen)
    return found


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"min_pairs": 10, "hard_negatives": 2})


@pytest.fixture
def judged(db: Database, ids: dict[bytes, int]) -> None:
    for query, name in ASKED.items():
        snippet = ids[named(name).hash]
        add_feedback(db, show(db, query, [snippet], user="ann"), snippet, "accept")


def build(db: Database, minilm: Encoder, settings: Settings) -> TrainingSet:
    return build_training_set(db, minilm, settings, Silent())


@pytest.mark.usefixtures("judged")
def test_a_set_is_built_stored_and_found_again(
    db: Database, minilm: Encoder, small: Settings, chosen: list[Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(db, minilm, small)
    by_hash = {function.hash: function for function in chosen}
    assert not built.reused
    assert built.model_version == minilm.version
    assert {pair.query for pair in built.pairs if pair.origin == "feedback"} == set(ASKED)
    assert {pair.split for pair in built.pairs} == {"train", "validation", "test"}
    for pair in built.pairs:
        function = by_hash[pair.positive_hash]
        assert pair.split == split_of(pair.query, small)
        assert 0 < pair.weight <= 0.95
        if pair.origin == "feedback":
            assert pair.positive_text == function.text
            assert all(each.text == by_hash[each.content_hash].text for each in pair.negatives)
        else:
            assert pair.query == function.documentation
            assert pair.positive_text == function.undocumented
            for negative in pair.negatives:
                other = by_hash[negative.content_hash]
                assert negative.text == (other.undocumented or other.text)
        for negative in pair.negatives:
            assert negative.reason == "mined"
            assert negative.positive_score is not None
            assert negative.negative_score is not None
            assert negative.negative_score < small.hard_negative_max_ratio * negative.positive_score
    assert validate_triplets(built) == []
    assert no_leakage(built) == []
    counts = built.counts
    assert sum(sum(each.values()) for each in counts["pairs"].values()) == len(built.pairs)
    assert counts["negatives"] == {"mined": sum(len(pair.negatives) for pair in built.pairs)}
    assert counts["mining"]["margin"]["p5"] > 0
    assert counts["mining"]["over_threshold"] > 0

    # What is stored is what was built, under any way of asking for it.
    assert replace(load_training_set(db, built.id), reused=False) == built
    assert replace(load_training_set(db), reused=False) == built
    with monkeypatch.context() as patched:
        patched.setattr(minilm, "embed_queries", _must_not_be_called)
        again = build(db, minilm, small)
    assert again.reused
    assert replace(again, reused=False) == built

    # Another setting that decides the pairs' negatives is another set; the same result has the same name.
    other = build(db, minilm, small.model_copy(update={"hard_negatives": 1}))
    assert not other.reused
    assert other.fingerprint != built.fingerprint
    wider = build(db, minilm, small.model_copy(update={"max_documentation_pairs": 1400}))
    assert (wider.id, wider.fingerprint) == (built.id, built.fingerprint)


def _must_not_be_called(texts: object) -> None:
    raise AssertionError("a stored set is mined again")


@pytest.mark.usefixtures("judged")
def test_growth_keeps_every_pair_on_its_side(
    db: Database, minilm: Encoder, small: Settings, ids: dict[bytes, int]
) -> None:
    no_mining = small.model_copy(update={"hard_negatives": 0})
    before = build(db, minilm, no_mining)
    for name in ("mean", "stdev", "wrap", "heappush"):
        snippet = ids[named(name).hash]
        add_feedback(db, show(db, f"please find {name}", [snippet], user="bob"), snippet, "accept")
    after = build(db, minilm, no_mining)
    assert not after.reused
    sides = {(pair.query, pair.positive_hash): pair.split for pair in after.pairs}
    assert len(after.pairs) > len(before.pairs) - 4
    for pair in before.pairs:
        assert sides.get((pair.query, pair.positive_hash), pair.split) == pair.split
    assert no_leakage(after) == []


@pytest.mark.usefixtures("judged")
def test_what_is_liked_a_little_is_spared_though_no_pair_changes(
    db: Database, minilm: Encoder, small: Settings, ids: dict[bytes, int]
) -> None:
    no_mining = small.model_copy(update={"hard_negatives": 0})
    query = query_for("train", small)
    shown = [ids[named(name).hash] for name in ("mean", "wrap", "shuffle", "heappop", "correlation")]
    add_feedback(db, show(db, query, shown[:1]), shown[0], "accept")

    def pair_of(built: TrainingSet) -> Pair:
        return next(pair for pair in built.pairs if pair.query == query)

    liked = named("correlation").hash
    before = build(db, minilm, no_mining)
    assert not pair_of(before).spares(liked)
    # A click as far down as this is not sure enough for a pair.
    add_feedback(db, show(db, query, shown, user="bob"), shown[4], "click")
    after = build(db, minilm, no_mining)
    assert [pair.positive_hash for pair in after.pairs] == [pair.positive_hash for pair in before.pairs]
    assert pair_of(after).spares(liked)
    assert after.fingerprint != before.fingerprint


def query_for(split: Split, settings: Settings, start: int = 0) -> str:
    return next(
        f"find it {n}" for n in range(start, start + 9999) if split_of(f"find it {n}", settings) == split
    )


def test_peoples_negatives_come_first_and_only_fair_ones(
    db: Database, minilm: Encoder, small: Settings, ids: dict[bytes, int]
) -> None:
    def snippet(name: str) -> int:
        return ids[named(name).hash]

    tested = query_for("test", small)
    add_feedback(db, show(db, tested, [snippet("mean")]), snippet("mean"), "accept")
    query = query_for("train", small)
    shown = ["wrap", "shuffle", "heappop", "correlation", "mean", "median"]
    search = show(db, query, [snippet(name) for name in shown])
    add_feedback(db, search, snippet("median"), "accept")
    add_feedback(db, search, snippet("correlation"), "reject")
    add_feedback(db, search, snippet("mean"), "reject")  # but it is what a test query asks for
    built = build(db, minilm, small)
    pair = next(pair for pair in built.pairs if pair.query == query)
    assert pair.negatives[0].reason == "rejected"
    assert pair.negatives[0].content_hash == named("correlation").hash
    # Of the three passed over, as many as are wanted; then there is nothing left to mine.
    assert [negative.reason for negative in pair.negatives] == ["rejected", "passed-over"]
    assert [negative.weight for negative in pair.negatives] == [1, 0.5]  # as stored and read back
    assert all(
        negative.weight == 1 for other in built.pairs for negative in other.negatives if other is not pair
    )
    assert built.counts["judged_negatives_dropped"] == {"held out for measuring": 1}
    assert built.counts["negatives"]["rejected"] == 1
    assert no_leakage(built) == []


def test_too_few_pairs_say_how_many_of_which_origin_and_what_to_do(
    db: Database, minilm: Encoder, settings: Settings, ids: dict[bytes, int], tmp_path: Path
) -> None:
    good = {"repository": "stdlib", "path": "statistics.py"}
    symbol = named("median").symbol
    file = write_lines(
        tmp_path / "f.jsonl",
        *({**good, "symbol": symbol, "query": f"query {n}", "judgement": "accept"} for n in range(3)),
        {**good, "symbol": symbol, "query": "even", "judgement": "accept"},
        {**good, "symbol": symbol, "query": "even", "judgement": "reject"},
    )
    import_feedback(db, file)
    documented = settings.model_copy(update={"min_pairs": 1, "hard_negatives": 0})
    docstring = sum(pair.origin == "docstring" for pair in build(db, minilm, documented).pairs)
    assert 0 < docstring < 90
    with pytest.raises(HoneloopError) as failed:
        build(db, minilm, settings)
    message = failed.value.message
    assert f"{docstring} from documentation" in message
    assert "100 are needed" in message
    assert " from feedback" in message
    assert "1 feedback: contradictory" in message
    assert "honeloop feedback import" in failed.value.hint
    assert "honeloop source add" in failed.value.hint
    assert failed.value.exit_code == 1


def test_nothing_at_all(db: Database, minilm: Encoder, settings: Settings) -> None:
    ensure_registered(db, minilm, "minilm")
    with pytest.raises(HoneloopError, match=r"0 real pairs.*0 from feedback, 0 from documentation"):
        build(db, minilm, settings)
    with pytest.raises(BadInputError, match="no training set yet"):
        load_training_set(db)
    with pytest.raises(BadInputError, match="no training set 7"):
        load_training_set(db, 7)


def test_only_held_out_pairs_train_nothing(
    db: Database, minilm: Encoder, settings: Settings, ids: dict[bytes, int]
) -> None:
    few = settings.model_copy(update={"min_pairs": 1, "max_documentation_pairs": 0})
    with pytest.raises(HoneloopError, match="none is left to train on"):
        build(db, minilm, few)


def test_code_without_vectors_is_an_error(
    db: Database, minilm: Encoder, small: Settings, chosen: list[Function]
) -> None:
    add_functions(db, chosen)
    ensure_registered(db, minilm, "minilm")
    with pytest.raises(HoneloopError, match="have no vector"):
        build(db, minilm, small)


def test_boilerplate_and_near_nothing_are_no_queries(
    db: Database, minilm: Encoder, small: Settings, ids: dict[bytes, int]
) -> None:
    with db.connect() as connection:
        for row, documentation in enumerate(
            ["See the base class.", "see the  BASE class."] * 2
            + ["x 1 2 3 = 4 + 5", "(0, 1) -> [2, 3] ok fine no"]
        ):
            connection.execute(
                "UPDATE contents SET documentation = %s WHERE content_hash = ("
                "SELECT content_hash FROM contents WHERE undocumented_text IS NOT NULL "
                "ORDER BY content_hash OFFSET %s LIMIT 1)",
                [documentation, row],
            )
    built = build(db, minilm, small.model_copy(update={"hard_negatives": 0}))
    dropped = built.counts["dropped"]["docstring"]
    assert dropped["boilerplate documentation"] == 4
    assert dropped["documentation too short"] == 1
    assert dropped["documentation not prose"] == 1


@pytest.mark.parametrize(
    ("documentation", "reason"),
    [
        ("Return the middle value.", None),
        ("Вычисляет среднее значение списка чисел", None),
        ("foo(a, b)", "documentation too short"),
        ("==== ---- a1 b2 c3 ====", "documentation too short"),
        ("abc def ghi 1234567890 -> {1: 2}", "documentation not prose"),
    ],
)
def test_what_documentation_is_like_a_query(documentation: str, reason: str | None) -> None:
    assert unusable(documentation) == reason


def _first(pairs: tuple[Pair, ...], fits: Callable[[Pair], bool]) -> Pair:
    return next(pair for pair in pairs if fits(pair))


@pytest.mark.usefixtures("judged")
def test_the_checks_catch_what_is_planted(db: Database, minilm: Encoder, small: Settings) -> None:
    built = build(db, minilm, small)

    def with_pair(pair: Pair, **changes: object) -> TrainingSet:
        others = tuple(each for each in built.pairs if each is not pair)
        return replace(built, pairs=(*others, replace(pair, **changes)))  # pyright: ignore[reportArgumentType]

    train = _first(built.pairs, lambda pair: pair.split == "train" and len(pair.negatives) > 0)
    test = _first(built.pairs, lambda pair: pair.split == "test")
    negative = train.negatives[0]
    copied = f"{test.positive_text}\n# a copy"

    leaks = {
        "its query is on the": with_pair(train, query=f" {test.query.upper()}"),
        "its snippet is on the": with_pair(train, positive_hash=test.positive_hash),
        "a near-duplicate of its snippet": with_pair(
            train, positive_hash=b"x" * 32, positive_text=copied, positive_code=test.positive_code
        ),
        "a negative of it is a positive of the test side": with_pair(
            train, negatives=(replace(negative, text=copied, code=test.positive_code),)
        ),
    }
    for expected, planted in leaks.items():
        problems = no_leakage(planted)
        assert any(expected in problem for problem in problems), expected
        # They go into records of runs, where a forgotten person's query would stay.
        for query in (train.query, test.query):
            assert not any(query[:20].casefold() in problem.casefold() for problem in problems)

    faults = {
        "is a positive of the query": replace(negative, content_hash=train.positive_hash),
        "has the positive's text": replace(negative, text=f" {train.positive_text}\n"),
        "is a near-duplicate of it": replace(
            negative, text=f"{train.positive_text}\n# copied", code=train.positive_code
        ),
        "its query is a mined negative": replace(negative, text=train.query.upper()),
    }
    for expected, planted in faults.items():
        problems = validate_triplets(with_pair(train, negatives=(planted,)))
        assert any(expected in problem for problem in problems), expected
    problems = validate_triplets(with_pair(train, positive_text=train.query))
    assert any("its query is its positive" in problem for problem in problems)
    assert Counter(len(pair.negatives) for pair in built.pairs)[2] > 0
