"""Measures a model version on a frozen test set, over the whole corpus, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.frozen_sets import FrozenSet, freeze, text_hash
from pipeline.evaluation.metrics import TRIPLET_ACCURACY, query_metrics
from pipeline.evaluation.query_groups import MeasuredQuery, group_pairs
from pipeline.evaluation.ranking import (
    RankedQuery,
    Ranking,
    Rescore,
    Scores,
    Vectors,
    rank_with_top,
)
from pipeline.evaluation.results import Evaluation, QueryResult, break_down, breakdown_to_json
from pipeline.evaluation.store import find_evaluation, live_hashes, repositories_of, save_evaluation
from pipeline.progress import Progress
from pipeline.promotion import registry
from pipeline.search.hybrid.exactly import Replacement, SearchOrder, search_order
from pipeline.search.hybrid.weights import weights_in_force
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import TrainingSet


TOP = 10  # contents kept of each ranking


@dataclass(frozen=True)
class _Documents:
    """Vectors by content hash: those of the corpus, and those of texts that stand in it otherwise."""

    corpus: Vectors
    position: Mapping[bytes, int]
    extra: Vectors
    extra_row: Mapping[bytes, int]

    def of(self, text: str) -> NDArray[np.float32]:
        content_hash = text_hash(text)
        place = self.position.get(content_hash)
        return self.corpus[place] if place is not None else self.extra[self.extra_row[content_hash]]


def evaluate_model(
    db: Database, encoder: Encoder, test_set: FrozenSet, settings: Settings, progress: Progress
) -> Evaluation:
    """`evaluate_on` tonight's test set, with a summary of it in the registry."""
    evaluation = evaluate_on(db, encoder, test_set, settings, progress)
    summary = {
        "test_set": evaluation.test_set,
        "queries": evaluation.queries,
        "corpus": evaluation.corpus,
        "overall": breakdown_to_json(evaluation)["overall"],
    }
    if not evaluation.reused:
        registry.record_metrics(db, encoder.version, {"evaluation": summary})
    return evaluation


def freeze_test_set(db: Database, training_set: TrainingSet) -> FrozenSet:
    """The test pairs of `training_set` whose code is live, over all live contents, frozen.

    All models rank them as searches rank now: what is to be better is what people see.

    Raises:
        HoneloopError: there is none.
    """
    corpus = live_hashes(db)
    pairs = training_set.of("test")
    queries = group_pairs(pairs, set(corpus), repositories_of(db, [pair.positive_hash for pair in pairs]))
    if not queries:
        raise HoneloopError(
            "There is nothing to measure with: no test pair's code is in the corpus.",
            hint="Add feedback or documented code, or raise HONELOOP_TEST_PERCENT.",
        )
    with db.connect() as connection:
        ranking = weights_in_force(connection)
    return freeze(db, queries, corpus, ranking)


def evaluate_on(
    db: Database, encoder: Encoder, test_set: FrozenSet, settings: Settings, progress: Progress
) -> Evaluation:
    """The metrics of `encoder` on a frozen test set, reused if they are stored.

    Where the query is the code's own documentation, that code stands in the corpus, for this query, with its
    documentation cut out; other code that carries the very same documentation stays as it is, so such a query
    can only come out too hard, and equally for every model. Contents the model has not embedded yet are
    embedded first, live or not. The model must be registered.

    Raises:
        HoneloopError: contents of the test set were deleted.
    """
    stored = find_evaluation(db, encoder.version, test_set.name)
    if stored is not None:
        progress.note(f"{_title(encoder)} was measured on test set {test_set.name[:12]} before.")
        return stored
    from pipeline.index.embeddings import embed_missing, load_vectors
    from pipeline.index.in_use import vectors_in_use

    with vectors_in_use(db, encoder.version):
        embed_missing(db, encoder, settings, progress, hashes=test_set.corpus)
        hashes, vectors = load_vectors(db, encoder.version, test_set.corpus)
    documents = _documents(encoder, test_set.queries, hashes, vectors, progress)
    with db.connect() as connection:
        order = search_order(connection, hashes, vectors, test_set.ranking)
        per_query, margins = _measure(encoder, test_set.queries, documents, hashes, progress, order=order)
    breakdown = break_down(per_query, settings.bootstrap_resamples, settings.seed)
    evaluation = save_evaluation(
        db,
        Evaluation(
            id=0,
            model_version=encoder.version,
            test_set=test_set.name,
            queries=len(test_set.queries),
            corpus=len(test_set.corpus),
            overall=breakdown.overall,
            slices=breakdown.slices,
            per_query=tuple(per_query),
            margins=tuple(margins),
            ranking=test_set.ranking,
        ),
    )
    progress.note(
        f"{_title(encoder)} on test set {test_set.name[:12]}: "
        + ", ".join(f"{name} {interval.mean:.3f}" for name, interval in evaluation.overall.items())
    )
    return evaluation


