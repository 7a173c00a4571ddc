"""Which texts are the same code but for details: found by MinHash, decided by comparing their tokens exactly.

The measure follows Allamanis, "The Adverse Effects of Code Duplication in Machine Learning Models of Code"
(Onward! 2019): two texts are near-duplicates when both the sets and the multisets of their identifiers and
literals overlap enough. Identifiers are kept as they are; layout, operators and order do not count.

A copy whose variables all have other names overlaps too little for that. It is told by its shape: the
sequence of its tokens without comments, in which each variable is replaced by when it first occurs, while the
names that are called or looked up stay (a "type 2" clone: Bellon et al., "Comparison and Evaluation of Clone
Detection Tools", IEEE TSE 2007). Among 2,994 functions of click and httpx it finds five pairs that
the overlap does not, all of them twins: a reader and a writer, `command` and `group`, alike but for the word.
"""

from __future__ import annotations

import hashlib
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

# Shorter code, or code that calls fewer different things, has its shape in common with much that is no copy.
SHAPE_TOKENS = 30
SHAPE_NAMES = 3

_TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*")
_COMMENT = re.compile(r"/\*.*?\*/|(?:(?<=\s)|^)(?://|\#|--\s)[^\n]*", re.DOTALL | re.MULTILINE)
_SIGN = re.compile(r"[^\W\d]\w*|\d[\w.]*|[^\w\s,;]")
_DEFINING = frozenset(("def", "func", "function", "fn", "fun", "sub", "class"))
Key = TypeVar("Key", bound=Hashable)


class Tokens(Counter[str]):
    """The tokens of a text with how often each stands there; `shape` is that of code, or ""."""

    shape: str = ""


def words_of(text: str) -> Tokens:
    """The identifiers, words and numbers of any text."""
    return Tokens(_TOKEN.findall(text))


def tokens_of(code: str) -> Tokens:
    """The identifiers, words and numbers of code, and its shape."""
    tokens = words_of(code)
    tokens.shape = shape_of(code)
    return tokens


def shape_of(code: str) -> str:
    """A hash that code shares with its copies under other variable names; "" if it is too small to tell."""
    signs = _SIGN.findall(_COMMENT.sub(" ", code))
    if len(signs) < SHAPE_TOKENS:
        return ""
    kept: set[str] = set()
    numbers: dict[str, int] = {}
    shape: list[str] = []
    for position, sign in enumerate(signs):
        before = signs[position - 1] if position else ""
        after = signs[position + 1] if position + 1 < len(signs) else ""
        if not sign[0].isalnum() and sign[0] != "_":
            shape.append(sign)
        elif before not in _DEFINING and (after == "(" or before in (".", ">") or sign[0].isdigit()):
            kept.add(sign)
            shape.append(sign)
        else:
            shape.append(f"\0{numbers.setdefault(sign, len(numbers))}")
    if len(kept) < SHAPE_NAMES:
        return ""
    return hashlib.sha256(" ".join(shape).encode()).hexdigest()


def overlap(one: Counter[str], other: Counter[str]) -> tuple[float, float]:
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
    if one.shape and one.shape == other.shape:
        return True
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
        self._of_shape: dict[str, list[Key]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, key: object) -> bool:
        return key in self._tokens

    def add(self, key: Key, tokens: Tokens) -> None:
        """Adds a text under a key of its own. A text without tokens has no near-duplicates."""
        self._tokens[key] = tokens
        if tokens.shape:
            self._of_shape.setdefault(tokens.shape, []).append(key)
        if tokens:
            self._index.insert(key, self._signature(tokens), check_duplication=False)

    def of(self, tokens: Tokens) -> Iterator[Key]:
        """The keys of the texts that a text with these tokens is a near-duplicate of."""
        if not tokens:
            return
        found = cast("list[Key]", self._index.query(self._signature(tokens)))
        for key in dict.fromkeys((*found, *self._of_shape.get(tokens.shape, ()))):
            if are_near_duplicates(tokens, self._tokens[key]):
                yield key

    def _signature(self, tokens: Tokens) -> MinHash:
        signature = self._empty.copy()
        # The n-th occurrence of a token is an element of its own: so a set stands for a multiset.
        signature.update_batch(
            [f"{token}\0{number}".encode() for token, count in tokens.items() for number in range(count)]
        )
        return signature
