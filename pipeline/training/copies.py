"""Which of the contents of a training set are copies of each other: what a batch may not play off."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.training.near_duplicates import NearDuplicates, tokens_of


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
