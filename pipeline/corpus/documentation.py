"""Documentation as prose: what a docstring or a leading comment says, without markers, markup and tags.

Only the lead is kept, which is its first paragraph: it says what the thing does, in words near to those that
people search with. Licences, commented-out code, instructions to tools and reminders are not documentation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LEAD_TOKENS = 64
MIN_WORDS = 4

_STRING = re.compile(r"""^(?:@\w+[ \t(]*)?(~[a-zA-Z]|[a-zA-Z]{0,2})(\"\"\"|'''|"|')(.*)\2\)?$""", re.DOTALL)
_LINE_MARKER = re.compile(r"^(?://[/!]?<?|#+|--+|;+|%+)")
_BLOCK_START = re.compile(r"/\*[*!]?<?")
_BLOCK_MARGIN = re.compile(r"^[^\S\n]*\*+(?=\s|$|\w)", re.MULTILINE)
_LUA_BLOCK = re.compile(r"^--\[(=*)\[-*(.*)\]\1\]-*$", re.DOTALL)
_RUBY_BLOCK = re.compile(r"^=begin\b(.*?)^=end\b", re.DOTALL | re.MULTILINE)

# Comments for tools, and reminders.
_PRAGMA = re.compile(
    r"""(?ix)
    !|-\*-|vim?:|\^
    |(?:todo|fixme|xxx|hack)\b
    |type:\s|noqa\b|nosec\b|nosonar\b|nolint|noinspection|language=
    |(?:pylint|pyright|mypy|isort|fmt|ruff|flake8|pyflakes|coverage|codespell|doctest|yapf|black):
    |pragma[: ]|eslint|tslint|jshint|jslint|jscs|prettier|istanbul|c8\s|v8\s|biome-|webpack|globals?\s
    |@ts-|@flow|@jsx|@formatter|@codingstandards|@phpstan|@psalm|@internal|phpcs:
    |go:\w|\+build\b|export\s+\w+$|lint:|line\s
    |rubocop|frozen_string_literal|encoding:|:nodoc:|:startdoc:|:stopdoc:|sorbet|typed:|steep:
    |clang-format|clang-tidy|iwyu|cppcheck|swiftlint|swiftformat|mark:|sourcery|ktlint|detekt|checkstyle
    |scalastyle|scalafmt|credo|luacheck|stylua|diagnostic|shellcheck|shfmt
    |(?:end)?region\b|auto-?generated|generated\sby|\w+:\s?(?:ignore|disable|enable|on|off)\b
    """
)
# Of lower case text.
_LICENCE = re.compile(
    r"copyright\b|\(c\) \d{4}|spdx-|licen[cs]ed under|all rights reserved|permission is hereby|"
    r"redistribution and use|this (?:file|software|program|source code) is|@licen[cs]e"
)
# One of these is in each of those: to look for them takes a tenth of the time.
_IN_LICENCES = (
    *("copyright", "(c) ", "spdx-", "licen", "rights reserved", "hereby", "redistribution"),
    *("this file", "this software", "this program", "this source"),
)
# Tags that say nothing, before a description.
_EMPTY_TAG = re.compile(
    r"^[@\\](?:function|func|fn|method|class|constructor|name|member[oO]f|static|public|private|protected|"
    r"async|api|ngdoc|module|export|override|inner|kind|type|template|typeParam|tparam|file)\b"
)
_DESCRIPTION_TAG = re.compile(r"^[@\\](?:brief|summary|desc|description|short|details)\b:?\s*")
_STOP = re.compile(
    r"^(?:[@\\]\w|:(?:param|type|return|rtype|raise|arg|keyword|ivar|cvar|var|yield|meta)\w*\b[^:]*:"
    r"|>>>|\.\. |iex>|```|~~~"
    r"|</?(?:p|pre|ul|ol|table|h\d|remarks|param|returns|example|exception|typeparam)\b"
    r"|- (?:parameters?|returns|throws|note|important|warning|complexity|seealso)\b"
    r"|(?:(?:other |keyword )?(?:parameters?|params?|args|arguments)|options|returns?|yields?|raises|throws"
    r"|examples?|usage|notes?|see also|references|attributes|methods|warnings?|inputs?|outputs?)\s*:*\s*$)",
    re.IGNORECASE,
)
# The same with something after it on its line, which ends a paragraph that has begun.
_SECTION = re.compile(
    r"^(?:globals|arguments|args|parameters|params|outputs?|returns|raises|throws|yields)\s*:", re.IGNORECASE
)
# What only points elsewhere, or says what is yet to be done, is nobody's query.
_POINTER = re.compile(
    r"^\W*(?:see\b(?! (?:if|whether|what|how|that|which)\b)|ditto\b|same as\b"
    r"|as (?:above|below)\b|cf\b|refer to\b|(?:todo|fixme|xxx|hack)\b|https?://)",
    re.IGNORECASE,
)
# A first line that repeats the signature, or only shouts.
_NO_PROSE = re.compile(r"^(?:[\w.*]+\([^()]*\)(?:\s*[-=]>.*)?|[*_]+\w+[*_]+:?)$")
_HEADING = re.compile(r"^#{1,6}\s")
_RULE = re.compile(r"^[-=*#~_/]{3,}\s*|\s*[-=*#~_/]{3,}$")
_OF_RULES = frozenset("-=*#~_/")
# Two plain words in a row after `return` make a sentence of it.
_CODE = re.compile(
    r"[;{}]\s*$|^[\])}]|^@\w+(?:\(|$)|^end$|^else:?$"
    r"|^(?:return|raise|throw|del|assert|yield|await|elif)\b"
    r"(?!\s+(?!(?:not|new|await|from|lambda)\b)[a-z]+\s+(?!(?:if|is|and|or|in|not)\b)[a-z]+\b).*[\w)\]\"']$"
    r"|^import\s+[\w.{*]+(?:\s+(?:as|from)\b.*|,.*)?$|^from\s+\S+\s+import\b"
    r"|^(?:if|for|while|with|def|class|switch|else|elif|try|except|func|fn|function|local)\b.*[:({]\s*$"
    r"|^(?:var|let|const|local|val|auto|public|private|static|int|print|echo|puts)\s[^.]*[=(;]"
    r"|^[\w.\[\]'\"*&>-]+\s*(?:[-+*/|&:]?=|:=|=>|<-)\s*\S|^[\w.]+\([^)]*\)[;,:]?$"
)
_SUMMARY = re.compile(r"<summary>(.*?)(?:</summary>|$)", re.DOTALL)
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\{@\w+\s+([^}]*)\}"), r"\1"),
    (re.compile(r"""<(?:see|seealso|paramref|typeparamref)\s+\w+="(?:\w:)?([^"]*)"\s*/>"""), r"\1"),
    (re.compile(r"</?(?:p|code|pre|b|i|em|strong|ul|ol|li|a|br|c|para|tt|summary)\b[^>]*>"), " "),
    (re.compile(r":[\w:+-]+:`[~!]?([^`<]+?)(?:\s*<[^>`]*>)?`"), r"\1"),
    (re.compile(r"`+"), ""),
    (re.compile(r"\*\*(\S[^*]*)\*\*"), r"\1"),
    (re.compile(r"(?<![\w\]])\[([^\[\]]+)\](?:\([^)]*\)|\[[^\]]*\])?"), r"\1"),
)
_MARKUP = ("`", "<", "{", "[", "**")
_WORD = re.compile(r"\w+|[^\w\s]")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s|$)")
_CJK = re.compile(r"[぀-ヿ㐀-鿿가-힯]")


