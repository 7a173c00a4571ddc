"""What cannot be asked says which part of the request it is, whoever asks."""

from __future__ import annotations

import pytest

from pipeline.errors import BadInputError
from pipeline.search.request import SearchRequest


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (SearchRequest(" \n"), "query"),
        (SearchRequest("x" * 10_001), "query"),
        (SearchRequest("half \ud83d"), "query"),
        (SearchRequest("q", 0), "k"),
        (SearchRequest("q", 1001), "k"),
        (SearchRequest("q", languages=("py\x00",)), "language"),
        (SearchRequest("q", sources=("click", "\udfff")), "source"),
        (SearchRequest("q", kinds=("struct",)), "kind"),
        (SearchRequest("q", path=" "), "path"),
        (SearchRequest("q", path="a" * 501), "path"),
        (SearchRequest("q", path="src/[z-a]"), "path"),
        (SearchRequest("q", path="\x00"), "path"),
        (SearchRequest("q", user="\x00"), "user"),
    ],
)
def test_what_cannot_be_asked_names_its_field(wrong: SearchRequest, field: str) -> None:
    with pytest.raises(BadInputError) as error:
        wrong.check()
    assert error.value.field == field


def test_the_longest_query_and_the_most_results_can_be_asked() -> None:
    SearchRequest("x" * 10_000, 1000, ("python",), ("click",), ("function",), "src/**/[!a-c]?.py").check()
