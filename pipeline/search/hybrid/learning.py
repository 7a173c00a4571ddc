"""What words and the crowd count in the ranking: learned from judged queries, proven on others, else 0.

The weights are fitted and cross-validated (`fitting`). The differences to ranking by meaning alone, pooled
over all folds, say what weights chosen this way gain on queries they have not seen; they are adopted only if
the mean is above 0 beyond chance. In both, a query counts by how far it is believed. A fine-tuned model has
seen most queries, so that few are left to learn from: it takes over what was proven for the model it was
trained from, by all of them, unless its own queries say beyond chance that weights of its own are better, or
that these are worse than none.

What was proven once stands, refitted, until newer queries say that it does more harm than good: else what
people see would change from night to night with the edge of what can be proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.evaluation.statistics import Difference, paired_bootstrap, weighted_mean
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.progress import Progress
from pipeline.search.filters import Filters
from pipeline.search.hybrid.candidates import POOL, Candidate, find_candidates
from pipeline.search.hybrid.crowding import NEIGHBOURS
from pipeline.search.hybrid.fitting import FOLDS, SHARPNESS, SHRINKAGE, Judged, cross_validate, gains
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights, parts
from pipeline.search.hybrid.matching import K1, B
from pipeline.search.hybrid.questions import Question, fingerprint, judged_questions
from pipeline.search.hybrid.weights import RankingWeights, base_weights, ranking_weights, store_weights
from pipeline.search.hybrid.words import LOOKED_UP, count_words, words_are_counted
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

METRIC = "ndcg@10"
# Raised when anything changes that decides what is learned.
RULES = f"5 {METRIC} {FOLDS} {SHRINKAGE} {SHARPNESS} {POOL} {NEIGHBOURS} {LOOKED_UP} {K1} {B}"


def learn_weights(
    db: Database,
    encoder: Encoder,
    settings: Settings,
    progress: Progress,
    *,
    changed: bool = True,
    index: ServingIndex | None = None,
) -> RankingWeights:
    """Learns the weights of the model version that serves, and stores them: then searches follow them.

    Costs nothing when neither its questions nor the rules changed since the last time, whatever became of
    the code: then those weights stand.

    Args:
        db: The database.
        encoder: The model version of the index; it may be a deferred one.
        settings: `gate_min_queries`, `bootstrap_resamples` and `seed`.
        progress: Told of the outcome.
        changed: Whether the live texts may have changed since their words were counted.
        index: Another index version, whose model's weights are learned instead.

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
        inherited = _of_its_base(connection, serving.model_version)
        name = fingerprint(
            serving.model_version,
            questions,
            f"{RULES} {settings.gate_min_queries} {settings.seed} {inherited.weights if inherited else ''}",
        )
        known = ranking_weights(connection, serving.model_version)
        if known is not None and known.evidence["fingerprint"] == name:
            return known
    enough = len(questions) >= settings.gate_min_queries
    judged = _judged(db, serving, encoder, questions, progress) if enough else []
    stands = known is not None and bool(known.evidence.get("proven") or known.evidence.get("stands"))
    weights, evidence = verdict(judged, len(questions), inherited, settings, stands=stands)
    about = {
        "fingerprint": name,
        "metric": METRIC,
        "questions": len(questions),
        "measured": len(judged),
        "index_version": serving.index_version_id,
    }
    learned = RankingWeights(serving.model_version, weights, {**about, **evidence})
    with db.connect() as connection:
        store_weights(connection, learned)
    progress.note(
        f"Words count {weights.words:g} in the ranking, crowds {weights.crowding:g}: {evidence['reason']}."
    )
    return learned


def judged_candidates(
    candidates: Sequence[Candidate], relevant: Sequence[bytes], weight: float = 1.0
) -> Judged:
    """One question's candidates, for `fitting`.

    Args:
        candidates: What may be shown for it.
        relevant: The contents that answer it, whether they are candidates or not.
        weight: How much it counts beside the other questions, over 0.
    """
    hashes = np.array([each.content_hash.hex() for each in candidates], dtype=np.str_)
    answers = np.isin(hashes, [each.hex() for each in relevant])
    return Judged(parts(candidates), answers, len(relevant), hashes, weight)


