"""Counts the tokens of a text by its words, each different one once: no tokenizer is as fast.

A BERT tokenizer parts a text at white space and punctuation before anything else, so that lines never share
a token and, in printable ASCII, a run of letters and digits has the tokens it has alone, and any other
character is one token. A line that is not such is asked of the tokenizer whole. Tokenizers of other kinds
are not for this.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PUNCTUATION = string.punctuation.encode()
_WORDS_ALONE = bytes.maketrans(_PUNCTUATION, b" " * len(_PUNCTUATION))
_ORDINARY = (string.ascii_letters + string.digits).encode() + _PUNCTUATION + b" \t\r\n"
# Stands in no ordinary text.
_BETWEEN = b"\0"
_NO_MARKS = bytes(set(range(256)) - set(_PUNCTUATION + _BETWEEN))
# Bytes by which tokens are told apart, to try none that is longer than any that begins so.
_BEGINNING = 3
# Words remembered; code has far fewer that come again.
_MOST_WORDS = 200_000
# Bytes of lines remembered: those of one file are asked for several times, those of others seldom come again.
_MOST_LINES = 200_000


class WordPieces(dict[bytes, int]):
    """How many tokens each word has; of one that was not asked for before, it is found out.

    The longest beginning that is a token is taken off, then the longest of what is left that continues a
    word, and so on: WordPiece's longest match first (MaxMatch; Song and others, Fast WordPiece Tokenization,
    EMNLP 2021). The tokenizer does the same and makes objects besides: it takes three to five times as long.

    Args:
        model: The tokenizer's model as JSON has it: `vocab`, `continuing_subword_prefix`,
            `max_input_chars_per_word`.
        lowercase: Whether words are made lower case before.
    """

    def __init__(self, model: dict[str, Any], *, lowercase: bool) -> None:
        super().__init__()
        prefix: str = model["continuing_subword_prefix"]
        tokens = [token for token in model["vocab"] if token.isascii()]
        self._first = frozenset(token.encode() for token in tokens)
        self._further = frozenset(
            token.removeprefix(prefix).encode() for token in tokens if token.startswith(prefix)
        )
        self._longest: dict[bytes, int] = {}
        for token in (*self._first, *self._further):
            begins = token[:_BEGINNING]
            self._longest[begins] = max(self._longest.get(begins, 0), len(token))
        self._most: int = model["max_input_chars_per_word"]
        self._lowercase = lowercase

    def __missing__(self, word: bytes) -> int:
        self[word] = count = self._count(word.lower() if self._lowercase else word)
        return count

    def _count(self, word: bytes) -> int:
        if len(word) > self._most:
            return 1  # it becomes the token for what is unknown
        count, start, known = 0, 0, self._first
        while start < len(word):
            longest = self._longest.get(word[start : start + _BEGINNING], _BEGINNING - 1)
            end = min(len(word), start + longest)
            while word[start:end] not in known:
                end -= 1
                if end == start:
                    return 1
            count, start, known = count + 1, end, self._further
        return count


class WordCounter:
    """Counts by words. Made by `word_counter`, which knows the tokenizers it is right for.

    Args:
        tokenizer: Neither pads nor truncates.
        words: How many tokens a word has.
        special: Its special tokens, none with white space; a line that holds one is not ordinary.
    """

    def __init__(self, tokenizer: Tokenizer, words: WordPieces, special: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        pattern = "|".join(map(re.escape, special)).encode()
        self._special = re.compile(pattern, re.IGNORECASE) if special else None
        self._overhead = len(tokenizer.encode("").ids)
        self._words = words
        self._lines: dict[bytes, int] = {}
        self._remembered = 0  # bytes of the lines

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, special ones included, as the tokenizer would count them."""
        if len(self._words) > _MOST_WORDS:
            self._words.clear()
        if not texts:
            return []
        encoded = [text.encode("utf-8", "replace") for text in texts]
        if self.counts_by_words(b"\n".join(encoded)):
            return self._count_ordinary(encoded)
        parted = [self._parted(text) for text in encoded]
        self._learn(line for _, lines in parted for line in lines)
        of_ordinary = self._count_ordinary([ordinary for ordinary, _ in parted])
        return [
            count + sum(map(self._lines.__getitem__, lines))
            for count, (_, lines) in zip(of_ordinary, parted, strict=True)
        ]

    def counts_by_words(self, text: bytes) -> bool:
        """Whether a text has the tokens of its words and one for each punctuation mark."""
        if text.translate(None, _ORDINARY):
            return False
        return self._special is None or self._special.search(text) is None

    def _count_ordinary(self, texts: Sequence[bytes]) -> list[int]:
        """The tokens of texts whose every line is ordinary: of all at once, as far as that goes."""
        together = _BETWEEN.join(texts)
        words = together.translate(_WORDS_ALONE).split(_BETWEEN)
        marks = together.translate(None, _NO_MARKS).split(_BETWEEN)
        known, overhead = self._words.__getitem__, self._overhead
        return [
            overhead + sum(map(known, each.split())) + len(its_marks)
            for each, its_marks in zip(words, marks, strict=True)
        ]

    def _parted(self, text: bytes) -> tuple[bytes, list[bytes]]:
        """The lines that are ordinary, as one text, and the others."""
        if self.counts_by_words(text):
            return text, []
        ordinary: list[bytes] = []
        others: list[bytes] = []
        for line in text.split(b"\n"):
            (ordinary if self.counts_by_words(line) else others).append(line)
        return b"\n".join(ordinary), others

    def _learn(self, lines: Iterable[bytes]) -> None:
        """Asks the tokenizer, in one call: it costs as much as some hundred words."""
        asked = set(lines)
        if self._remembered > _MOST_LINES:
            self._lines.clear()
            self._remembered = 0
        new = list(asked.difference(self._lines))
        if new:
            encodings = self._tokenizer.encode_batch_fast([line.decode() for line in new])
            self._lines.update(
                (line, len(encoding.ids) - self._overhead)
                for line, encoding in zip(new, encodings, strict=True)
            )
            self._remembered += sum(map(len, new))


def word_counter(tokenizer: Tokenizer) -> WordCounter | None:
    """A counter by words, if the tokenizer is of the kind for which that is exact: BERT's, whole."""
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)
    kinds = (BertNormalizer, BertPreTokenizer, WordPiece)
    if not all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        return None
    described = json.loads(tokenizer.to_str())
    added = [each["content"] for each in described["added_tokens"]]
    if any(len(each.split()) != 1 for each in added):
        return None  # one of several words might stand across two lines
    words = WordPieces(described["model"], lowercase=described["normalizer"]["lowercase"])
    return WordCounter(tokenizer, words, added)
