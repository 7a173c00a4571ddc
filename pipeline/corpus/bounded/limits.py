"""What is said when a file exceeds the limits."""

from __future__ import annotations


class BeyondLimitsError(Exception):
    """A file could not be parsed within the limits; the message says which.

    Args:
        why: In one line.
        lasting: Whether the same file would fail again under the same limits.
    """

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting
