"""Any bytes, called a file of any language: never a crash, and nothing that is not in the file."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from assets_tests.corpus.samples import words
from assets_tests.properties import few_or_many, holds
from pipeline.config import Settings
from pipeline.corpus import skipping
from pipeline.corpus.changed_functions import functions_in
from pipeline.corpus.cutting import cut_file
from pipeline.corpus.decoding import decode
from pipeline.corpus.languages import LANGUAGES, Language, language_of
from pipeline.corpus.secrets import Detector

TOKENS = [
    *(
        "def ",
        "class ",
        "function ",
        "func ",
        "fn ",
        "fun ",
        "sub ",
        "end",
        "do ",
        "module ",
        "impl ",
        "struct ",
    ),
    *(
        "interface ",
        "namespace ",
        "template<",
        "public ",
        "async ",
        "return ",
        "if ",
        "else",
        "for ",
        "package a\n",
    ),
    *(
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        ";",
        ":",
        ",",
        ".",
        "=",
        "=>",
        "->",
        "@",
        "#",
        "$",
        "&",
        "*",
        "\\",
    ),
    *(
        '"',
        "'",
        "`",
        '"""',
        "'''",
        "//",
        "/*",
        "*/",
        "<!--",
        "--",
        "<?php ",
        "?>",
        "<<EOF\n",
        "EOF\n",
        "#!/bin/sh\n",
    ),
    *(
        "\n",
        "\n    ",
        "\r\n",
        "\r",
        "\t",
        " ",
        "\0",
        "\ufeff",
        "\u2028",
        "\f",
        "é",
        "日本",
        "🐝",
        "\u202e",
        "a",
        "b1",
    ),
]
FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(TOKENS), max_size=60).map(lambda parts: "".join(parts).encode()),
    st.lists(st.one_of(st.sampled_from(TOKENS).map(str.encode), st.binary(max_size=3)), max_size=60).map(
        b"".join
    ),
    st.text(max_size=80).map(lambda text: text.encode("utf-16")),
)
DETECTOR = Detector(Settings())


@few_or_many(200, 20_000)
def test_any_bytes_in_any_language(examples: int) -> None:
    @holds(examples, FILES, st.sampled_from(LANGUAGES), st.integers(16, 64))
    def cut(source: bytes, language: Language, limit: int) -> None:
        skipping.reason_by_bytes(source)
        text = decode(source).text
        skipping.reason_by_text(text)
        language_of("file", source)
        text.encode()  # so it is valid text
        assert "\0" not in text
        assert "\r\n" not in text
        clean = DETECTOR.clean(text.encode()).text
        found = cut_file("file", clean, language, words(limit))
        # The parser takes off a mark that stands inside the text after the first.
        lines = clean.decode().removeprefix("\ufeff").split("\n")
        symbols = [snippet.symbol for snippet in found.snippets]
        assert len(symbols) == len(set(symbols))
        for snippet in found.snippets:
            assert 1 <= snippet.start_line <= snippet.end_line <= len(lines)
            assert snippet.code in "\n".join(lines[snippet.start_line - 1 : snippet.end_line])
            assert snippet.code.strip()
            assert snippet.text.strip()
            assert snippet.content_hash == hashlib.sha256(snippet.text.encode()).digest()
        functions_in(source, language)