def docstring_lead(text: str) -> str:
    """The lead of a docstring, given as it stands in the source with its quotes; "" if it says nothing."""
    string = _STRING.match(text.strip())
    if string is None or "b" in string.group(1).lower():
        return ""
    lead = _lead(string.group(3), of_comment=False)
    return "" if _is_licence(lead) else lead


def comment_lead(comments: Sequence[str]) -> str:
    """The lead of the comments before a definition, as they stand in the source; "" if they say nothing."""
    if _STRING.match(comments[0]):
        return docstring_lead(comments[0])
    text = "\n".join(_uncommented(comment) for comment in comments)
    if _is_licence(text):
        return ""
    # `///` and `/**` are for documentation only, so code in them is an example and not commented out.
    return _lead(text, of_comment=not comments[0].startswith(("/**", "///", "//!")))


def _is_licence(text: str) -> bool:
    lower = text.lower()
    return any(map(lower.__contains__, _IN_LICENCES)) and _LICENCE.search(lower) is not None


def is_line_comment(comment: str) -> bool:
    """Whether a comment ends with its line, so that the next may continue it."""
    return _LINE_MARKER.match(comment) is not None and _LUA_BLOCK.match(comment) is None


def _uncommented(comment: str) -> str:
    """The text of a comment without its markers."""
    comment = comment.strip()
    if (inside := _inside_block(comment)) is not None:
        return _BLOCK_MARGIN.sub("", "\n".join(inside.splitlines()))
    if string := _STRING.match(comment):
        return string.group(3)
    return "\n".join(_LINE_MARKER.sub("", line.strip()) for line in comment.splitlines())


