"""How long a cluster is waited for: without an end where others have taken what it gives, else not for long.

An embedding holds what it takes until it ends, and so does a training. If it did not wait, one would fail for
the other, though nothing is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Note = Callable[[str], None]

SAY_SECONDS = 60.0


class Patience:
    """Whoever waits tells it what there is, every few seconds.

    Args:
        seconds: how long there may be nothing to wait for.
        note: told every minute that others have taken what is waited for.
    """

    def __init__(self, seconds: float, note: Note) -> None:
        self._seconds = seconds
        self._note = note
        self.reset()

    def reset(self) -> None:
        """What was waited for is there."""
        self._since = time.monotonic()
        self._taken_since: float | None = None
        self._said = self._since

    def taken(self) -> None:
        """Nodes that would do are alive, and others have taken what they give."""
        now = self._since = time.monotonic()
        if self._taken_since is None:
            self._taken_since = self._said = now
        elif now - self._said >= SAY_SECONDS:
            self._said = now
            minutes = (now - self._taken_since) / 60
            self._note(
                f"For {minutes:.0f} min other work has taken what the nodes of the Ray cluster give. It is "
                "waited for; `ray status` says how much is free."
            )

    def over(self) -> bool:
        """Whether there has been nothing to wait for, for too long."""
        return time.monotonic() - self._since > self._seconds
