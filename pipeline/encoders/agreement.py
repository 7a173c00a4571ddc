"""Whether a tokenizer is the model's own, as far as a directory without a manifest can tell.

Nothing in the files of a model names the tokenizer that its weights were trained with, so this refuses only
what is certain: what the directory says in two places, and says differently, and far too small a vocabulary.
Many models have rows for more tokens than there are, as lengths that are a multiple of 128 are faster, and
many have ids of special tokens in their configuration that nobody uses; neither is a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.encoders.files import ARCHITECTURE, TOKENIZER, DamagedModelError, read_json
from pipeline.encoders.tokenizing import TextTokenizer

# Rows that no token has are some hundreds, of tens of thousands.
LEAST_SHARE_OF_ROWS = 0.75
# A line of vocab.txt that reads otherwise may be a matter of encoding; a hundredth of them is no such matter.
MOST_OTHER_LINES = 0.01
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY = "vocab.txt"
# What stands around a text; others may be added when a tokenizer is loaded elsewhere.
_AROUND = ("cls_token", "sep_token")


def check_tokenizer(directory: Path, tokenizer: TextTokenizer, config: Mapping[str, Any], fix: str) -> None:
    """Refuses a tokenizer that cannot be the one that the model in `directory` was trained with.

    Args:
        directory: The model's.
        tokenizer: As tokenizer.json there describes it.
        config: What config.json says.
        fix: What to do about it.

    Raises:
        DamagedModelError: it is another model's.
    """
    why = next(_contradictions(directory, tokenizer, config, fix), None)
    if why is not None:
        raise DamagedModelError(
            f"{directory / TOKENIZER} is another model's tokenizer: {why}.",
            hint=f"{fix} A file beside it that is not its own can be removed.",
        )


def _contradictions(
    directory: Path, tokenizer: TextTokenizer, config: Mapping[str, Any], fix: str
) -> Iterator[str]:
    rows, tokens = config.get("vocab_size"), tokenizer.vocabulary_size
    if isinstance(rows, int) and tokens < LEAST_SHARE_OF_ROWS * rows:
        yield f"it has {tokens:,} tokens, and {ARCHITECTURE} describes a model that knows {rows:,}"
    if (directory / TOKENIZER_CONFIG).is_file():
        said = read_json(directory / TOKENIZER_CONFIG, fix)
        for name in _AROUND:
            token = said.get(name)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str) and not tokenizer.knows(token):
                yield f"{TOKENIZER_CONFIG} has the {name} {token}, and it has no such token"
    if tokenizer.is_word_piece and (directory / VOCABULARY).is_file():
        lines = _lines(directory / VOCABULARY)
        others = sum(tokenizer.differs(number, line) for number, line in enumerate(lines))
        if others > MOST_OTHER_LINES * len(lines):
            yield f"{others:,} of the {len(lines):,} tokens in {VOCABULARY} are others"


def _lines(path: Path) -> list[str]:
    """Of each token its line; tokens may hold what other programs take for the end of a line."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in file]
    except OSError:
        return []  # nothing else here reads it
