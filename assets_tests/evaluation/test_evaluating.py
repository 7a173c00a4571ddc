"""Evaluation on test pairs: real models over a real corpus, against rankings made by sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from assets_tests.evaluation.small_corpus import SIZE, Function, add_snippet, functions, sha
from assets_tests.index.click_corpus import another_model
from assets_tests.index.nights import CleansInBetween, has_vectors, turn_down
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.compare import compare
from pipeline.evaluation.evaluating import evaluate_model, evaluate_on, freeze_test_set, stored_precision
from pipeline.evaluation.frozen_sets import freeze
from pipeline.evaluation.results import Evaluation, QueryResult
from pipeline.index.cleaning import clean_up
from pipeline.index.embeddings import load_vectors
from pipeline.progress import Progress, Silent
from pipeline.promotion import registry
from pipeline.search.hybrid.exactly import SearchOrder
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.words import count_words, query_words
from pipeline.store.connections import Database
from pipeline.training.pairs import Negative, Pair, TrainingSet

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"bootstrap_resamples": 200})


def documentation_pair(function: Function, *negatives: Function) -> Pair:
    return Pair(
        id=0,
        split="test",
        origin="docstring",
        query=function.documentation,
        positive_hash=function.content_hash,
        positive_text=function.undocumented,
        weight=1.0,
        language="python",
        group_key=b"",
        negatives=tuple(
            Negative(each.content_hash, each.undocumented, "mined", None, None) for each in negatives
        ),
    )


def feedback_pair(query: str, content_hash: bytes, text: str, language: str = "python") -> Pair:
    return Pair(
        id=0,
        split="test",
        origin="feedback",
        query=query,
        positive_hash=content_hash,
        positive_text=text,
        weight=0.95,
        language=language,
        group_key=b"",
    )


def training_set(pairs: Sequence[Pair]) -> TrainingSet:
    return TrainingSet(
        id=1, fingerprint="f", pairs_fingerprint="p", model_version="m", counts={}, pairs=tuple(pairs)
    )


def evaluate(
    db: Database, encoder: Encoder, pairs: TrainingSet, settings: Settings, progress: Progress
) -> Evaluation:
    """On the test pairs, as the night does."""
    return evaluate_model(db, encoder, freeze_test_set(db, pairs), settings, progress)


def result_for(evaluation: Evaluation, query: str) -> QueryResult:
    return next(each for each in evaluation.per_query if each.query == query)


def test_every_documentation_query_ranks_its_code_without_its_documentation(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    asked = functions()[::3]
    evaluation = evaluate(
        indexed, minilm, training_set([documentation_pair(each) for each in asked]), quick, Silent()
    )
    hashes, vectors = load_vectors(indexed, minilm.version)
    queries = minilm.embed_queries([each.documentation for each in asked])
    cut = stored_precision(minilm.embed_documents([each.undocumented for each in asked]))
    scores = queries @ vectors.T
    truth = np.zeros_like(scores, dtype=int)
    for row, each in enumerate(asked):
        place = hashes.index(each.content_hash)
        scores[row, place] = queries[row] @ cut[row]
        truth[row, place] = 1
    ranks = (scores > (scores * truth).sum(axis=1, keepdims=True) + 1e-6).sum(axis=1) + 1

    assert (evaluation.queries, evaluation.corpus) == (len(asked), SIZE)
    assert [result_for(evaluation, each.documentation).rank for each in asked] == ranks.tolist()
    assert evaluation.overall["ndcg@10"].mean == pytest.approx(ndcg_score(truth, scores, k=10))
    interval = evaluation.overall["recall@5"]
    assert interval.mean == pytest.approx((ranks <= 5).mean())
    assert interval.low <= interval.mean <= interval.high
    assert set(evaluation.slices["origin"]) == {"docstring"}
    assert set(evaluation.slices["language"]) == {"python"}
    # With the documentation left in, every query finds itself: cutting it out is what makes this a test.
    whole = (queries @ vectors.T > ((queries @ vectors.T) * truth).sum(axis=1, keepdims=True)).sum(axis=1) + 1
    assert whole.mean() < ranks.mean()


def test_code_that_is_ranked_without_its_documentation_has_the_words_of_what_is_left(
    indexed: Database, minilm: Encoder, click_vectors: NDArray[np.float32], quick: Settings
) -> None:
    """As searches rank: against the order over a corpus in which the code really stands without it."""
    weights = Weights(0.8, 0.4)
    asked = functions()[::6]
    with indexed.connect() as connection:
        count_words(connection)
    pairs = [documentation_pair(each) for each in asked]
    meaning = freeze_test_set(indexed, training_set(pairs))
    searched = freeze(indexed, meaning.queries, meaning.corpus, weights)
    assert searched.name != meaning.name
    alone = evaluate_on(indexed, minilm, meaning, quick, Silent())
    evaluation = evaluate_on(indexed, minilm, searched, quick, Silent())
    assert (alone.ranking, evaluation.ranking) == (MEANING_ALONE, weights)
    ranks: list[int] = []
    undocumented = minilm.embed_documents([each.undocumented for each in asked])
    for each, vector in zip(asked, undocumented, strict=True):
        others = [row for row, other in enumerate(functions()) if other is not each]
        add_snippet(indexed, each.undocumented, path="cut.py", symbol=each.symbol)
        vectors = stored_precision(np.vstack([vector, click_vectors[others]]))
        hashes = [sha(each.undocumented), *(functions()[row].content_hash for row in others)]
        cosines = vectors @ minilm.embed_queries([each.documentation])[0]
        with indexed.connect() as connection:
            words = query_words(connection, each.documentation)
            scores = SearchOrder(connection, hashes, vectors, weights).rescored(words, cosines)
        ranks.append(int((scores > scores[0] + 1e-6).sum()) + 1)
    assert [result_for(evaluation, each.documentation).rank for each in asked] == ranks
    assert ranks != [result_for(alone, each.documentation).rank for each in asked]
    # What is stored says how it ranked.
    assert evaluate_on(indexed, minilm, searched, quick, Silent()).ranking == weights


def test_other_code_with_the_same_documentation_stays_as_it_is(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    target = functions()[4]
    pair = documentation_pair(target)
    alone = evaluate(indexed, minilm, training_set([pair]), quick, Silent())
    add_snippet(indexed, f'"""{target.documentation}"""\nx = 1', path="other.py", symbol="x")
    joined = evaluate(indexed, minilm, training_set([pair]), quick, Silent())
    assert joined.test_set != alone.test_set
    assert joined.per_query[0].rank == alone.per_query[0].rank + 1


def test_the_same_code_without_documentation_elsewhere_is_the_same_answer(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    target = functions()[4]
    pair = documentation_pair(target)
    alone = evaluate(indexed, minilm, training_set([pair]), quick, Silent())
    add_snippet(indexed, target.undocumented, path="stripped.py", symbol="x")
    joined = evaluate(indexed, minilm, training_set([pair]), quick, Silent())
    assert joined.corpus == SIZE + 1
    assert joined.per_query[0].rank == alone.per_query[0].rank


def test_a_query_with_several_positives_is_one_query(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    first, second, third = functions()[0], functions()[7], functions()[15]
    pairs = [
        feedback_pair("Open a  file", first.content_hash, first.code),
        feedback_pair("open a file", second.content_hash, second.code),
        feedback_pair("open a file", second.content_hash, second.code),
        replace(documentation_pair(third), query="open a file"),
    ]
    evaluation = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert evaluation.queries == 2
    asked = next(each for each in evaluation.per_query if each.origin == "feedback")
    hashes, vectors = load_vectors(indexed, minilm.version)
    order = np.argsort(-(vectors @ minilm.embed_queries([asked.query])[0]))
    ranks = sorted([hashes[i] for i in order].index(each.content_hash) + 1 for each in (first, second))
    assert asked.rank == ranks[0]
    assert asked.metrics["recall@5"] == sum(rank <= 5 for rank in ranks) / 2
    assert asked.metrics["recall@100"] == 1


def test_triplets_are_judged_by_the_texts_in_their_pairs(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    target, near, far = functions()[0], functions()[1], functions()[-1]
    evaluation = evaluate(
        indexed, minilm, training_set([documentation_pair(target, near, far)]), quick, Silent()
    )
    query = minilm.embed_queries([target.documentation])[0]
    positive, *negatives = minilm.embed_documents([f.undocumented for f in (target, near, far)]) @ query
    margins = sorted(float(positive - negative) for negative in negatives)
    assert sorted(evaluation.margins) == pytest.approx(margins, abs=1e-3)
    assert evaluation.overall["triplet_accuracy"].mean == np.mean([margin > 0 for margin in margins])


def test_a_query_without_triplets_has_no_triplet_accuracy(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    pairs = [documentation_pair(functions()[0]), documentation_pair(functions()[1], functions()[2])]
    evaluation = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert evaluation.overall["triplet_accuracy"].count == 1
    assert evaluation.overall["ndcg@10"].count == 2


def test_a_worse_model_measures_worse_and_pairs_query_by_query(
    indexed: Database, minilm: Encoder, blurred: Encoder, quick: Settings
) -> None:
    registry.ensure_registered(indexed, blurred, "/blurred")
    pairs = training_set([documentation_pair(each) for each in functions()])
    good = evaluate(indexed, minilm, pairs, quick, Silent())
    # None of the blurred model's vectors are there yet: they are made.
    bad = evaluate(indexed, blurred, pairs, quick, Silent())
    assert bad.test_set == good.test_set
    assert [each.query_key for each in bad.per_query] == [each.query_key for each in good.per_query]
    comparison = compare(bad, good, quick)
    assert comparison.overall["ndcg@10"].high < 0
    assert comparison.harmed
    stored = registry.get_record(indexed, blurred.version).metrics["evaluation"]
    assert stored["overall"]["ndcg@10"][0] == pytest.approx(bad.overall["ndcg@10"].mean)
    assert stored["test_set"] == bad.test_set


def test_a_stored_evaluation_is_reused_until_the_corpus_or_the_questions_change(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    pairs = [documentation_pair(each) for each in functions()[:4]]
    first = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    again = evaluate(indexed, minilm, training_set(list(reversed(pairs))), quick, Silent())
    assert not first.reused
    assert again == replace(first, reused=True, margins=again.margins)
    fewer = evaluate(indexed, minilm, training_set(pairs[:3]), quick, Silent())
    assert not fewer.reused
    add_snippet(indexed, "def quite_new(): ...", path="new.py", symbol="quite_new")
    grown = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert (grown.reused, grown.corpus) == (False, SIZE + 1)
    assert len({first.test_set, fewer.test_set, grown.test_set}) == 3


def test_code_that_is_gone_is_not_asked_for(indexed: Database, minilm: Encoder, quick: Settings) -> None:
    gone, kept = functions()[0], functions()[1]
    with indexed.connect() as connection:
        connection.execute(
            "UPDATE snippets SET vanished_at = now() WHERE content_hash = %s", [gone.content_hash]
        )
    pairs = [documentation_pair(gone), documentation_pair(kept)]
    evaluation = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert (evaluation.queries, evaluation.corpus) == (1, SIZE - 1)
    with pytest.raises(HoneloopError, match="no test pair's code is in the corpus"):
        evaluate(indexed, minilm, training_set(pairs[:1]), quick, Silent())


def test_only_test_pairs_are_measured(indexed: Database, minilm: Encoder, quick: Settings) -> None:
    pairs = [
        documentation_pair(functions()[0]),
        replace(documentation_pair(functions()[1]), split="train"),
        replace(documentation_pair(functions()[2]), split="validation"),
    ]
    evaluation = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert [each.query for each in evaluation.per_query] == [functions()[0].documentation]


def test_languages_and_origins_are_broken_down(indexed: Database, minilm: Encoder, quick: Settings) -> None:
    text = "function openDoor() { return door.open(); }"
    pairs = [
        documentation_pair(functions()[0]),
        documentation_pair(functions()[1]),
        feedback_pair(
            "open the door", add_snippet(indexed, text, path="door.js", symbol="openDoor"), text, "javascript"
        ),
    ]
    assert sha(text) == pairs[-1].positive_hash
    evaluation = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    assert {name: means["mrr@10"].count for name, means in evaluation.slices["language"].items()} == {
        "javascript": 1,
        "python": 2,
    }
    assert {name: means["mrr@10"].count for name, means in evaluation.slices["origin"].items()} == {
        "docstring": 2,
        "feedback": 1,
    }
    assert evaluation.slices["language"]["javascript"]["recall@1"].mean == 1


def test_the_vectors_of_an_old_model_are_not_cleaned_away_before_they_are_ranked(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    old = another_model(minilm, "old")
    registry.ensure_registered(indexed, old, "old")
    turn_down(indexed, old.version, minilm.version)
    pairs = training_set([documentation_pair(each) for each in functions()[:3]])
    progress = CleansInBetween(indexed, minilm.version)
    evaluation = evaluate(indexed, old, pairs, quick, progress)
    assert (progress.cleaned, evaluation.queries) == (1, 3)
    clean_up(indexed, minilm.version, keep=0)
    assert not has_vectors(indexed, old.version)
