"""Which slice a query stands in, and in what order slices are shown."""

from __future__ import annotations

import pytest

from assets_tests.evaluation.made import BASE, Slice, evaluation
from pipeline.evaluation.results import breakdown_from_json, breakdown_to_json
from pipeline.evaluation.slices import length_of


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (0, ""),
        (1, "up to 3 words"),
        (3, "up to 3 words"),
        (4, "4 to 8 words"),
        (9, "9 to 16 words"),
        (16, "9 to 16 words"),
        (17, "over 16 words"),
        (5000, "over 16 words"),
    ],
)
def test_lengths(words: int, name: str) -> None:
    assert length_of(words) == name


def test_queries_are_sliced_by_origin_language_repository_and_length() -> None:
    found = evaluation(
        BASE,
        Slice([1, 2], "feedback", repository="web", words=2),
        Slice([3] * 3, language="go", repository="api", words=40),
        Slice([4], words=9),  # where it stands is not known
    )
    assert {name: list(slices) for name, slices in found.slices.items()} == {
        "origin": ["docstring", "feedback"],
        "language": ["go", "python"],
        "repository": ["api", "web"],
        "length": ["up to 3 words", "9 to 16 words", "over 16 words"],
    }
    assert found.slices["length"]["over 16 words"]["mrr@10"].count == 3
    again = breakdown_from_json(breakdown_to_json(found))
    assert (again.overall, again.slices) == (found.overall, found.slices)


def test_what_was_stored_before_there_were_more_slices_can_be_read() -> None:
    content = breakdown_to_json(evaluation(BASE, Slice([1, 2], repository="web")))
    del content["by_repository"], content["by_length"]
    assert breakdown_from_json(content).slices["repository"] == {}