def _inside_block(comment: str) -> str | None:
    """What stands between the markers of a block comment; None if it is none."""
    if comment.startswith("/*"):
        if len(comment) < 4 or not comment.endswith("*/"):
            return None
        stars_end = len(comment[2:-1].rstrip("*")) + 2
        start = _BLOCK_START.match(comment, 0, stars_end)
        return "" if start is None else comment[start.end() : stars_end]
    match = _LUA_BLOCK.match(comment) or _RUBY_BLOCK.match(comment)
    return match.groups()[-1] if match else None


def _lead(text: str, *, of_comment: bool) -> str:
    if "<summary>" in text and (summary := _SUMMARY.search(text)):
        text = summary.group(1)
    paragraph: list[str] = []
    for raw in text.splitlines():
        line = _untagged(raw.strip())
        if (of_comment and _PRAGMA.match(line)) or (not paragraph and _EMPTY_TAG.match(line)):
            continue
        if _HEADING.match(line):
            if paragraph:
                break
            continue
        if _STOP.match(line) or (paragraph and _SECTION.match(line)):
            if not paragraph and line.startswith("<p"):
                line = line.partition(">")[2]
            else:
                break
        line = _without_rules(line)
        if _LETTER_OR_DIGIT.search(line):
            paragraph.append(line)
        elif len(paragraph) == 1 and _NO_PROSE.match(paragraph[0]):
            paragraph.clear()
        elif paragraph:
            break
    if of_comment and 2 * sum(bool(_CODE.search(line)) for line in paragraph) > len(paragraph):
        return ""
    return shortened(_plain(" ".join(paragraph)))


def _untagged(line: str) -> str:
    """A line without the tag that says that this is the description."""
    return _DESCRIPTION_TAG.sub("", line) if line.startswith(("@", "\\")) else line


def _without_rules(line: str) -> str:
    """A stripped line without what is drawn at its ends. Few are tried, for the expression is slow."""
    return _RULE.sub("", line) if line and not _OF_RULES.isdisjoint((line[0], line[-1])) else line


def _plain(text: str) -> str:
    if any(map(text.__contains__, _MARKUP)):
        for pattern, replacement in _INLINE:
            text = pattern.sub(replacement, text)
    return " ".join(text.split())


def shortened(text: str) -> str:
    """At most about `MAX_LEAD_TOKENS` tokens, a long word being several; whole sentences if there are any."""
    if len(text) <= MAX_LEAD_TOKENS:
        return text
    tokens = 0
    for match in _WORD.finditer(text):
        tokens += 1 + len(match.group()) // 8
        if tokens > MAX_LEAD_TOKENS:
            text = text[: match.start()].rstrip()
            ends = [end.end() for end in _SENTENCE_END.finditer(text)]
            return text[: ends[-1]] if ends and ends[-1] > len(text) // 3 else text
    return text


def says_enough(lead: str) -> bool:
    """Whether a lead could be somebody's query: `MIN_WORDS` words, or as much in a script without spaces.

    One that only points elsewhere could not.
    """
    if not lead or _POINTER.match(lead):
        return False
    words = sum(word.isalpha() or any(map(str.isalpha, word)) for word in lead.split())
    return words >= MIN_WORDS or words + len(_CJK.findall(lead)) // 2 >= MIN_WORDS


def shaped(raw: str, lead: str) -> str:
    """`lead` written as a comment or string of the kind that `raw` is, on one line."""
    raw = raw.strip()
    if string := _STRING.match(raw):
        return f"{raw[: string.start(3)]}{lead}{string.group(2)}"
    if raw.startswith("/*"):
        return f"{raw[:3] if raw[2:3] in '*!' else raw[:2]} {lead} */"
    if _LUA_BLOCK.match(raw):
        return f"--[[ {lead} ]]"
    marker = _LINE_MARKER.match(raw)
    return f"{marker.group() if marker else '#'} {lead}"
