"""Counts the tokens of texts, and imports next to nothing: a process that starts often does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.encoders.word_counting import WordCounter, word_counter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Count = Callable[[Sequence[str]], list[int]]


def document_counter(tokenizers: Sequence[tuple[str, str]]) -> Count:
    """`counter_of` the tokenizers in these files: of each member, its tokenizer.json and its prompt."""
    from tokenizers import Tokenizer

    return counter_of([(Tokenizer.from_file(path), prompt) for path, prompt in tokenizers])


def counter_of(tokenizers: Sequence[tuple[Tokenizer, str]]) -> Count:
    """What counts the tokens of documents, special tokens and prompt included, however long they are.

    Args:
        tokenizers: Of each member: its tokenizer, and what stands before each document. The member that
            needs the most tokens counts.
    """
    for tokenizer, _ in tokenizers:
        tokenizer.no_padding()
        tokenizer.no_truncation()
    counted = [(tokenizer, word_counter(tokenizer), prompt) for tokenizer, prompt in tokenizers]

    def count(texts: Sequence[str]) -> list[int]:
        counts = [
            _counted([prompt + text for text in texts], tokenizer, words)
            for tokenizer, words, prompt in counted
        ]
        return [max(of_one) for of_one in zip(*counts, strict=True)]

    return count


def _counted(texts: Sequence[str], tokenizer: Tokenizer, words: WordCounter | None) -> list[int]:
    """The tokens of each text: by words where that is exact, else by the tokenizer."""
    if words is not None:
        return words.count(texts)
    return [len(each.ids) for each in tokenizer.encode_batch_fast(encodable(texts))]


def encodable(texts: Sequence[str]) -> list[str]:
    """The texts as valid Unicode, which alone tokenizers take: a file name may hold lone surrogates."""
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
