"""What must hold for every training set: triplets that differ, and nothing on two sides at once.

The rules are applied when a set is built (splits.py, mining.py); here they are asked of the finished set,
anew and by other code, for the asset checks.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.corpus.secrets import REPLACEMENT
from pipeline.feedback.grouping import group_key, normalise_query
from pipeline.training.near_duplicates import NearDuplicates, are_near_duplicates, tokens_of
from pipeline.training.pairs import Negative, Pair, Split, TrainingSet
from pipeline.training.splits import SPLITS

# Queries that had different secrets may be spelled alike since: their keys tell them apart.
_SECRET = REPLACEMENT.decode()


def validate_triplets(training_set: TrainingSet) -> list[str]:
    """What is wrong with any (query, positive, negative): one line each, none if all is well.

    Both texts differ from the query and from each other, by more than details; no negative of a query is a
    positive of it.
    """
    answers: dict[bytes, set[bytes]] = {}
    for pair in training_set.pairs:
        answers.setdefault(pair.group_key, set()).add(pair.positive_hash)
    problems: list[str] = []
    for pair in training_set.pairs:
        query = normalise_query(pair.query)
        if query == normalise_query(pair.positive_text):
            problems.append(f"{_name(pair)}: its query is its positive")
        for negative in pair.negatives:
            if negative.content_hash in answers[pair.group_key]:
                problems.append(f"{_name(pair)}: a {negative.reason} negative is a positive of the query")
            elif _same(pair.positive_text, negative.text):
                problems.append(f"{_name(pair)}: a {negative.reason} negative has the positive's text")
            elif are_near_duplicates(tokens_of(_code(pair)), tokens_of(_negative_code(negative))):
                problems.append(f"{_name(pair)}: a {negative.reason} negative is a near-duplicate of it")
            if query == normalise_query(negative.text):
                problems.append(f"{_name(pair)}: its query is a {negative.reason} negative")
    return problems


def no_leakage(training_set: TrainingSet) -> list[str]:
    """What stands on two sides at once: one line each, none if all is well.

    No query, in any spelling, and no positive, nor a near-duplicate of it, is on two sides; and no negative
    that is trained on is a positive of the validation or test side, or a near-duplicate of one.
    """
    problems: list[str] = []
    side_of_query: dict[bytes, Split] = {}
    side_of: dict[bytes, Split] = {}
    known: NearDuplicates[bytes] = NearDuplicates()
    for pair in training_set.pairs:
        for key in {pair.group_key} if _SECRET in pair.query else {pair.group_key, group_key(pair.query)}:
            if side_of_query.setdefault(key, pair.split) != pair.split:
                problems.append(f"{_name(pair)}: its query is on the {side_of_query[key]} side too")
        if pair.positive_hash in side_of:
            if side_of[pair.positive_hash] != pair.split:
                problems.append(
                    f"{_name(pair)}: its snippet is on the {side_of[pair.positive_hash]} side too"
                )
            continue
        tokens = tokens_of(_code(pair))
        others = {side_of[other] for other in known.of(tokens)} - {pair.split}
        problems.extend(
            f"{_name(pair)}: a near-duplicate of its snippet is on the {other} side"
            for other in sorted(others)
        )
        side_of[pair.positive_hash] = pair.split
        known.add(pair.positive_hash, tokens)
    for pair in training_set.of("train"):
        for negative in pair.negatives:
            side = _held_out_side(negative, side_of, known)
            if side is not None:
                problems.append(f"{_name(pair)}: a negative of it is a positive of the {side} side")
    return problems


def _held_out_side(
    negative: Negative, side_of: Mapping[bytes, Split], known: NearDuplicates[bytes]
) -> Split | None:
    sides = {side_of[other] for other in known.of(tokens_of(_negative_code(negative)))}
    if negative.content_hash in side_of:
        sides.add(side_of[negative.content_hash])
    return next((side for side in SPLITS if side in sides and side != "train"), None)


def _code(pair: Pair) -> str:
    return pair.positive_text if pair.positive_code is None else pair.positive_code


def _negative_code(negative: Negative) -> str:
    return negative.text if negative.code is None else negative.code


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(other.split())


def _name(pair: Pair) -> str:
    """Without its query: this goes into records of runs, where a forgotten person's would stay."""
    return f"{pair.split} pair {pair.id} of origin {pair.origin}"
