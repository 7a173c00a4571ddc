"""Pairs of earlier training sets, for a model that has learned from them and shall not forget them.

Only those that the present set does not have, and of documentation and commits only: these go because the
caps left no room for them or their code has gone. Feedback does not go by itself; a pair of it that is no
longer there was taken back, contradicted or forgotten, and must not come back this way.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.feedback.grouping import normalise_query
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Database
from pipeline.training.copies import contents_of, in_groups_of
from pipeline.training.earlier_sets import earlier_sets
from pipeline.training.near_duplicates import NearDuplicates, tokens_of, words_of
from pipeline.training.pairs import Pair, TrainingSet


def earlier_pairs(db: Database, base: ModelRecord, training_set: TrainingSet) -> tuple[Pair, ...]:
    """The training pairs that `base` and the models before it have learned from, as far as they may be used.

    Args:
        db: The database.
        base: What is trained from; for an encoder that was never fine-tuned here there are none.
        training_set: The present one.
    """
    pairs = (pair for each in earlier_sets(db, base, training_set.id) for pair in each.of("train"))
    return usable_again(pairs, training_set)


def usable_again(pairs: Iterable[Pair], training_set: TrainingSet) -> tuple[Pair, ...]:
    """Those pairs that may be trained on beside a training set: each once, and nothing that it holds out.

    A query that the set has in any split is left to it, and a pair goes whose query is in words all but the
    same as one of the validation or test side. It goes, too, if its snippet, or one of its negatives, is an
    answer of these sides, or a near-duplicate of one. Copy groups are those of the present set.
    """
    asked = {pair.group_key for pair in training_set.pairs}
    held_out: NearDuplicates[bytes] = NearDuplicates()
    held_out_queries: NearDuplicates[bytes] = NearDuplicates()
    known: dict[bytes, bool] = {}  # whether a content is held out, or a near-duplicate of what is
    for pair in training_set.pairs:
        if pair.split == "train":
            continue
        if pair.group_key not in held_out_queries:
            held_out_queries.add(pair.group_key, words_of(normalise_query(pair.query)))
        if pair.positive_hash not in known:
            known[pair.positive_hash] = True
            held_out.add(pair.positive_hash, tokens_of(pair.positive_code or pair.positive_text))

    def is_held_out(content_hash: bytes, code: str) -> bool:
        if content_hash not in known:
            known[content_hash] = next(held_out.of(tokens_of(code)), None) is not None
        return known[content_hash]

    kept: dict[tuple[bytes, bytes], Pair] = {}
    for pair in pairs:
        place = pair.group_key, pair.positive_hash
        if pair.origin == "feedback" or pair.group_key in asked or place in kept:
            continue
        if next(held_out_queries.of(words_of(normalise_query(pair.query))), None) is not None:
            continue
        if not any(is_held_out(content_hash, code) for content_hash, code, _ in contents_of(pair)):
            kept[place] = pair
    return in_groups_of(training_set, tuple(kept.values()))
