from __future__ import annotations

from pipeline.evaluation.sparkline import sparkline


def test_the_lowest_is_the_shortest_and_the_highest_the_tallest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.5, 1.5, 2.5]) == "█▁▅"


def test_more_values_than_characters_are_averaged() -> None:
    assert sparkline([0, 0, 7, 7, 0, 7], width=3) == "▁█▅"
    for count in (41, 79, 100, 1013):
        assert len(sparkline(list(range(count)))) == 40


def test_equal_values_are_a_line_and_none_is_nothing() -> None:
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([]) == ""
