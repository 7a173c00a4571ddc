"""How a verdict reads: its findings as rows, and online evidence as a sentence."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.interleaving import OnlineOutcome
from pipeline.promotion.verdict import Finding, Verdict

FINDINGS = ("", "looked at", "queries", "found", "interval", "p", "asked for")
PASSED, FAILED, UNDECIDED = "✓", "✗", "·"
_STYLES = {PASSED: "green", FAILED: "red", UNDECIDED: "dim"}


def findings_rows(verdict: Verdict) -> list[list[str]]:
    """One row for each finding, under `FINDINGS`."""
    return [_row(finding) for finding in verdict.findings]


def findings_table(verdict: Verdict, slices: int = 6) -> Table:
    """The findings for a terminal: all that decided, and of the slices that passed the worst few."""
    fixed = [f for f in verdict.findings if not f.is_slice]
    large = [f for f in verdict.findings if f.is_slice and f.decides]
    # What failed is always among them, as the worst there is.
    worst = sorted(large, key=lambda f: (f.passed, f.difference.mean if f.difference else 0.0))
    failed = sum(not f.passed for f in large)
    shown = [*fixed, *worst[: max(slices, failed)]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in FINDINGS:
        table.add_column(heading, justify="left" if heading in ("", "looked at") else "right")
    for finding in shown:
        mark, *cells = _row(finding)
        table.add_row(Text(mark, style=_STYLES[mark]), *(Text(cell) for cell in cells))
    return table


def not_shown(verdict: Verdict, slices: int = 6) -> str:
    """What `findings_table` leaves out, as a sentence; "" if nothing."""
    large = [f for f in verdict.findings if f.is_slice and f.decides]
    failed = sum(not f.passed for f in large)
    more = len(large) - max(slices, failed)
    small = sum(not f.decides and f.is_slice for f in verdict.findings)
    parts = [f"{more} more slices hold"] if more > 0 else []
    parts += [f"{small} slices are too small to decide anything"] if small else []
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def online_sentence(outcome: OnlineOutcome | None) -> str:
    """What interleaved searches say; "" if there were none."""
    if outcome is None:
        return ""
    counted = (
        f"{outcome.wins:,} won, {outcome.losses:,} lost, {outcome.ties:,} tied of {outcome.decided:,} "
        f"decided ({outcome.searches:,} interleaved) by {outcome.people:,} people"
    )
    if outcome.preference is None or outcome.low is None or outcome.high is None or outcome.p_value is None:
        return f"{outcome.verdict.capitalize()}: {counted}."
    return (
        f"{outcome.verdict.capitalize()}: {counted}; the candidate's share {outcome.preference:.3f} "
        f"(95% interval {outcome.low:.3f} to {outcome.high:.3f}, p {outcome.p_value:.3f}; 0.5 is none)."
    )


def _row(finding: Finding) -> list[str]:
    mark = UNDECIDED if not finding.decides else PASSED if finding.passed else FAILED
    found = finding.difference
    if found is None:
        value = "–" if finding.value is None else f"{finding.value:.3f}"
        limit = "" if finding.limit is None else f"≥ {finding.limit:.3f}"
        return [mark, finding.about, "", value, "", "", limit]
    p = found.p_value if found.permutation_p is None else found.permutation_p
    asked = finding.decides and finding.limit is not None
    return [
        mark,
        finding.about,
        f"{found.count:,}",
        _signed(found.mean),
        f"{_signed(found.low)} … {_signed(found.high)}",
        "<.001" if p < 0.001 else f"{p:.3f}"[1:] if p < 1 else "1",
        f"≥ {_signed(finding.limit or 0.0)}" if asked else "",
    ]


def _signed(value: float) -> str:
    """`+.038`, with a true minus sign: the column is narrow and the zero says nothing."""
    return f"{value:+.3f}".replace("0.", ".", 1).replace("-", "−")
