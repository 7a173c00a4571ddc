"""Mining against brute force: every choice re-made by plain loops over real MiniLM vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.training.standard_library import Function, embed, functions, named
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.feedback.grouping import group_key
from pipeline.progress import Silent
from pipeline.training import mining
from pipeline.training.mining import Corpus, Fairness, Mined, Miner, nearest
from pipeline.training.near_duplicates import NearDuplicates, are_near_duplicates, tokens_of
from pipeline.training.pairs import Candidate
from pipeline.training.splits import Separated, separate, split_of
from pipeline.training.store import Content

Vectors = NDArray[np.float32]

ASKED = {
    "middle value of some numbers": "median",
    "most frequent value": "mode",
    "copy from one open file to another": "copyfileobj",
    "wrap long lines of text": "wrap",
    "put a prefix before every line": "indent",
    "insert into a sorted list": "insort_right",
    "smallest item of a heap": "heappop",
    "how strongly two series go together": "correlation",
    "shuffle a list in place": "shuffle",
    "how much free space is on the disk": "disk_usage",
}
SETTINGS = Settings(hard_negatives=2, hard_negative_pool=40)


@pytest.fixture(scope="module")
def chosen() -> list[Function]:
    return list(functions())


@pytest.fixture(scope="module")
def corpus(minilm: Encoder, chosen: list[Function]) -> Corpus:
    hashes = [function.hash for function in chosen]
    return Corpus(
        hashes, embed(minilm, chosen), {content_hash: row for row, content_hash in enumerate(hashes)}
    )


@pytest.fixture(scope="module")
def contents(chosen: list[Function]) -> dict[bytes, Content]:
    return {
        function.hash: Content(
            function.text,
            function.undocumented,
            function.documentation is not None,
            frozenset({function.symbol.split("#")[0]}),
        )
        for function in chosen
    }


def candidate(query: str, function: Function, *, documented: bool = False) -> Candidate:
    code = function.undocumented or function.text
    return Candidate(
        origin="docstring" if documented else "feedback",
        query=query,
        group_key=group_key(query),
        split=split_of(query, SETTINGS),
        content_hash=function.hash,
        text=code if documented else function.text,
        code=code,
        weight=0.95,
        language="python",
    )


@pytest.fixture(scope="module")
def separated(chosen: list[Function]) -> Separated:
    judged = [candidate(query, named(name)) for query, name in ASKED.items()]
    documented = [
        candidate(function.documentation, function, documented=True)
        for function in chosen
        if function.documentation
    ]
    return separate([*judged, *documented[:40]], SETTINGS)


def test_what_is_around_the_positive_or_inside_it_is_no_fair_negative() -> None:
    def content(*places: str) -> Content:
        text = " ".join(f"{place}_{n}" for place in places[:1] for n in range(5)).replace(".", "_")
        return Content(text, None, False, frozenset(places), frozenset(places))

    method, holder = content("1 a.py Editor.open"), content("1 a.py Editor")
    assert holder.is_around(method)
    assert not method.is_around(holder)
    assert not content("1 b.py Editor").is_around(method)
    assert not content("1 a.py Edit").is_around(method)
    inner = content("7 x.py f", "1 a.py Editor.open.save")
    assert method.is_around(inner)
    contents = {b"m": method, b"h": holder, b"i": inner, b"o": content("1 a.py other")}
    asked = Candidate("feedback", "q", b"g", "train", b"m", method.text, method.text, 0.9, "python")
    fairness = Fairness(Separated((asked,), {}, {}, NearDuplicates(), {b"g": {b"m"}}), contents)
    reasons = [fairness.reason(asked, content_hash) for content_hash in (b"h", b"i", b"o")]
    assert reasons == ["around the positive, or inside it"] * 2 + [None]
    # Who rejected the class has looked at it.
    assert fairness.reason(asked, b"h", judged=True) is None


def test_nearest_is_exact(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = corpus.vectors[::7]
    scores = queries @ corpus.vectors.T
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :25]
    for at_once in (64_000_000, 3 * len(corpus.vectors), 1):  # in one block, in blocks of three, one by one
        monkeypatch.setattr(mining, "SCORES_AT_ONCE", at_once)
        rows, found = nearest(queries, corpus.vectors, 25)
        np.testing.assert_allclose(found, np.take_along_axis(scores, expected, axis=1), atol=1e-6)
        # Rows may be swapped where scores are equal to the last bit but one.
        np.testing.assert_allclose(np.take_along_axis(scores, rows, axis=1), found, atol=1e-6)


def test_nearest_of_less_than_is_asked_for(corpus: Corpus) -> None:
    rows, _ = nearest(corpus.vectors[:2], corpus.vectors[:3], 50)
    assert sorted(rows[0]) == [0, 1, 2]
    assert nearest(corpus.vectors[:2], corpus.vectors[:0], 5)[0].shape == (2, 0)
    assert nearest(corpus.vectors[:0], corpus.vectors, 5)[0].shape == (0, 5)


def brute_force(
    pair: Candidate,
    *,
    separated: Separated,
    corpus: Corpus,
    contents: dict[bytes, Content],
    query: Vectors,
    undocumented: dict[bytes, Vectors],
) -> list[tuple[bytes, float, float]]:
    """What mining should find for one pair: hash, score of the positive, score of the negative."""
    scores = {
        content_hash: float(query @ corpus.vectors[corpus.position[content_hash]])
        for content_hash in contents
    }
    pool = sorted(scores, key=lambda content_hash: -scores[content_hash])[: SETTINGS.hard_negative_pool]
    answers = [each.content_hash for each in separated.kept if each.group_key == pair.group_key]
    held_out = [each.code for each in separated.kept if each.split != "train"]
    limit = 0.9 if pair.origin == "docstring" else 0.95
    fair: list[bytes] = []
    for content_hash in pool:
        code = tokens_of(contents[content_hash].code)
        positive = corpus.vectors[corpus.position[pair.content_hash]]
        if (
            content_hash in answers
            or scores[content_hash] >= limit * scores[pair.content_hash]
            or contents[content_hash].names & contents[pair.content_hash].names
            or any(are_near_duplicates(code, tokens_of(contents[answer].code)) for answer in answers)
            or corpus.vectors[corpus.position[content_hash]] @ positive > 0.95
            or (
                pair.split == "train"
                and any(are_near_duplicates(code, tokens_of(other)) for other in held_out)
            )
        ):
            continue
        fair.append(content_hash)
    if pair.origin == "docstring":
        scores = {each: float(query @ undocumented[each]) for each in [*fair, pair.content_hash]}
        fair = [each for each in fair[:16] if scores[each] < 0.95 * scores[pair.content_hash]]
        fair.sort(key=lambda content_hash: -scores[content_hash])
    return [(each, scores[pair.content_hash], scores[each]) for each in fair[: SETTINGS.hard_negatives]]


@pytest.fixture(scope="module")
def mined(
    minilm: Encoder, corpus: Corpus, contents: dict[bytes, Content], separated: Separated
) -> tuple[Miner, list[list[Mined]]]:
    miner = Miner(minilm, corpus, separated.kept, SETTINGS, Silent())
    found = miner.mine(
        [SETTINGS.hard_negatives] * len(separated.kept), Fairness(separated, contents), contents
    )
    return miner, found


def test_mining_finds_what_brute_force_finds(
    minilm: Encoder,
    corpus: Corpus,
    contents: dict[bytes, Content],
    separated: Separated,
    mined: tuple[Miner, list[list[Mined]]],
) -> None:
    texts = [content.code for content in contents.values() if content.undocumented]
    cut = [content_hash for content_hash, content in contents.items() if content.undocumented]
    undocumented = {each: corpus.vectors[corpus.position[each]] for each in contents}
    undocumented.update(zip(cut, minilm.embed_documents(texts), strict=True))
    queries = minilm.embed_queries([pair.query for pair in separated.kept])
    miner, found = mined
    assert {pair.origin for pair in separated.kept} == {"feedback", "docstring"}
    for pair, query, negatives in zip(separated.kept, queries, found, strict=True):
        expected = brute_force(
            pair,
            separated=separated,
            corpus=corpus,
            contents=contents,
            query=query,
            undocumented=undocumented,
        )
        assert [negative.content_hash for negative in negatives] == [each for each, _, _ in expected], (
            pair.query
        )
        for negative, (_, positive_score, negative_score) in zip(negatives, expected, strict=True):
            assert negative.positive_score == pytest.approx(positive_score, abs=1e-4)
            assert negative.negative_score == pytest.approx(negative_score, abs=1e-4)
            assert negative.negative_score < 0.95 * negative.positive_score
    assert miner.tally.over_threshold > 0
    assert sum(map(len, found)) > len(found)


def test_each_rule_has_something_to_do(mined: tuple[Miner, list[list[Mined]]]) -> None:
    assert {"same name as the positive", "held out for measuring"} <= mined[0].tally.passed.keys()


def test_no_negative_is_better_than_one_over_the_threshold(
    minilm: Encoder, corpus: Corpus, contents: dict[bytes, Content]
) -> None:
    # The positive has nothing to do with the query, so all that is near the query beats it.
    wrong = separate([candidate("how much free space is on the disk", named("indent"))], SETTINGS)
    miner = Miner(minilm, corpus, wrong.kept, SETTINGS, Silent())
    assert miner.mine([2], Fairness(wrong, contents), contents) == [[]]
    assert miner.tally.without == {"feedback": 1}
    tally = miner.tally
    assert (tally.candidates, tally.over_threshold, tally.taken) == (40, 40, 0)
    assert tally.at_thresholds["feedback"].rejected[0.95] == 40
    assert tally.at_thresholds["feedback"].pairs_without[0.95] == 1
    assert miner.tally.over_threshold == SETTINGS.hard_negative_pool


def test_copies_of_the_positive_are_never_mined_and_are_counted(
    minilm: Encoder, chosen: list[Function], contents: dict[bytes, Content]
) -> None:
    positive = named("heappop")
    assert positive.undocumented is not None
    # The very same under another name; and without its documentation, with the variable renamed as well.
    same = [
        text.replace("def heappop(", "def heappop_of_all(") for text in (positive.text, positive.undocumented)
    ]
    renamed = positive.undocumented.replace("def heappop(", "def work_it_out(").replace("lastelt", "end")
    planted = [
        replace(positive, symbol="heappop_of_all", text=same[0], undocumented=same[1]),
        replace(positive, symbol="work_it_out", text=renamed, documentation=None, undocumented=None),
    ]
    separated = separate([candidate("smallest item of a heap", positive)], SETTINGS)
    # Everything is looked at, and taken but for what is over the positive's own score or no fair negative.
    settings = SETTINGS.model_copy(update={"hard_negative_pool": 2000, "hard_negative_max_ratio": 1.0})

    def mined_from(functions: list[Function]) -> tuple[Miner, set[bytes]]:
        hashes = [function.hash for function in functions]
        corpus = Corpus(hashes, embed(minilm, functions), {each: row for row, each in enumerate(hashes)})
        known = contents | {
            copy.hash: Content(
                copy.text, copy.undocumented, copy.undocumented is not None, frozenset({copy.symbol})
            )
            for copy in planted
        }
        miner = Miner(minilm, corpus, separated.kept, settings, Silent())
        (found,) = miner.mine([2000], Fairness(separated, known), known)
        return miner, {each.content_hash for each in found}

    without, taken = mined_from(chosen)
    with_copies, taken_then = mined_from([*chosen, *planted])
    assert len(taken) > 100
    assert taken_then == taken
    assert with_copies.tally.over_threshold == without.tally.over_threshold
    assert with_copies.tally.passed - without.tally.passed == {
        "same code as the positive": 1,
        "near-duplicate of an answer": 1,
    }


def test_what_somebody_liked_is_never_mined(
    minilm: Encoder, corpus: Corpus, contents: dict[bytes, Content]
) -> None:
    asked = candidate("middle value of some numbers", named("median"))
    plain = separate([asked], SETTINGS)
    before = Miner(minilm, corpus, plain.kept, SETTINGS, Silent()).mine(
        [1], Fairness(plain, contents), contents
    )
    liked = before[0][0].content_hash
    unsure = separate([replace(asked, unsure=frozenset({liked}))], SETTINGS)
    after = Miner(minilm, corpus, unsure.kept, SETTINGS, Silent()).mine(
        [1], Fairness(unsure, contents), contents
    )
    assert after[0][0].content_hash != liked
