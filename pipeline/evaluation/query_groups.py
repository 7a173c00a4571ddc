"""From test pairs to test queries, and the name of the test set they make with the corpus."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.feedback.grouping import normalise_query
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.words import QueryWords

if TYPE_CHECKING:
    from pipeline.training.pairs import Pair


# Part of a test set's name: raised when a metric or a rule of ranking changes, so that results made by
# different rules are never compared. 2: what stands first is kept for each query.
RULES = b"2"


@dataclass(frozen=True)
class Relevant:
    """A relevant content: the hash it has in the corpus, and the text it is ranked by for this query.

    The text differs from the corpus's where the query is the code's own documentation: that is cut out.
    """

    content_hash: bytes
    text: str


@dataclass(frozen=True)
class Triplet:
    """The texts of a positive and a negative of one query."""

    positive: str
    negative: str


@dataclass(frozen=True)
class MeasuredQuery:
    """One test query with all its relevant contents (at least one) and all its triplets (perhaps none).

    `repository` is where most of its relevant contents stand; "" if that is not known. `counted` is what the
    corpus said of its words when it was frozen; None where they do not count.
    """

    key: bytes
    query: str
    origin: str
    language: str
    relevant: tuple[Relevant, ...]
    triplets: tuple[Triplet, ...]
    repository: str = ""
    counted: QueryWords | None = None

    @property
    def words(self) -> int:
        """How many words it has; at least 1."""
        return max(1, len(self.query.split()))


def group_pairs(
    pairs: Iterable[Pair], corpus: Collection[bytes], repositories: Mapping[bytes, str] | None = None
) -> list[MeasuredQuery]:
    """Test queries in the order of their keys.

    Pairs of one origin whose queries are spellings of one another are one query with several relevant
    contents. A pair whose code is gone from the corpus is left out: no search could return it. `repositories`
    names one for each content.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if pair.positive_hash in corpus:
            groups.setdefault((pair.origin, normalise_query(pair.query)), []).append(pair)
    queries = [_query(origin, members, repositories or {}) for (origin, _), members in groups.items()]
    return sorted(queries, key=lambda query: query.key)


def query_key(origin: str, query: str) -> bytes:
    """What names a test query, in any spelling."""
    return hashlib.sha256(f"{origin}\0{normalise_query(query)}".encode()).digest()


def name_test_set(
    queries: Sequence[MeasuredQuery],
    corpus: Iterable[bytes],
    ranking: Weights = MEANING_ALONE,
    *,
    with_repositories: bool = True,
) -> str:
    """SHA-256 over all that decides the result of an evaluation, but for the model.

    Two evaluations under one name ranked the same corpus, in the order of the same `ranking`, for the same
    queries with the same answers, in the same slices: the same code may stand in another repository by now.
    """
    digest = hashlib.sha256()

    def add(*fields: bytes) -> None:
        for each in fields:  # lengths first, so that no two lists of fields run together alike
            digest.update(len(each).to_bytes(8, "big"))
            digest.update(each)

    add(b"rules", RULES)
    for query in queries:
        add(query.key, query.query.encode(), query.origin.encode(), query.language.encode())
        if query.repository and with_repositories:
            add(b"repository", query.repository.encode())
        for relevant in query.relevant:
            add(b"relevant", relevant.content_hash, relevant.text.encode())
        for triplet in query.triplets:
            add(b"triplet", triplet.positive.encode(), triplet.negative.encode())
        if query.counted is not None:
            add(b"words", repr(query.counted).encode())
    add(b"corpus", *sorted(corpus))
    if ranking != MEANING_ALONE:
        add(b"ranking", *(repr(weight).encode() for weight in ranking))
    return digest.hexdigest()


def is_named(
    name: str, queries: Sequence[MeasuredQuery], corpus: Sequence[bytes], ranking: Weights = MEANING_ALONE
) -> bool:
    """Whether this is their name, also by the rule of before repositories were a part of it."""
    return any(
        name_test_set(queries, corpus, ranking, with_repositories=each) == name for each in (True, False)
    )


def _query(origin: str, pairs: Sequence[Pair], repositories: Mapping[bytes, str]) -> MeasuredQuery:
    relevant = {pair.positive_hash: Relevant(pair.positive_hash, pair.positive_text) for pair in pairs}
    triplets = {
        Triplet(pair.positive_text, negative.text): None for pair in pairs for negative in pair.negatives
    }
    languages = Counter(pair.language for pair in pairs)
    places = Counter(repositories.get(content_hash, "") for content_hash in relevant)
    query = min(pair.query for pair in pairs)
    return MeasuredQuery(
        key=query_key(origin, query),
        query=query,
        origin=origin,
        language=min(languages, key=lambda language: (-languages[language], language)),
        relevant=tuple(sorted(relevant.values(), key=lambda each: each.content_hash)),
        triplets=tuple(sorted(triplets, key=lambda each: (each.positive, each.negative))),
        repository=min(places, key=lambda name: (not name, -places[name], name)),
    )