def verdict(
    judged: Sequence[Judged],
    questions: int,
    inherited: RankingWeights | None,
    settings: Settings,
    *,
    stands: bool = False,
) -> tuple[Weights, dict[str, Any]]:
    """The weights that are adopted, and the evidence for them.

    Args:
        judged: The questions measured.
        questions: How many there are, measured or not.
        inherited: What is in force for the model that this one was trained from; None: meaning alone.
        settings: `gate_min_queries`, `bootstrap_resamples` and `seed`.
        stands: Whether weights of the model's own were proven before, and stand since.
    """
    taken = MEANING_ALONE if inherited is None else inherited.weights
    taken_over = (
        "" if inherited is None else "; those of the model it was trained from are taken over, proven there"
    )
    if len(judged) < settings.gate_min_queries:
        count = len(judged) if questions >= settings.gate_min_queries else questions
        reason = (
            f"{count} judged queries that the model has not seen are too few to learn it from;"
            f" {settings.gate_min_queries} are needed{taken_over}"
        )
        return taken, {"proven": False, "reason": reason, **_source(inherited)}
    alone, before = gains(judged, MEANING_ALONE), gains(judged, taken)
    choice = cross_validate(judged)
    counts = [each.weight for each in judged]  # as in the fit: whom the caps silence has no say here either

    def compared(one: NDArray[np.float64], other: NDArray[np.float64]) -> Difference:
        return paired_bootstrap(one, other, settings.bootstrap_resamples, settings.seed, weights=counts)

    difference, over_alone = compared(choice.held_out, before), compared(choice.held_out, alone)
    proven = min(difference.low, over_alone.low) > 0 and choice.weights != taken
    evidence: dict[str, Any] = {
        "proven": proven,
        "fitted": choice.weights._asdict(),
        "fitted_by_fold": [list(each) for each in choice.by_fold],
        METRIC: {
            "alone": weighted_mean(alone, counts),
            "before": weighted_mean(before, counts),
            "held_out": weighted_mean(choice.held_out, counts),
        },
        "difference": asdict(difference),
    }
    over = "meaning alone" if inherited is None else "those of the model it was trained from"
    reason = (
        f"weights fitted on other judged queries changed {METRIC} of {len(judged)} by {difference.mean:+.3f}"
        f" ({difference.interval}) over {over}, "
    )
    if proven:
        return choice.weights, {**evidence, "reason": f"{reason}which is better beyond chance"}
    reason += "which is no proof" if difference.low <= 0 else "but is no proof over meaning alone"
    if inherited is None:
        if stands and difference.mean > 0:
            reason += ", but no reason either to give up what was proven before"
            return choice.weights, {**evidence, "stands": True, "reason": reason}
        return MEANING_ALONE, {**evidence, "reason": reason}
    under = compared(before, alone)
    evidence |= {"difference_inherited": asdict(under)}
    if under.high < 0:
        return MEANING_ALONE, {
            **evidence,
            "reason": f"{reason}; and those make them worse than meaning alone",
        }
    return taken, {**evidence, "reason": reason + taken_over, **_source(inherited)}


def _of_its_base(connection: Connection, model_version: str) -> RankingWeights | None:
    """What is in force for the model that this one was trained from, if it is more than meaning alone."""
    found = base_weights(connection, model_version)
    return None if found is None or found.weights == MEANING_ALONE else found


def _judged(
    db: Database, serving: ServingIndex, encoder: Encoder, questions: Sequence[Question], progress: Progress
) -> list[Judged]:
    """The candidates of those questions whose answer is indexed, searched as people search."""
    with db.connect() as connection:
        present = _indexed(connection, serving, questions)
        asked = [question for question in questions if any(each in present for each in question.relevant)]
        if not asked:
            return []
        vectors = encoder.embed_queries([question.text for question in asked])
        found: list[Judged] = []
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
                answers = [each for each in question.relevant if each in present]
                found.append(judged_candidates(candidates, answers, question.weight))
                advance(1)
    return found


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


def _source(inherited: RankingWeights | None) -> dict[str, Any]:
    return {} if inherited is None else {"inherited_from": inherited.model_version}
