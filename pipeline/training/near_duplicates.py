"""Which texts are the same code but for details: found by MinHash, decided by comparing their tokens exactly.

The measure follows Allamanis, "The Adverse Effects of Code Duplication in Machine Learning Models of Code"
(Onward! 2019): two texts are near-duplicates when both the sets and the multisets of their identifiers and
literals overlap enough. Identifiers are kept as they are; layout, operators and order do not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from datasketch import MinHash

# Allamanis took 0.8 and 0.7 for whole files. A snippet has fewer tokens, so that one renamed variable weighs
# more: in 6,267 Python functions (CoSQA) most pairs between those figures and these were copies too.
SET_OVERLAP = 0.75
MULTISET_OVERLAP = 0.65

# 32 bands of 4 hashes propose a pair of overlap 0.65 in 99.8 of 100 cases, of 0.2 in 5, of 0.1 in 0.3.
BANDS = (32, 4)

_TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*")

Tokens = Counter[str]
Key = TypeVar("Key", bound=Hashable)


def tokens_of(text: str) -> Tokens:
    """The identifiers, words and numbers of `text` with how often each stands there."""
    return Counter(_TOKEN.findall(text))


def overlap(one: Tokens, other: Tokens) -> tuple[float, float]:
    """Jaccard similarity of the sets and of the multisets of tokens, each 0 to 1."""
    distinct = len(one.keys() | other.keys())
    if distinct == 0:
        return 0.0, 0.0
    shared = sum((one & other).values())
    return (
        len(one.keys() & other.keys()) / distinct,
        shared / (one.total() + other.total() - shared),
    )


def are_near_duplicates(one: Tokens, other: Tokens) -> bool:
    """Whether two texts with these tokens are the same code but for details."""
    of_sets, of_multisets = overlap(one, other)
    return of_sets >= SET_OVERLAP and of_multisets >= MULTISET_OVERLAP


class NearDuplicates(Generic[Key]):
    """A collection of texts that can be asked for the near-duplicates of another.

    Example: `known.add("a", tokens_of(text)); list(known.of(tokens_of(other)))`
    """

    def __init__(self) -> None:
        from datasketch import MinHash, MinHashLSH

        self._empty = MinHash(num_perm=BANDS[0] * BANDS[1], seed=1)
        self._index = MinHashLSH(num_perm=BANDS[0] * BANDS[1], params=BANDS)
        self._tokens: dict[Key, Tokens] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, key: Key, tokens: Tokens) -> None:
        """Adds a text under a key of its own. A text without tokens has no near-duplicates."""
        self._tokens[key] = tokens
        if tokens:
            self._index.insert(key, self._signature(tokens), check_duplication=False)

    def of(self, tokens: Tokens) -> Iterator[Key]:
        """The keys of the texts that a text with these tokens is a near-duplicate of."""
        if not tokens:
            return
        for key in cast("list[Key]", self._index.query(self._signature(tokens))):
            if are_near_duplicates(tokens, self._tokens[key]):
                yield key

    def _signature(self, tokens: Tokens) -> MinHash:
        signature = self._empty.copy()
        # The n-th occurrence of a token is an element of its own: so a set stands for a multiset.
        signature.update_batch(
            [f"{token}\0{number}".encode() for token, count in tokens.items() for number in range(count)]
        )
        return signature
