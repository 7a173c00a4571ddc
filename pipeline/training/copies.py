"""Which of the contents of a training set are copies of each other: what a batch may not play off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pipeline.training.near_duplicates import NearDuplicates, tokens_of
from pipeline.training.pairs import Pair, TrainingSet


def copy_groups(codes: Mapping[bytes, str]) -> dict[bytes, bytes]:
    """The group of each content: the least hash among its near-duplicates, theirs, and so on.

    Args:
        codes: Code without documentation, by content hash.
    """
    group = {content_hash: content_hash for content_hash in codes}

    def head(content_hash: bytes) -> bytes:
        while group[content_hash] != content_hash:
            group[content_hash] = group[group[content_hash]]
            content_hash = group[content_hash]
        return content_hash

    known: NearDuplicates[bytes] = NearDuplicates()
    for content_hash in sorted(codes):
        tokens = tokens_of(codes[content_hash])
        for other in known.of(tokens):
            one, two = sorted((head(content_hash), head(other)))
            group[two] = one
        known.add(content_hash, tokens)
    return {content_hash: head(content_hash) for content_hash in codes}


def contents_of(pair: Pair) -> Iterator[tuple[bytes, str, bytes]]:
    """The hash, code and copy group of the positive and of each negative."""
    yield pair.positive_hash, pair.positive_code or pair.positive_text, pair.group
    for each in pair.negatives:
        yield each.content_hash, each.code or each.text, each.group


def in_groups_of(training_set: TrainingSet, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Pairs of other sets with the copy groups of this one, so that a batch may have both.

    A group is named after one of its contents, and which one depends on what else is in the set.
    """
    if not pairs:
        return ()
    present, others = (
        [each for pair in some for each in contents_of(pair)] for some in (training_set.pairs, pairs)
    )
    heads = copy_groups({content_hash: code for content_hash, code, _ in (*others, *present)})
    present_groups: dict[bytes, set[bytes]] = {}
    for content_hash, _, group in present:
        present_groups.setdefault(heads[content_hash], set()).add(group)

    def groups(content_hash: bytes) -> set[bytes]:
        """Of the present set, if it has copies of this."""
        return present_groups.get(heads[content_hash], {heads[content_hash]})

    def name(content_hash: bytes) -> bytes | None:
        least = min(groups(content_hash))
        return None if least == content_hash else least

    renamed: dict[bytes, set[bytes]] = {}
    for content_hash, _, group in others:
        renamed.setdefault(group, {group}).update(groups(content_hash))
    return tuple(
        replace(
            pair,
            copy_group=name(pair.positive_hash),
            negatives=tuple(replace(each, copy_group=name(each.content_hash)) for each in pair.negatives),
            spared=frozenset().union(
                *(renamed.get(group, {group}) for group in pair.spared),
                groups(pair.positive_hash) - {min(groups(pair.positive_hash))},
            ),
        )
        for pair in pairs
    )
