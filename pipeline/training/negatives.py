"""The negatives of each pair: what people rejected or passed over, then what is mined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.feedback.pairs import JudgedNegative
from pipeline.progress import Progress
from pipeline.store.connections import Database
from pipeline.training import store
from pipeline.training.copies import copy_groups
from pipeline.training.mining import Corpus, Fairness, Mined, Miner, Tally
from pipeline.training.pairs import Candidate, Negative, Pair
from pipeline.training.splits import Separated

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

Contents = Mapping[bytes, store.Content]


def with_negatives(
    db: Database, encoder: Encoder, separated: Separated, settings: Settings, progress: Progress
) -> tuple[list[Pair], Tally, Counter[str]]:
    """The pairs, not yet stored, with their negatives.

    Args:
        db: Holds the vectors that `encoder` made of all live contents.
        encoder: The mining model.
        separated: The pairs.
        settings: Pool, threshold, number of negatives.
        progress: Told of what takes long.

    Returns:
        The pairs in their order; what mining did; how many of people's negatives were left out, by reason.

    Raises:
        HoneloopError: some live contents have no vector, or the code changed in between.
    """
    from pipeline.index.embeddings import load_vectors

    hashes, vectors = load_vectors(db, encoder.version)
    corpus = Corpus(hashes, vectors, {content_hash: row for row, content_hash in enumerate(hashes)})
    judged = {content_hash for pair in separated.kept for content_hash, _, _ in pair.judged}
    if not corpus.position.keys() >= {*(pair.content_hash for pair in separated.kept), *judged}:
        raise HoneloopError("The code changed while the training set was being built.", hint="Run it again.")
    miner = Miner(encoder, corpus, separated.kept, settings, progress)
    unsure = {content_hash for pair in separated.kept for content_hash in pair.unsure}
    asked_about = miner.neighbours().union(judged, unsure, *separated.answers.values())
    with db.connect() as connection:
        contents = store.contents(connection, sorted(asked_about))
    fairness = Fairness(separated, contents)
    unfair: Counter[str] = Counter()
    enough = max(1, settings.hard_negatives)
    said = [
        [
            _said(judged_negative, number, miner, contents)
            for judged_negative in _fairly_judged(pair, fairness, enough, unfair)
        ]
        for number, pair in enumerate(separated.kept)
    ]
    wanted = [max(0, settings.hard_negatives - len(each)) for each in said]
    mined = miner.mine(wanted, fairness, contents)
    negatives = [
        [*by_people, *_mined(pair, found, contents)]
        for pair, by_people, found in zip(separated.kept, said, mined, strict=True)
    ]
    used = {negative.content_hash for each in negatives for negative in each}
    used.update(*(separated.answers[pair.group_key] for pair in separated.kept))
    used.update(unsure & contents.keys())  # some may have gone
    groups = copy_groups({content_hash: contents[content_hash].code for content_hash in used})
    pairs = [
        _finished(pair, each, separated.answers[pair.group_key], groups)
        for pair, each in zip(separated.kept, negatives, strict=True)
    ]
    return pairs, miner.tally, unfair


def _fairly_judged(
    pair: Candidate, fairness: Fairness, enough: int, unfair: Counter[str]
) -> list[JudgedNegative]:
    """All that was rejected; then what was passed over, which says less, until there are `enough`."""
    fair: list[JudgedNegative] = []
    for negative in pair.judged:
        if negative.reason == "passed-over" and len(fair) >= enough:
            break
        objection = fairness.reason(pair, negative.content_hash, judged=True)
        if objection is None:
            fair.append(negative)
        else:
            unfair[objection] += 1
    return fair


def _said(judged: JudgedNegative, number: int, miner: Miner, contents: Contents) -> Negative:
    return Negative(
        content_hash=judged.content_hash,
        text=contents[judged.content_hash].text,
        reason=judged.reason,
        positive_score=miner.positive_score(number),
        negative_score=miner.score(number, judged.content_hash),
        weight=judged.weight,
    )


def _mined(pair: Candidate, found: Iterable[Mined], contents: Contents) -> list[Negative]:
    return [
        Negative(
            content_hash=mined.content_hash,
            # Without documentation where the positive is without, or its presence would tell them apart.
            text=contents[mined.content_hash].code
            if pair.origin == "docstring"
            else contents[mined.content_hash].text,
            reason="mined",
            positive_score=mined.positive_score,
            negative_score=mined.negative_score,
        )
        for mined in found
    ]


def _finished(
    pair: Candidate,
    negatives: Iterable[Negative],
    answers: Iterable[bytes],
    groups: Mapping[bytes, bytes],
) -> Pair:
    return Pair(
        id=0,
        split=pair.split,
        origin=pair.origin,
        query=pair.query,
        positive_hash=pair.content_hash,
        positive_text=pair.text,
        weight=pair.weight,
        language=pair.language,
        group_key=pair.group_key,
        negatives=tuple(
            replace(negative, copy_group=groups[negative.content_hash]) for negative in negatives
        ),
        because=pair.because,
        copy_group=groups[pair.content_hash],
        spared=frozenset(groups.get(content_hash, content_hash) for content_hash in (*answers, *pair.unsure)),
    )
