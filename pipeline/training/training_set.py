"""The training set: pairs from feedback, documentation and commits; split, with negatives, stored by name.

The same pairs and settings give the stored set again, without mining. What serves may have changed since; but
if every model had its own set, every promotion would be followed by another training on nothing new.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.feedback.pairs import FeedbackPair, JudgedNegative, feedback_pairs
from pipeline.progress import Progress
from pipeline.store.connections import Connection, Database
from pipeline.training import store
from pipeline.training.accounting import counts_of
from pipeline.training.commit_mining import mine_commits
from pipeline.training.commit_pairs import commit_candidates
from pipeline.training.commit_store import commit_counts
from pipeline.training.documentation_pairs import documentation_candidates
from pipeline.training.negatives import with_negatives
from pipeline.training.pairs import Candidate, Negative, Origin, Pair, TrainingSet
from pipeline.training.soundness import no_leakage, validate_triplets
from pipeline.training.splits import Separated, separate, split_of_group

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

__all__ = [
    "Negative",
    "Pair",
    "TrainingSet",
    "build_training_set",
    "load_training_set",
    "no_leakage",
    "validate_triplets",
]

# Part of a set's name: raised when the rules of this room change, so that sets made by the old ones are not
# taken for the new.
RULES = 3

_DECIDING = (
    "commit_weight",
    "documentation_weight",
    "encoder",
    "hard_negative_max_ratio",
    "hard_negative_pool",
    "hard_negatives",
    "imported_click_confidence",
    "max_commit_pairs",
    "max_documentation_pairs",
    "max_test_commit_pairs",
    "max_test_documentation_pairs",
    "max_user_pairs_per_snippet",
    "max_user_share",
    "max_validation_commit_pairs",
    "max_validation_documentation_pairs",
    "positive_confidence",
    "test_percent",
    "validation_percent",
)

Dropped = dict[Origin, Counter[str]]


def build_training_set(db: Database, encoder: Encoder, settings: Settings, progress: Progress) -> TrainingSet:
    """Builds and stores the training set of the present feedback and code, or returns it if it is stored.

    Args:
        db: The database.
        encoder: The model of the serving index; all live contents have its vectors.
        settings: See "Feedback and training set" there.
        progress: Told of what takes long, and of the result.

    Raises:
        HoneloopError: there are fewer than `settings.min_pairs` real pairs, or none of them is for training;
            or some live contents have no vector yet.
    """
    for mined in mine_commits(db, settings, progress):
        progress.note(
            f"{mined.repository}: {mined.looked_at:,} commits looked at, {mined.kept:,} known before"
            + (f", {mined.forgotten:,} no longer in its history." if mined.forgotten else ".")
        )
    separated, dropped, commits = _pairs(db, settings)
    _require_enough(separated, dropped, settings)
    deciding = {name: getattr(settings, name) for name in _DECIDING}
    pairs_fingerprint = _fingerprint(deciding, map(_candidate_fields, separated.kept))
    with db.connect() as connection:
        known = store.find_set(connection, pairs_fingerprint)
        if known is not None:
            progress.note(f"The pairs are those of training set {known}: nothing to mine.")
            return _load(connection, known, reused=True)
    pairs, tally, unfair = with_negatives(db, encoder, separated, settings, progress)
    counts = counts_of(
        pairs,
        dropped=dropped,
        commits=commits,
        unfair=unfair,
        tally=tally,
        max_ratio=settings.hard_negative_max_ratio,
    )
    with db.connect() as connection:
        set_id = store.save_set(
            connection,
            fingerprint=_fingerprint({}, map(_pair_fields, pairs)),
            pairs_fingerprint=pairs_fingerprint,
            model_version=encoder.version,
            counts=counts,
            settings=deciding,
            pairs=pairs,
        )
        built = _load(connection, set_id, reused=False)
    progress.note(
        f"Training set {set_id}: "
        + ", ".join(f"{len(built.of(split))} {split}" for split in ("train", "validation", "test"))
        + f" pairs; {sum(len(pair.negatives) for pair in built.pairs)} negatives."
    )
    return built


def load_training_set(db: Database, training_set_id: int | None = None) -> TrainingSet:
    """A stored training set, by default the one stored last.

    Raises:
        BadInputError: there is none, or none with that id.
    """
    with db.connect() as connection:
        wanted = store.newest_set(connection) if training_set_id is None else training_set_id
        if wanted is None:
            raise BadInputError(
                "There is no training set yet.", hint="`honeloop train` or `honeloop run` builds one."
            )
        return _load(connection, wanted, reused=True)


def _pairs(db: Database, settings: Settings) -> tuple[Separated, Dropped, dict[str, dict[str, int]]]:
    """The pairs that leak nowhere, what was dropped on the way, and what commits were looked at."""
    with db.connect() as connection:
        documentation, unusable = documentation_candidates(connection, settings)
        committed, unfit = commit_candidates(connection, settings)
        commits = commit_counts(connection)
    feedback = feedback_pairs(db, settings)
    with db.connect() as connection:
        texts = store.contents(connection, sorted({pair.content_hash for pair in feedback.pairs}))
    judged = [_judged_candidate(pair, texts, settings) for pair in feedback.pairs]
    separated = separate([*judged, *documentation, *committed], settings)
    dropped: Dropped = {"feedback": Counter(feedback.dropped), "docstring": unusable, "commit": unfit}
    for origin, reasons in separated.dropped.items():
        dropped[origin].update(reasons)
    for reasons in dropped.values():
        for reason in [reason for reason, count in reasons.items() if count == 0]:
            del reasons[reason]
    return separated, dropped, commits


def _judged_candidate(
    pair: FeedbackPair, texts: Mapping[bytes, store.Content], settings: Settings
) -> Candidate:
    content = texts[pair.content_hash]
    return Candidate(
        origin="feedback",
        query=pair.query,
        group_key=pair.group_key,
        split=split_of_group(pair.group_key, settings),
        content_hash=pair.content_hash,
        text=content.text,
        code=content.code,
        weight=pair.weight,
        language=pair.language,
        judged=pair.negatives,
        unsure=pair.unsure,
        because={"judgement": pair.judgement, "people": pair.users},
    )


def _require_enough(separated: Separated, dropped: Dropped, settings: Settings) -> None:
    pairs = separated.kept
    by_origin = Counter(pair.origin for pair in pairs)
    what_to_do = (
        "Import judgements (`honeloop feedback import FILE.jsonl`) or add sources with documented code "
        "(`honeloop source add NAME LOCATION`)"
    )
    if len(pairs) < settings.min_pairs:
        lost = "; ".join(
            f"{count} {origin}: {reason}"
            for origin, reasons in dropped.items()
            for reason, count in reasons.most_common()
        )
        raise HoneloopError(
            f"There are {len(pairs)} real pairs to train on, and {settings.min_pairs} are needed: "
            f"{by_origin['feedback']} from feedback, {by_origin['docstring']} from documentation, "
            f"{by_origin['commit']} from commits." + (f" Not used: {lost}." if lost else ""),
            hint=f"{what_to_do}, or lower HONELOOP_MIN_PAIRS.",
        )
    if not any(pair.split == "train" for pair in pairs):
        raise HoneloopError(
            f"All {len(pairs)} real pairs are held out for validation and test: none is left to train on.",
            hint=f"{what_to_do}.",
        )


def _load(connection: Connection, set_id: int, *, reused: bool) -> TrainingSet:
    loaded = store.load_set(connection, set_id, reused=reused)
    if loaded is None:
        raise BadInputError(f"There is no training set {set_id}.", hint="Ids are those of training_sets.")
    return loaded


def _candidate_fields(pair: Candidate) -> list[Any]:
    return [
        pair.origin,
        pair.split,
        pair.query,
        pair.group_key.hex(),
        pair.content_hash.hex(),
        _sha256(pair.text),
        pair.weight,
        [
            [negative.content_hash.hex(), negative.reason, *_weight_fields(negative)]
            for negative in pair.judged
        ],
        sorted(content_hash.hex() for content_hash in pair.unsure),
    ]


def _pair_fields(pair: Pair) -> list[Any]:
    return [
        pair.origin,
        pair.split,
        pair.query,
        pair.group_key.hex(),
        pair.positive_hash.hex(),
        _sha256(pair.positive_text),
        pair.weight,
        [
            [
                each.content_hash.hex(),
                each.reason,
                _sha256(each.text),
                each.group.hex(),
                *_weight_fields(each),
            ]
            for each in pair.negatives
        ],
        # What a batch masks decides the weights as much: feedback may change it and nothing else.
        pair.group.hex(),
        sorted(group.hex() for group in pair.spared),
    ]


def _weight_fields(negative: JudgedNegative | Negative) -> list[float]:
    """Nothing for a weight of 1: sets from before negatives had weights keep their names."""
    return [] if negative.weight == 1 else [negative.weight]


def _fingerprint(deciding: Mapping[str, Any], pairs: Iterable[list[Any]]) -> str:
    """SHA-256 of the rules, the settings and the pairs in an order of their own."""
    lines = sorted(json.dumps(fields) for fields in pairs)
    head = json.dumps([RULES, dict(deciding)], sort_keys=True)
    return hashlib.sha256("\n".join([head, *lines]).encode()).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