def stored_precision(vectors: Vectors) -> Vectors:
    """Vectors as they would come back from the store: half precision, then unit length again.

    What is embedded only to be measured must not be more precise than what it is measured against.
    """
    rounded = vectors.astype(np.float16).astype(np.float32)
    return rounded / np.linalg.norm(rounded, axis=1, keepdims=True)


def _documents(
    encoder: Encoder,
    queries: Sequence[MeasuredQuery],
    hashes: Sequence[bytes],
    vectors: Vectors,
    progress: Progress,
) -> _Documents:
    position = {content_hash: i for i, content_hash in enumerate(hashes)}
    cut = {r.text for q in queries for r in q.relevant if text_hash(r.text) != r.content_hash}
    texts = cut | {t for q in queries for triplet in q.triplets for t in (triplet.positive, triplet.negative)}
    missing = sorted(text for text in texts if text_hash(text) not in position)
    # The same code stands elsewhere without documentation: its vector is known already.
    twins = sorted(text for text in cut if text_hash(text) in position)
    extra = vectors[[position[text_hash(text)] for text in twins]]
    if missing:
        with progress.stage("Embedding test code without its documentation", len(missing)) as advance:
            embedded = stored_precision(encoder.embed_documents(missing, advance))
        extra = np.concatenate([extra, embedded])
    rows = {text_hash(text): row for row, text in enumerate(twins + missing)}
    return _Documents(vectors, position, extra, rows)


def _measure(
    encoder: Encoder,
    queries: Sequence[MeasuredQuery],
    documents: _Documents,
    hashes: Sequence[bytes],
    progress: Progress,
    *,
    order: SearchOrder | None,
) -> tuple[list[QueryResult], list[float]]:
    """Each query's result, in order, and the margins of all triplets."""
    vectors = encoder.embed_queries([query.query for query in queries])
    with progress.stage(f"Ranking the corpus with {_title(encoder)}", len(queries)) as advance:
        rankings = rank_with_top(
            [_ranked(query, documents) for query in queries],
            vectors,
            documents.corpus,
            documents.extra,
            advance,
            rescore=None if order is None else _rescore(order, queries, documents),
            top=TOP,
        )
    results: list[QueryResult] = []
    all_margins: list[float] = []
    for query, vector, ranking in zip(queries, vectors, rankings, strict=True):
        margins = [
            float(vector @ documents.of(triplet.positive) - vector @ documents.of(triplet.negative))
            for triplet in query.triplets
        ]
        all_margins += margins
        results.append(_result(query, ranking, margins, hashes))
    return results, all_margins


def _rescore(order: SearchOrder, queries: Sequence[MeasuredQuery], documents: _Documents) -> Rescore:
    """Code that stands without its documentation has the words of what is left, too."""

    def rescore(number: int, cosines: Vectors) -> Scores:
        query = queries[number]
        instead = {
            documents.position[relevant.content_hash]: Replacement(relevant.text, documents.of(relevant.text))
            for relevant in query.relevant
            if text_hash(relevant.text) != relevant.content_hash
        }
        assert query.counted is not None, "a set that ranks by more than meaning has its words counted"
        return order.rescored(query.counted, cosines, instead)

    return rescore


def _result(
    query: MeasuredQuery, ranking: Ranking, margins: Sequence[float], hashes: Sequence[bytes]
) -> QueryResult:
    metrics = query_metrics(ranking.ranks, len(query.relevant))
    if margins:
        metrics[TRIPLET_ACCURACY] = sum(margin > 0 for margin in margins) / len(margins)
    return QueryResult(
        query_key=query.key,
        query=query.query,
        origin=query.origin,
        language=query.language,
        rank=int(ranking.ranks[0]),
        metrics=metrics,
        repository=query.repository,
        words=query.words,
        answer=hashes[ranking.answer],
        top=tuple(hashes[position] for position in ranking.top),
    )


def _ranked(query: MeasuredQuery, documents: _Documents) -> RankedQuery:
    items: list[tuple[int, ...]] = []
    instead: dict[int, int] = {}
    for relevant in query.relevant:
        place = documents.position[relevant.content_hash]
        items.append((place,))
        text = text_hash(relevant.text)
        if text != relevant.content_hash:
            instead[place] = documents.extra_row[text]
            if text in documents.position:  # the same code without documentation is the same answer
                items[-1] = (place, documents.position[text])
    return RankedQuery(tuple(items), instead)


def _title(encoder: Encoder) -> str:
    return f"{encoder.spec.name} ({encoder.version[:12]})"
