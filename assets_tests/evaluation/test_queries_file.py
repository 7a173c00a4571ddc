"""`honeloop evaluate`: a file of queries over a real corpus, against rankings made by sorting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from assets_tests.evaluation.small_corpus import SIZE, Function, add_snippet, functions
from assets_tests.index.click_corpus import another_model
from assets_tests.index.nights import CleansInBetween, has_vectors, turn_down
from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.queries_file import QueryFileReport, evaluate_queries
from pipeline.index.cleaning import clean_up
from pipeline.index.embeddings import load_vectors
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.search.hybrid.exactly import SearchOrder
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.search.hybrid.words import count_words, query_words
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


def entry(function: Function, *, whole_file: bool = False) -> dict[str, str]:
    found = {"repository": "click", "path": function.path}
    return found if whole_file else found | {"symbol": function.symbol}


def line(query: str, *relevant: dict[str, str]) -> dict[str, Any]:
    return {"query": query, "relevant": list(relevant)}


class Bench:
    """One database and model, asked about files of queries."""

    def __init__(self, db: Database, encoder: Encoder, settings: Settings, directory: Path) -> None:
        self.db, self.encoder, self.settings = db, encoder, settings
        self.file = directory / "queries.jsonl"

    def evaluate(self, *lines: dict[str, Any] | str | bytes) -> QueryFileReport:
        texts = [json.dumps(each) if isinstance(each, dict) else each for each in lines]
        written = [each if isinstance(each, bytes) else each.encode() for each in texts]
        self.file.write_bytes(b"\n".join(written) + b"\n")
        return evaluate_queries(self.db, self.encoder, self.file, Silent(), self.settings)

    def order(self, query: str) -> list[bytes]:
        """All live contents, the most similar first."""
        hashes, vectors = load_vectors(self.db, self.encoder.version)
        scores = vectors @ self.encoder.embed_queries([query])[0]
        return [hashes[i] for i in np.argsort(-scores)]

    def rank(self, query: str, content_hash: bytes) -> int:
        return self.order(query).index(content_hash) + 1


@pytest.fixture
def bench(indexed: Database, minilm: Encoder, settings: Settings, tmp_path: Path) -> Bench:
    return Bench(indexed, minilm, settings, tmp_path)


def test_the_metrics_are_those_of_an_independent_ranking(bench: Bench) -> None:
    asked = functions()[::2]
    report = bench.evaluate(*[line(each.documentation, entry(each)) for each in asked])

    hashes, vectors = load_vectors(bench.db, bench.encoder.version)
    scores = bench.encoder.embed_queries([each.documentation for each in asked]) @ vectors.T
    truth = np.array([[int(h == each.content_hash) for h in hashes] for each in asked])
    ranks = (scores > (scores * truth).sum(axis=1, keepdims=True)).sum(axis=1) + 1

    assert report.model_version == bench.encoder.version
    assert (report.queries, report.corpus, report.unmatched) == (len(asked), SIZE, 0)
    assert report.metrics["ndcg@10"] == pytest.approx(ndcg_score(truth, scores, k=10))
    reciprocal = np.where(ranks <= 10, 1 / ranks, 0).mean()
    assert report.metrics["mrr@10"] == pytest.approx(reciprocal)
    assert report.metrics["map@10"] == pytest.approx(reciprocal)  # one answer each
    for k in (1, 5, 10, 100):
        assert report.metrics[f"recall@{k}"] == pytest.approx((ranks <= k).mean())
    assert 0.3 < report.metrics["recall@1"] < 1  # neither nothing nor everything: the figures mean something
    assert list(report.to_json()["metrics"]) == [
        "map@10",
        "mrr@10",
        "ndcg@10",
        "recall@1",
        "recall@5",
        "recall@10",
        "recall@100",
    ]


def test_it_ranks_as_searches_do_with_what_was_learned_unless_meaning_alone_is_asked_for(
    bench: Bench,
) -> None:
    asked = [line(each.documentation, entry(each)) for each in functions()]
    weights = Weights(0.9, 0.4)
    alone = bench.evaluate(*asked)
    assert alone.ranking == MEANING_ALONE
    with bench.db.connect() as connection:
        count_words(connection)
        version = bench.encoder.version
        store_weights(connection, RankingWeights(version, weights, {"fingerprint": "test"}))
        hashes, vectors = load_vectors(bench.db, version)
        order = SearchOrder(connection, hashes, vectors, weights)
        reciprocals: list[float] = []
        for each in functions():
            cosines = vectors @ bench.encoder.embed_queries([each.documentation])[0]
            scores = order.rescored(query_words(connection, each.documentation), cosines)
            ranked = [hashes[i] for i in np.argsort(-scores)]
            reciprocals.append(1 / (ranked.index(each.content_hash) + 1))

    searched = bench.evaluate(*asked)
    assert searched.ranking == weights
    assert searched.to_json()["ranking"] == {"words": 0.9, "crowding": 0.4}
    expected = [value if value >= 0.1 else 0.0 for value in reciprocals]
    assert searched.metrics["mrr@10"] == pytest.approx(np.mean(expected))
    assert searched.metrics["mrr@10"] != pytest.approx(alone.metrics["mrr@10"])
    meaning = evaluate_queries(
        bench.db, bench.encoder, bench.file, Silent(), bench.settings, ranked_by="meaning"
    )
    assert meaning == alone


def test_without_a_symbol_the_best_snippet_of_the_file_counts_once(bench: Bench) -> None:
    target = functions()[0]
    siblings = {each.content_hash for each in functions() if each.path == target.path}
    other = next(each for each in functions() if each.path != target.path)
    assert len(siblings) > 3
    query = "write text to the terminal"
    report = bench.evaluate(line(query, entry(target, whole_file=True), entry(other)))

    order = bench.order(query)
    best = min(order.index(each) for each in siblings)
    # The file's other snippets leave the ranking before the second answer is looked for.
    left = [each for i, each in enumerate(order) if each not in siblings or i == best]
    ranks = sorted([left.index(order[best]) + 1, left.index(other.content_hash) + 1])
    assert report.metrics["mrr@10"] == pytest.approx(1 / ranks[0] if ranks[0] <= 10 else 0)
    assert report.metrics["recall@10"] == pytest.approx(sum(rank <= 10 for rank in ranks) / 2)
    assert report.metrics["recall@100"] == 1


def test_a_symbol_means_all_its_parts_but_no_namesake(bench: Bench) -> None:
    for symbol, text in (
        ("Parser.run", "def run(self):\n    open_the_door()"),
        ("Parser.run@2", "def run(self):\n    boil_an_egg_in_water(minutes=7)"),
        ("Parser.run#2", "def run(self):\n    fold_the_laundry()"),
    ):
        add_snippet(bench.db, text, path="kitchen.py", symbol=symbol)
    wanted = {"repository": "click", "path": "kitchen.py", "symbol": "Parser.run"}
    egg = bench.evaluate(line("boil an egg in water", wanted))
    assert egg.corpus == SIZE + 3
    assert egg.metrics["recall@1"] == 1
    laundry = bench.evaluate(line("fold the laundry", wanted))
    assert laundry.metrics["recall@1"] == 0
    part = bench.evaluate(line("open the door", wanted | {"symbol": "Parser.run@2"}))
    assert part.metrics["recall@1"] == 0


def test_a_content_that_stands_in_two_places_is_one_and_relevant_by_either(bench: Bench) -> None:
    twin = functions()[3]
    add_snippet(bench.db, twin.code, path="copied.py", symbol="twin", repository="fork")
    elsewhere = {"repository": "fork", "path": "copied.py"}
    rank = bench.rank(twin.documentation, twin.content_hash)
    report = bench.evaluate(line(twin.documentation, elsewhere))
    assert report.corpus == SIZE
    assert report.metrics["mrr@10"] == pytest.approx(1 / rank)
    # Naming both places names one item, which can be found whole.
    both = bench.evaluate(line(twin.documentation, elsewhere, entry(twin)))
    assert both.metrics == report.metrics


def test_what_is_not_in_the_corpus_is_left_out_and_counted(bench: Bench) -> None:
    known, nowhere = functions()[1], {"repository": "click", "path": "gone.py"}
    report = bench.evaluate(
        line(known.documentation, entry(known), nowhere),
        line("what nobody wrote", nowhere, {"repository": "unknown", "path": known.path}),
        line("no such symbol", entry(known) | {"symbol": "absent"}),
    )
    assert (report.queries, report.unmatched) == (1, 2)
    assert report.unmatched_queries == ("what nobody wrote", "no such symbol")
    assert report.metrics["recall@100"] == 1


def test_vanished_code_is_not_ranked(bench: Bench) -> None:
    gone = functions()[2]
    with bench.db.connect() as connection:
        connection.execute(
            "UPDATE snippets SET vanished_at = now() WHERE content_hash = %s", [gone.content_hash]
        )
    kept = functions()[1]
    report = bench.evaluate(line(gone.documentation, entry(gone)), line(kept.documentation, entry(kept)))
    assert (report.corpus, report.queries, report.unmatched) == (SIZE - 1, 1, 1)


def test_what_the_model_has_not_embedded_yet_is_embedded(bench: Bench) -> None:
    add_snippet(bench.db, "def quicksort(numbers): ...", path="new.py", symbol="quicksort")
    report = bench.evaluate(line("quicksort numbers", {"repository": "click", "path": "new.py"}))
    assert report.corpus == SIZE + 1
    assert report.metrics["recall@1"] == 1


def test_lines_that_cannot_be_used_are_kept_with_their_reasons(bench: Bench) -> None:
    good = line(functions()[0].documentation, entry(functions()[0]))
    report = bench.evaluate(
        "{broken",
        good | {"id": 7},  # more than is asked for does no harm
        "",
        line("   ", entry(functions()[0])),
        line("no answers"),
        line("half an answer", {"repository": "click"}),
        line("a NUL", {"repository": "click", "path": "a\0b"}),
        b'{"query": "\xff"}',
        "[1, 2]",
    )
    assert report.queries == 1
    assert report.rejected == 7
    assert report.rejected_file is not None
    assert report.rejected_file == bench.file.with_name("queries.rejected.jsonl")
    kept = [json.loads(each) for each in report.rejected_file.read_text().splitlines()]
    assert [each["line"] for each in kept] == [1, 4, 5, 6, 7, 8, 9]
    assert kept[0]["original"] == "{broken"
    assert "query" in kept[1]["reason"]
    assert "empty" in kept[1]["reason"]
    assert "relevant" in kept[2]["reason"]
    assert "relevant.0.path" in kept[3]["reason"]
    assert "NUL" in kept[4]["reason"]
    assert "original_base64" in kept[5]
    # Once the lines are mended, what was kept of them goes.
    assert bench.evaluate(good).rejected_file is None
    assert not report.rejected_file.exists()


def test_a_file_without_a_usable_line_is_bad_input(bench: Bench) -> None:
    with pytest.raises(BadInputError, match=r"see .*queries\.rejected\.jsonl for why"):
        bench.evaluate("{broken")
    with pytest.raises(BadInputError, match="it is empty"):
        bench.evaluate("")


def test_a_missing_file_is_bad_input(bench: Bench) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        evaluate_queries(bench.db, bench.encoder, bench.file / "absent", Silent(), bench.settings)


def test_answers_in_no_known_repository_are_bad_input(bench: Bench) -> None:
    with pytest.raises(BadInputError, match="Known repositories: click"):
        bench.evaluate(line("anything", {"repository": "clack", "path": "core.py"}))


def test_an_empty_corpus_is_an_error(
    db: Database, minilm: Encoder, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(HoneloopError, match="Nothing is indexed"):
        Bench(db, minilm, settings, tmp_path).evaluate(line("a", {"repository": "r", "path": "p"}))


def test_the_vectors_of_an_old_model_are_not_cleaned_away_before_they_are_ranked(bench: Bench) -> None:
    old = another_model(bench.encoder, "old")
    ensure_registered(bench.db, old, "old")
    turn_down(bench.db, old.version, bench.encoder.version)
    asked = functions()[0]
    bench.file.write_text(json.dumps(line(asked.documentation, entry(asked))))
    progress = CleansInBetween(bench.db, bench.encoder.version)
    report = evaluate_queries(bench.db, old, bench.file, progress, bench.settings)
    assert (progress.cleaned, report.corpus) == (1, SIZE)
    clean_up(bench.db, bench.encoder.version, keep=0)
    assert not has_vectors(bench.db, old.version)
