"""Source code as lines of HTML, each token with a class; the colours are the stylesheet's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup
from pygments import lex
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound


@dataclass(frozen=True)
class Line:
    """One line of a file: its number in it, from 1, and its code as safe HTML without the line's end."""

    number: int
    html: Markup


def highlighted(code: str, language: str, start_line: int) -> tuple[Line, ...]:
    """The lines of `code`, coloured by Pygments.

    Args:
        code: As it stands in the file.
        language: As `pipeline.corpus.languages` names it; one that Pygments does not know stays plain.
        start_line: The number of its first line.
    """
    text = code.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    formatter: Any = HtmlFormatter(nowrap=True)  # closes a token's element at each line's end
    html = _formatted(formatter, f"{text}\n", _lexer(language)).removesuffix("\n").split("\n")
    return tuple(Line(start_line + number, Markup(line)) for number, line in enumerate(html))


def _formatted(formatter: Any, text: str, lexer: Lexer) -> str:
    from io import StringIO

    out = StringIO()
    formatter.format(lex(text, lexer), out)
    return out.getvalue()


@cache
def _lexer(language: str) -> Lexer:
    # A lexer must neither strip blank lines, which would shift the numbers, nor expand tabs.
    options: dict[str, Any] = {"stripnl": False, "stripall": False, "ensurenl": True}
    if language == "php":
        options["startinline"] = True  # a snippet has no `<?php` before it
    try:
        return get_lexer_by_name(language, **options)
    except ClassNotFound:
        return TextLexer(**options)
