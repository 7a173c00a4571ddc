"""Which slices a query belongs to: its origin, language, repository and length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pipeline.evaluation.results import QueryResult

Dimension = Literal["origin", "language", "repository", "length"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

# People search with a handful of words, documentation speaks in sentences: each is a task of its own.
LENGTHS = (("up to 3 words", 3), ("4 to 8 words", 8), ("9 to 16 words", 16), ("over 16 words", None))


def length_of(words: int) -> str:
    """The length slice of a query with so many words; "" where they were not counted."""
    if words < 1:
        return ""
    return next(name for name, most in LENGTHS if most is None or words <= most)


def slice_of(result: QueryResult, dimension: Dimension) -> str:
    """The name of the slice of `dimension` that a query belongs to; "" where it is not known."""
    if dimension == "length":
        return length_of(result.words)
    return {"origin": result.origin, "language": result.language, "repository": result.repository}[dimension]


def slice_names(results: Iterable[QueryResult], dimension: Dimension) -> Sequence[str]:
    """The slices of `dimension` that have a query: lengths from short to long, all else by name."""
    found = {slice_of(result, dimension) for result in results} - {""}
    if dimension == "length":
        return [name for name, _ in LENGTHS if name in found]
    return sorted(found)
