"""Counting tokens by words gives exactly the tokenizer's count."""

from __future__ import annotations

import pytest
from hypothesis import strategies
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from assets_tests.encoders.conftest import MODEL
from assets_tests.properties import few_or_many, holds
from pipeline.encoders.counting import counter_of
from pipeline.encoders.word_counting import WordCounter, word_counter


def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made


@pytest.fixture(scope="module")
def whole() -> Tokenizer:
    return tokenizer()


@pytest.fixture(scope="module")
def words(whole: Tokenizer) -> WordCounter:
    found = word_counter(whole)
    assert found is not None
    return found


def real(whole: Tokenizer, text: str) -> int:
    return len(whole.encode(text).ids)


def test_real_functions_are_counted_as_by_the_tokenizer(
    whole: Tokenizer, words: WordCounter, functions: list[str]
) -> None:
    lines = [line.encode() for text in functions for line in text.split("\n")]
    assert sum(map(words.counts_by_words, lines)) > 0.9 * len(lines)
    assert words.count(functions) == [real(whole, text) for text in functions]


@pytest.mark.parametrize(
    "text",
    ["", " ", "a", "x" * 100, "x" * 101, "a_b.c", "\t\r", "Hello World", "if(a<=b)|c^~`", "0x1F 1e-5"],
)
def test_odd_but_ordinary_lines(whole: Tokenizer, words: WordCounter, text: str) -> None:
    assert words.counts_by_words(text.encode())
    around = f"  {text}\r\n\n\t{text}"
    assert words.count([text, around]) == [real(whole, text), real(whole, around)]


@pytest.mark.parametrize(
    "text", ["caf\u00e9", "a\x01b", "a\x00", "[SEP]", "x[cls]", "\u4e2d", "a\x0bb", "\u00a0", "\x0b\u0301"]
)
def test_what_is_not_ordinary_is_left_to_the_tokenizer(
    whole: Tokenizer, words: WordCounter, text: str
) -> None:
    assert not words.counts_by_words(text.encode())
    asked = [text, "plain", f"plain\n{text}\nplain", f"a\x0b\n{text}", text]
    assert counter_of([(whole, "")])(asked) == [real(whole, each) for each in asked]


@few_or_many(200, 5_000)
def test_generated_texts(whole: Tokenizer, examples: int) -> None:
    count = counter_of([(whole, "query: ")])
    pieces = strategies.sampled_from(
        ["[SEP]", "##ing", "\u00e9", "\x7f", "\n", " ", "self.", "__init__", "x" * 101]
    )
    texts = strategies.lists(strategies.one_of(strategies.text(max_size=20), pieces), max_size=12)

    @holds(examples, texts)
    def check(parts: list[str]) -> None:
        asked = ["".join(parts), *parts]
        assert count(asked) == [
            real(whole, "query: " + text.encode("utf-8", "replace").decode()) for text in asked
        ]


@pytest.mark.parametrize("limit", ["_MOST_WORDS", "_MOST_LINES"])
def test_forgetting_changes_no_count(
    whole: Tokenizer, words: WordCounter, functions: list[str], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"pipeline.encoders.word_counting.{limit}", 50)
    for text in functions[:50]:
        assert words.count([text]) == [real(whole, text)]


@few_or_many(200, 5_000)
@pytest.mark.parametrize("lowercase", [True, False])
def test_words_of_another_vocabulary(lowercase: bool, examples: int) -> None:
    """Tokens of several lengths that overlap, another prefix, and words that none begins."""
    tokens = ["[UNK]", "a", "ab", "abc", "b", "B", "Ab", "@a", "@bc", "@c", "@B", "@ca", "cc", "_", "\u00e9"]
    model = models.WordPiece(
        {token: number for number, token in enumerate(tokens)},
        unk_token="[UNK]",
        continuing_subword_prefix="@",
        max_input_chars_per_word=6,
    )
    other = Tokenizer(model)
    other.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    other.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counter = word_counter(other)
    assert counter is not None

    @holds(examples, strategies.text("abcB _@\u00e9", max_size=20))
    def check(text: str) -> None:
        assert counter.count([text]) == [real(other, text)]


def test_special_tokens_of_several_words_are_not_for_counting_by_lines() -> None:
    other = tokenizer()
    other.add_special_tokens(["two words"])
    assert word_counter(other) is None


def test_another_kind_of_tokenizer_is_not_counted_by_words() -> None:
    other = tokenizer()
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert word_counter(other) is None
