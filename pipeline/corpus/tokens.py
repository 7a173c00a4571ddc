"""How long a text may be for the encoder, and how its length is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TokenBudget:
    """A limit in tokens and the tokenizer that counts them.

    Args:
        name: Identifies tokenizer and limit; part of what makes a file be extracted again.
        max_tokens: The longest text the encoder reads whole, special tokens included.
        count: Counts the tokens of each text, special tokens included, without truncating; in input order.
        counter: How another process makes its own `count`: a module, a function in it, and its arguments as
            JSON has them. None: only this one can count.
    """

    name: str
    max_tokens: int
    count: Callable[[Sequence[str]], list[int]]
    counter: tuple[str, str, list[Any]] | None = None
