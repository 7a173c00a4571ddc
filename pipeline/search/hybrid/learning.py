"""How much words should count: learned from judged queries, proven on queries that took no part, else 0.

The weight is chosen from a grid by cross-validation over queries (Stone, "Cross-Validatory Choice and
Assessment of Statistical Predictions", 1974): for each fold, the weight that does best on the others is
measured on this one. The differences to ranking by meaning alone, pooled over all folds, say what choosing a
weight this way gains on queries it has not seen; it is adopted only if their mean is above 0 beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.evaluation.metrics import normalized_gain
from pipeline.evaluation.statistics import paired_bootstrap
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.progress import Progress
from pipeline.search.filters import Filters
from pipeline.search.hybrid.candidates import K1, POOL, B, Candidate, find_candidates
from pipeline.search.hybrid.fusion import combined, parts
from pipeline.search.hybrid.questions import Question, fingerprint, judged_questions
from pipeline.search.hybrid.weights import RankingWeight, ranking_weight, store_weight
from pipeline.search.hybrid.words import LOOKED_UP, count_words, words_are_counted
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

METRIC = "ndcg@10"
GRID = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
FOLDS = 10
# Raised when anything changes that decides what is learned.
RULES = f"1 {METRIC} {GRID} {FOLDS} {POOL} {LOOKED_UP} {K1} {B}"

Gains = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What cross-validation says.

    Args:
        weight: The best on all questions.
        gains: Mean nDCG@10 of each weight of the grid over all questions; they took part in the choice.
        chosen: The weight chosen for each fold.
        held_out: nDCG@10 of each question under the weight chosen without it, shape (questions,).
    """

    weight: float
    gains: dict[float, float]
    chosen: tuple[float, ...]
    held_out: Gains


def learn_weight(
    db: Database,
    encoder: Encoder,
    settings: Settings,
    progress: Progress,
    *,
    changed: bool = True,
    index: ServingIndex | None = None,
) -> RankingWeight:
    """Learns the weight of the model version that serves, and stores it: from then on searches follow it.

    Costs nothing when neither its questions nor the rules changed since the last time, whatever became of
    the code: then that weight stands.

    Args:
        db: The database.
        encoder: The model version of the index; it may be a deferred one.
        settings: `gate_min_queries`, `bootstrap_resamples` and `seed`.
        progress: Told of the outcome.
        changed: Whether the live texts may have changed since their words were counted.
        index: Another index version, whose model's weight is learned instead.

    Raises:
        UnavailableError: nothing serves.
    """
    with db.connect() as connection:
        serving = index or serving_index(connection)
        if changed or not words_are_counted(connection):
            with progress.stage("Counting words"):
                count_words(connection)
    with db.connect() as connection:
        questions = judged_questions(connection, serving.model_version)
        name = fingerprint(
            serving.model_version, questions, f"{RULES} {settings.gate_min_queries} {settings.seed}"
        )
        known = ranking_weight(connection, serving.model_version)
        if known is not None and known.evidence["fingerprint"] == name:
            return known
    enough = len(questions) >= settings.gate_min_queries
    tables = _measured(db, serving, encoder, questions, progress) if enough else np.empty((0, len(GRID)))
    learned = RankingWeight(serving.model_version, *_verdict(tables, settings, len(questions), name, serving))
    with db.connect() as connection:
        store_weight(connection, learned)
    progress.note(f"Words count {learned.weight:g} in the ranking: {learned.evidence['reason']}.")
    return learned


def cross_validate(gains: Gains) -> Choice:
    """Chooses a weight of the grid without, for each fold of questions, looking at that fold.

    Of equally good weights the smallest is taken. Question i is in fold i mod `FOLDS`: the order is that of
    hashes, so this is as good as at random, and the same every time.

    Args:
        gains: nDCG@10 of each question under each weight of `GRID`, shape (questions, weights).
    """
    fold = np.arange(len(gains)) % FOLDS
    held_out = np.zeros(len(gains))
    chosen: list[float] = []
    for number in range(min(FOLDS, len(gains))):
        best = _best(gains[fold != number])
        held_out[fold == number] = gains[fold == number, best]
        chosen.append(GRID[best])
    means = dict(zip(GRID, gains.mean(axis=0).tolist(), strict=True))
    return Choice(GRID[_best(gains)], means, tuple(chosen), held_out)


def question_gains(candidates: Sequence[Candidate], relevant: Sequence[bytes]) -> Gains:
    """nDCG@10 of one question under each weight of `GRID`, shape (weights,)."""
    cosine, bm25 = parts(candidates)
    hashes = np.array([each.content_hash.hex() for each in candidates])
    is_relevant = np.isin(hashes, [each.hex() for each in relevant])
    found: list[float] = []
    for weight in GRID:
        order = np.lexsort((hashes, -combined(cosine, bm25, weight)))
        ranks = np.flatnonzero(is_relevant[order]) + 1
        found.append(normalized_gain(ranks, len(relevant)))
    return np.array(found)


def _best(gains: Gains) -> int:
    # argmax takes the first of equals; what differs in the last bits is equal.
    return int(np.argmax(np.round(gains.mean(axis=0), 9))) if len(gains) else 0


def _measured(
    db: Database, serving: ServingIndex, encoder: Encoder, questions: Sequence[Question], progress: Progress
) -> Gains:
    """nDCG@10 under each weight of those questions whose answer is indexed, searched as people search."""
    with db.connect() as connection:
        present = _indexed(connection, serving, questions)
        asked = [question for question in questions if any(each in present for each in question.relevant)]
        if not asked:
            return np.empty((0, len(GRID)))
        vectors = encoder.embed_queries([question.text for question in asked])
        rows: list[Gains] = []
        with progress.stage("Weighing words against meaning", len(asked)) as advance:
            for question, vector in zip(asked, vectors, strict=True):
                candidates = find_candidates(
                    connection,
                    serving,
                    vector,
                    question.text,
                    k=10,
                    filters=Filters(),
                    ef_search=serving.ef_search,
                )
                rows.append(
                    question_gains(candidates, [each for each in question.relevant if each in present])
                )
                advance(1)
    return np.stack(rows)


def _indexed(connection: Connection, serving: ServingIndex, questions: Sequence[Question]) -> set[bytes]:
    """Which of the answers are in the index, and live."""
    from psycopg import sql

    hashes = sorted({each for question in questions for each in question.relevant})
    rows = connection.execute(
        sql.SQL(
            "SELECT v.content_hash FROM {} v WHERE v.content_hash = ANY(%s) AND EXISTS"
            " (SELECT FROM snippets s WHERE s.content_hash = v.content_hash AND s.vanished_at IS NULL)"
        ).format(serving.table.identifier),
        [hashes],
    )
    return {content_hash for (content_hash,) in rows}


def _verdict(
    gains: Gains, settings: Settings, questions: int, name: str, serving: ServingIndex
) -> tuple[float, dict[str, Any]]:
    """The weight, and the evidence for it."""
    evidence: dict[str, Any] = {
        "fingerprint": name,
        "metric": METRIC,
        "questions": questions,
        "measured": len(gains),
        "index_version": serving.index_version_id,
        "proven": False,
    }
    if len(gains) < settings.gate_min_queries:
        count = len(gains) if questions >= settings.gate_min_queries else questions
        reason = (
            f"{count} judged queries that the model has not seen are too few to learn it from;"
            f" {settings.gate_min_queries} are needed"
        )
        return 0.0, {**evidence, "reason": reason}
    choice = cross_validate(gains)
    difference = paired_bootstrap(choice.held_out, gains[:, 0], settings.bootstrap_resamples, settings.seed)
    proven = difference.low > 0 and choice.weight > 0
    evidence |= {
        "proven": proven,
        "best_weight": choice.weight,
        "chosen_by_fold": list(choice.chosen),
        "by_weight": {f"{weight:g}": round(mean, 5) for weight, mean in choice.gains.items()},
        "difference": asdict(difference),
        "reason": f"a weight chosen by cross-validation changed {METRIC} of {len(gains)} judged queries by"
        f" {difference.mean:+.3f} (95% interval {difference.low:+.3f} to {difference.high:+.3f}), "
        + ("which is better beyond chance" if proven else "which is no proof"),
    }
    return (choice.weight if proven else 0.0), evidence
