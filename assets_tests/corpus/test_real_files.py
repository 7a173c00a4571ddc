"""Invariants over real code: every module of three installed packages, against Python's own parser."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import pytest

from assets_tests.corpus.samples import count_words, words
from pipeline.corpus.cutting import CutFile, CutSnippet, cut_file
from pipeline.corpus.languages import get_language

LIMIT = 256
PACKAGES = ["networkx", "rich", "click"]


@dataclass(frozen=True)
class File:
    path: str
    lines: list[str]
    tree: ast.Module
    cut: CutFile


@dataclass(frozen=True)
class Known:
    """What Python itself says of a definition."""

    symbol: str
    first_line: int
    last_line: int
    node: ast.AST
    in_function: bool
    documentation: str | None


@cache
def files(package: str) -> list[File]:
    found: list[File] = []
    for entry in distribution(package).files or []:
        if entry.suffix != ".py" or "tests" in entry.parts:
            continue
        path = Path(str(entry.locate()))
        source = path.read_bytes()
        cut = cut_file(str(entry), source, get_language("python"), words(LIMIT))
        found.append(File(str(entry), source.decode().split("\n"), ast.parse(source), cut))
    assert found
    return found


def known_definitions(tree: ast.Module) -> list[Known]:
    known: list[Known] = []

    def visit(node: ast.AST, prefix: str, in_function: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                symbol = f"{prefix}{child.name}"
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                documentation = ast.get_docstring(child)
                known.append(Known(symbol, first, child.end_lineno or 0, child, in_function, documentation))
                visit(child, f"{symbol}.", not isinstance(child, ast.ClassDef))
            else:
                visit(child, prefix, in_function)

    visit(tree, "", False)
    return known


def base(snippet: CutSnippet) -> str:
    return snippet.symbol.split("@")[0]


def groups(file: File) -> list[list[CutSnippet]]:
    """The parts of each definition."""
    grouped: dict[str, list[CutSnippet]] = {}
    for snippet in file.cut.snippets:
        grouped.setdefault(base(snippet), []).append(snippet)
    return list(grouped.values())


def is_comment_or_blank(line: str) -> bool:
    return not line.strip() or line.strip().startswith("#")


def first_code_line(file: File, snippet: CutSnippet) -> int:
    return next(
        number
        for number in range(snippet.start_line, snippet.end_line + 1)
        if not is_comment_or_blank(file.lines[number - 1])
    )


def place(file: File, parts: list[CutSnippet]) -> tuple[str, int, int]:
    """Name, first and last line of a definition, without comments before it and at its end."""
    last = parts[-1].end_line
    while is_comment_or_blank(file.lines[last - 1]):
        last -= 1
    return base(parts[0]).split("#")[0], first_code_line(file, parts[0]), last


every_package = pytest.mark.parametrize("package", PACKAGES)


@every_package
def test_all_definitions_that_python_knows_are_found_where_it_says(package: str) -> None:
    for file in files(package):
        assert file.cut.syntax_errors == 0
        found = [place(file, parts) for parts in groups(file)]
        assert len(found) == len(set(found))
        known = known_definitions(file.tree)
        assert set(found) <= {(each.symbol, each.first_line, each.last_line) for each in known}
        # A function inside a function is no snippet if it is slight and undocumented.
        must = {
            (each.symbol, each.first_line, each.last_line)
            for each in known
            if not each.in_function or isinstance(each.node, ast.ClassDef)
        }
        assert must <= set(found), file.path


@every_package
def test_identities_are_unique_in_their_file_and_hashes_are_of_the_text(package: str) -> None:
    for file in files(package):
        symbols = [snippet.symbol for snippet in file.cut.snippets]
        assert len(symbols) == len(set(symbols)), file.path
        for snippet in file.cut.snippets:
            assert snippet.content_hash == hashlib.sha256(snippet.text.encode()).digest()
            assert snippet.text.strip()
            assert snippet.signature
            assert "\n" not in snippet.signature


@every_package
def test_code_is_the_lines_as_they_stand_in_the_file(package: str) -> None:
    for file in files(package):
        for snippet in file.cut.snippets:
            assert snippet.code == "\n".join(file.lines[snippet.start_line - 1 : snippet.end_line]), file.path


@every_package
def test_parts_cover_their_definition_in_order_and_without_overlap(package: str) -> None:
    split = 0
    for file in files(package):
        for parts in groups(file):
            split += len(parts) > 1
            assert [part.symbol for part in parts] == [
                base(parts[0]) if number == 1 else f"{base(parts[0])}@{number}"
                for number in range(1, len(parts) + 1)
            ]
            for part, after in pairwise(parts):
                assert part.end_line < after.start_line
                assert not "".join(file.lines[part.end_line : after.start_line - 1]).strip()
    assert split > 20


@every_package
def test_no_part_begins_within_a_statement(package: str) -> None:
    for file in files(package):
        begins = {node.lineno for node in ast.walk(file.tree) if isinstance(node, ast.stmt)}
        begins |= {
            decorator.lineno
            for node in ast.walk(file.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            for decorator in node.decorator_list
        }
        for parts in groups(file):
            for part in parts[1:]:
                assert first_code_line(file, part) in begins, (file.path, part.symbol)


@every_package
def test_a_text_is_over_the_limit_only_if_there_is_no_place_to_split_it(package: str) -> None:
    over = 0
    for file in files(package):
        counts = count_words([snippet.text for snippet in file.cut.snippets])
        long = [snippet for snippet, count in zip(file.cut.snippets, counts, strict=True) if count > LIMIT]
        over += len(long)
        for snippet in long:
            inside = [
                node
                for node in ast.walk(file.tree)
                if isinstance(node, ast.stmt)
                and snippet.start_line <= node.lineno <= snippet.end_line
                and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            ]
            of_head = 0 if "@" in snippet.symbol else 1
            assert snippet.kind != "class"
            assert len(inside) - of_head <= 1, (file.path, snippet.symbol)
    assert over < 0.02 * sum(len(file.cut.snippets) for file in files(package))


@every_package
def test_every_part_stands_on_its_own(package: str) -> None:
    for file in files(package):
        for parts in groups(file):
            for part in parts[1:]:
                assert part.text.startswith(part.signature[:LIMIT].rstrip("…")[:-1])
                assert part.documentation is None
                assert part.undocumented_text is None


@every_package
def test_documentation_is_in_the_text_and_not_in_the_undocumented_one(package: str) -> None:
    documented = 0
    for file in files(package):
        known = {(each.symbol, each.last_line): each for each in known_definitions(file.tree)}
        for parts in groups(file):
            snippet = parts[0]
            if snippet.documentation is None:
                assert snippet.undocumented_text is None
                continue
            documented += 1
            assert snippet.documentation in snippet.text
            symbol, _, last_line = place(file, parts)
            docstring = known[symbol, last_line].documentation
            if docstring and snippet.undocumented_text:
                # The longest line of the docstring, which by chance could stand in the code once more.
                line = max((line.strip() for line in docstring.splitlines()), key=len)
                assert len(line) < 25 or line not in snippet.undocumented_text, (file.path, snippet.symbol)
    assert documented > 100
