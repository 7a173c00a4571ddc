"""What is found: one leftover each, what mends it, and what became of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import HoneloopError
from pipeline.store.failures import explained


@dataclass(frozen=True)
class Finding:
    """One thing that should not be there, or should and is not.

    Attributes:
        kind: the word for it, such as "half-written checkpoint".
        what: a sentence that names it.
        mend: does away with it, having looked again whether it is still a leftover; None: a person has to.
        hint: what to do about it where `mend` is None.
    """

    kind: str
    what: str
    mend: Callable[[], object] | None = None
    hint: str = ""


@dataclass
class Examination:
    """All that was found, and what was left alone.

    Attributes:
        findings: in the order in which they should be mended.
        notes: what is in use, or waits for something, and is as it should be.
    """

    findings: list[Finding] = field(default_factory=list[Finding])
    notes: list[str] = field(default_factory=list[str])

    def add(self, findings: Iterable[Finding]) -> None:
        """More of them."""
        self.findings.extend(findings)


@dataclass(frozen=True)
class Outcome:
    """A finding, and whether it was mended; if that was tried and failed, why."""

    finding: Finding
    mended: bool
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `honeloop doctor --json` prints it."""
        return {
            "kind": self.finding.kind,
            "what": self.finding.what,
            "can_be_mended": self.finding.mend is not None,
            "mended": self.mended,
            "hint": self.finding.hint,
            "problem": self.problem,
        }


def mended(finding: Finding) -> Outcome:
    """Mends it, if it can be. What cannot be mended now is in the outcome, and does not keep others back."""
    if finding.mend is None:
        return Outcome(finding, False)
    try:
        finding.mend()
    except HoneloopError as error:
        return Outcome(finding, False, str(error))
    except Exception as error:
        known = explained(error)
        if known is None and not isinstance(error, OSError):
            raise
        return Outcome(finding, False, str(known or error))
    return Outcome(finding, True)
