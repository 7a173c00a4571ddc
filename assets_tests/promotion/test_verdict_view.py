"""How verdicts and online evidence read, in the terminal and as rows."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice, evaluation, measured
from assets_tests.promotion.test_gate import AFTER, BEFORE, SOUND, THRESHOLDS
from pipeline.evaluation.interleaving import Choice, OnlineOutcome, online_outcome
from pipeline.promotion.gate import Verdict, decide
from pipeline.promotion.models_view import verdict_parts
from pipeline.promotion.verdict_view import (
    FINDINGS,
    findings_rows,
    findings_table,
    not_shown,
    online_sentence,
)
from pipeline.promotion.verdicts import GivenVerdict


def many() -> Verdict:
    """Nine repositories: one is harmed, seven hold, one is too small."""
    sizes = {"harmed": 40, **{f"r{number}": 30 + number for number in range(7)}, "tiny": 5}
    before = [Slice([2] * size, repository=name) for name, size in sizes.items()]
    after = [Slice([9 if name == "harmed" else 1] * size, repository=name) for name, size in sizes.items()]
    return decide(measured(evaluation(CANDIDATE, *after), evaluation(SERVING, *before)), THRESHOLDS, SOUND)


def shown(*parts: object, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_finding_is_a_row_with_what_was_asked_for() -> None:
    rows = findings_rows(many())
    assert {len(row) for row in rows} == {len(FINDINGS)}
    by_name = {row[1]: row for row in rows}
    assert by_name["gain over serving"] == [
        "✓",
        "gain over serving",
        "276",
        "+.268",  # (236 · 0.369 − 40 · 0.330) / 276
        by_name["gain over serving"][4],
        "<.001",
        "≥ +.010",
    ]
    assert by_name["floor ndcg@10"] == ["✓", "floor ndcg@10", "", "0.899", "", "", "≥ 0.100"]
    assert by_name["repository harmed"][0] == "✗"
    assert by_name["repository harmed"][3] == "−.330"
    assert by_name["repository harmed"][6] == "≥ −.020"
    assert (by_name["repository tiny"][0], by_name["repository tiny"][6]) == ("·", "")


def test_a_terminal_shows_what_failed_and_the_worst_that_held() -> None:
    verdict = many()
    text = shown(findings_table(verdict, slices=3))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "✗  repository harmed" in text
    assert text.count("repository r") == 2
    assert "tiny" not in text
    said = not_shown(verdict, slices=3)
    assert said == "5 more slices hold; 1 slices are too small to decide anything."


def outcome(wins: int, losses: int) -> OnlineOutcome:
    choices = [Choice(f"p{n}", "win" if n < wins else "loss") for n in range(wins + losses)]
    return online_outcome(
        choices,
        500,
        min_searches=100,
        significance=0.05,
        resamples=500,
        permutations=1000,
        seed=1,
    )


def test_online_evidence_stands_beside_the_verdict() -> None:
    verdict = decide(
        measured(evaluation(CANDIDATE, Slice(AFTER)), evaluation(SERVING, Slice(BEFORE))), THRESHOLDS, SOUND
    )
    given = GivenVerdict(1, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), verdict)
    text = " ".join(shown(*verdict_parts(given, outcome(90, 30))).split())
    assert "Approved 2026-01-02 03:04, against 555555555555" in text
    assert "gain over serving" in text
    assert "Online, by interleaved searches: Candidate preferred: 90 won, 30 lost, 0 tied of 120" in text
    assert "share 0.750" in text


def test_little_or_no_online_evidence_is_said() -> None:
    assert online_sentence(None) == ""
    assert online_sentence(outcome(9, 3)).startswith("Not enough evidence: 9 won, 3 lost")
    assert online_sentence(outcome(0, 0)) == (
        "Not enough evidence: 0 won, 0 lost, 0 tied of 0 decided (500 interleaved) by 0 people."
    )
