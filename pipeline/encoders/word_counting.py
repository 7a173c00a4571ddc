"""Counts the tokens of a text by lines and words, each different one once: no tokenizer is as fast.

A BERT tokenizer parts a text at white space and punctuation before anything else, so that lines never share
a token and, in printable ASCII, a run of letters and digits has the tokens it has alone, and any other
character is one token. A line that is not such is asked of the tokenizer whole. Tokenizers of other kinds
are not for this.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PUNCTUATION = string.punctuation.encode()
_WORDS_ALONE = bytes.maketrans(_PUNCTUATION, b" " * len(_PUNCTUATION))
_ORDINARY = (string.ascii_letters + string.digits).encode() + _PUNCTUATION + b" \t\r"
# Words remembered; code has far fewer that come again.
_MOST_WORDS = 200_000
# Bytes of lines remembered: those of one file are asked for several times, those of others seldom come again.
_MOST_LINES = 200_000


class WordCounter:
    """Counts by words. Made by `word_counter`, which knows the tokenizers it is right for.

    Args:
        tokenizer: Neither pads nor truncates.
        special: Its special tokens, none with white space; a line that holds one is not ordinary.
    """

    def __init__(self, tokenizer: Tokenizer, special: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        pattern = "|".join(map(re.escape, special)).encode()
        self._special = re.compile(pattern, re.IGNORECASE) if special else None
        self._overhead = len(tokenizer.encode("").ids)
        self._words: dict[bytes, int] = {}
        self._lines: dict[bytes, int] = {}
        self._remembered = 0  # bytes of the lines

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, special ones included, as the tokenizer would count them."""
        lines = [list(map(bytes.strip, text.encode("utf-8", "replace").split(b"\n"))) for text in texts]
        self._learn(set[bytes]().union(*lines))
        return [self._overhead + sum(map(self._lines.__getitem__, each)) for each in lines]

    def counts_by_words(self, line: bytes) -> bool:
        """Whether this line has the tokens of its words and one for each punctuation mark."""
        if line.translate(None, _ORDINARY):
            return False
        return self._special is None or self._special.search(line) is None

    def _learn(self, lines: set[bytes]) -> None:
        if self._remembered > _MOST_LINES:
            self._lines.clear()
            self._remembered = 0
        new = lines.difference(self._lines)
        parted = {line: line.translate(_WORDS_ALONE).split() for line in new if self.counts_by_words(line)}
        whole = list(new - parted.keys())
        words = set[bytes]().union(*parted.values())
        asked = words.difference(self._words)
        if len(self._words) + len(asked) > _MOST_WORDS:
            self._words.clear()
            asked = words
        # In one call: it costs as much as some hundred words.
        counts = self._tokens_of([*whole, *asked])
        self._lines.update(zip(whole, counts[: len(whole)], strict=True))
        self._words.update(zip(asked, counts[len(whole) :], strict=True))
        for line, its_words in parted.items():
            self._lines[line] = sum(map(self._words.__getitem__, its_words)) + _marks(line)
        self._remembered += sum(map(len, new))

    def _tokens_of(self, texts: Sequence[bytes]) -> list[int]:
        encodings = self._tokenizer.encode_batch_fast([text.decode() for text in texts])
        return [len(encoding.ids) - self._overhead for encoding in encodings]


def _marks(line: bytes) -> int:
    return len(line) - len(line.translate(None, _PUNCTUATION))


def word_counter(tokenizer: Tokenizer) -> WordCounter | None:
    """A counter by words, if the tokenizer is of the kind for which that is exact: BERT's, whole."""
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)
    kinds = (BertNormalizer, BertPreTokenizer, WordPiece)
    if not all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        return None
    added = [each["content"] for each in json.loads(tokenizer.to_str())["added_tokens"]]
    # One of several words might stand across two lines.
    return None if any(len(each.split()) != 1 for each in added) else WordCounter(tokenizer, added)
