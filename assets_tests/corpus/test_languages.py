from __future__ import annotations

import re

import pytest
import tree_sitter

from pipeline.config import PROJECT_ROOT
from pipeline.corpus import languages
from pipeline.corpus.languages import CUTTING_MODULES, LANGUAGES, Language, get_language, language_of
from pipeline.errors import HoneloopError

MEANINGFUL = {
    "attribute", "block", "body", "class", "clause",
    "comment", "docstring", "function", "function.clause", "method",
    "module", "name", "open", "receiver", "scope", "scope.rest", "scope.type", "wrapped", "wrapper",
}  # fmt: skip


def name_of(path: str, head: bytes = b"") -> str | None:
    language = language_of(path, head)
    return language.name if language else None


def test_all_languages_of_the_readme_are_there() -> None:
    names = "python javascript typescript tsx go rust java cpp c csharp ruby php elixir"
    names += " lua kotlin scala swift bash"
    assert " ".join(language.name for language in LANGUAGES) == names


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/app.py", "python"),
        ("src/APP.PY", "python"),
        ("types.pyi", "python"),
        ("a/b.js", "javascript"),
        ("a/b.jsx", "javascript"),
        ("a/b.mjs", "javascript"),
        ("a/b.ts", "typescript"),
        ("a/b.d.ts", "typescript"),
        ("a/b.tsx", "tsx"),
        ("main.go", "go"),
        ("lib.rs", "rust"),
        ("A.java", "java"),
        ("a.c", "c"),
        ("a.cc", "cpp"),
        ("a.hpp", "cpp"),
        ("A.cs", "csharp"),
        ("a.rb", "ruby"),
        ("Rakefile", "ruby"),
        ("a.php", "php"),
        ("a.ex", "elixir"),
        ("a.exs", "elixir"),
        ("a.lua", "lua"),
        ("A.kt", "kotlin"),
        ("build.gradle.kts", "kotlin"),
        ("A.scala", "scala"),
        ("A.swift", "swift"),
        ("a.sh", "bash"),
        ("README.md", None),
        ("data.json", None),
        ("Makefile", None),
        (".gitignore", None),
        ("py", None),
    ],
)
def test_the_ending_or_the_whole_name_says_the_language(path: str, expected: str | None) -> None:
    assert name_of(path) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"#!/bin/sh\n", "bash"),
        (b"#! /usr/bin/env bash\nset -e\n", "bash"),
        (b"#!/usr/bin/env -S python3 -u\n", "python"),
        (b"#!/usr/bin/python3.11\n", "python"),
        (b"\xef\xbb\xbf#!/usr/bin/env ruby\n", "ruby"),
        (b"#!/usr/bin/env node", "javascript"),
        (b"#!/usr/bin/perl\n", None),
        (b"#!\n", None),
        (b"#!/usr/bin/\xff\n", None),
        (b"echo #!/bin/sh\n", None),
        (b"", None),
    ],
)
def test_the_interpreter_says_the_language_of_a_file_without_an_ending(
    head: bytes, expected: str | None
) -> None:
    assert name_of("bin/tool", head) == expected


def test_an_ending_outweighs_an_interpreter() -> None:
    assert name_of("notes.txt", b"#!/bin/sh\n") is None
    assert name_of("tool.py", b"#!/bin/sh\n") == "python"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"#ifndef A_H\n#define A_H\nint f(void);\n#endif\n", "c"),
        (b'extern "C" {\nint f(void);\n}\n', "c"),
        (b"/* a class of its own */\nstruct s { int class_id; };\n", "c"),
        (b"#pragma once\nnamespace a {\nint f();\n}\n", "cpp"),
        (b"class A;\n", "cpp"),
        (b"struct A { std::string name; };\n", "cpp"),
        (b"  template <typename T> T f();\n", "cpp"),
    ],
)
def test_the_beginning_of_a_header_says_whether_it_is_c_or_cpp(head: bytes, expected: str) -> None:
    assert name_of("include/a.h", head) == expected


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_every_query_fits_its_grammar_and_captures_only_what_has_a_meaning(language: Language) -> None:
    query = tree_sitter.Query(language.load(), language.query_text)
    captures = {query.capture_name(index) for index in range(query.capture_count)}
    assert {name for name in captures if not name.startswith("_")} <= MEANINGFUL
    assert {"comment", "block", "name"} <= captures


def test_every_wheel_is_a_dependency_and_every_query_belongs_to_a_language() -> None:
    declared = (PROJECT_ROOT / "pyproject.toml").read_text()
    assert all(f'"{language.wheel}"' in declared for language in LANGUAGES)
    inherited = {
        name
        for path in languages.QUERIES_PATH.glob("*.scm")
        for name in re.findall(r"^; inherits: (\w+)$", path.read_text(), re.MULTILINE)
    }
    stems = {path.stem for path in languages.QUERIES_PATH.glob("*.scm")}
    assert stems == {language.name for language in LANGUAGES} | inherited


def test_the_captures_are_explained() -> None:
    explained = (languages.QUERIES_PATH / "README.md").read_text()
    assert all(f"`@{name}`" in explained for name in MEANINGFUL)


def test_no_module_that_decides_how_files_are_cut_is_left_out_of_the_version() -> None:
    imported: set[str] = set()
    todo = ["cutting"]
    while todo:
        text = (languages.CORPUS_PATH / f"{todo.pop()}.py").read_text()
        found = set(re.findall(r"^from pipeline\.corpus\.(\w+) import", text, re.MULTILINE)) - imported
        imported |= found
        todo += found
    # Which language a file is in, and the token limit, are parts of the key of their own.
    assert imported | {"cutting"} == {*CUTTING_MODULES, "languages", "tokens"}


def test_the_version_changes_with_the_query_and_the_grammar(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    before = get_language("python").version
    assert before == Language("python", "tree-sitter-python", (".py",)).version
    assert before.startswith("tree-sitter-python-")
    assert before != Language("python", "tree-sitter-ruby", (".py",)).version
    (tmp_path / "python.scm").write_text(get_language("python").query_text + "\n; another word\n")
    monkeypatch.setattr(languages, "QUERIES_PATH", tmp_path)
    languages._query_text.cache_clear()
    try:
        assert Language("python", "tree-sitter-python", (".py",)).version != before
    finally:
        monkeypatch.undo()
        languages._query_text.cache_clear()


def test_a_missing_grammar_names_its_wheel_and_what_to_do() -> None:
    with pytest.raises(HoneloopError, match="tree-sitter-nowhere cannot be loaded") as raised:
        Language("nowhere", "tree-sitter-nowhere", (".no",)).load()
    assert "pip install" in raised.value.hint
