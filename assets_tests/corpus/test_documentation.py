from __future__ import annotations

import pytest

from assets_tests.corpus.samples import by_symbol
from pipeline.corpus.documentation import (
    MAX_LEAD_TOKENS,
    comment_lead,
    docstring_lead,
    is_line_comment,
    says_enough,
    shaped,
)


@pytest.mark.parametrize(
    ("docstring", "lead"),
    [
        ('"""Sum two numbers."""', "Sum two numbers."),
        ("'Sum two numbers.'", "Sum two numbers."),
        ('r"""Match \\d."""', "Match \\d."),
        ('"""\n    Sum two\n    numbers.\n\n    More.\n    """', "Sum two numbers."),
        ('"""Sum.\n\n    Parameters\n    ----------\n    a : int\n    """', "Sum."),
        ('"""Sum it.\n    Args:\n        a: one\n    """', "Sum it."),
        ('"""Sum it.\n    :param a: one\n    """', "Sum it."),
        ('"""Sum it.\n    >>> sum_it(1)\n    1\n    """', "Sum it."),
        ('""">>> sum_it(1)\n    1\n    """', ""),
        ('"""Title\n    =====\n\n    Text.\n    """', "Title"),
        ('"""add(a, b) -> int\n\n    Add two numbers.\n    """', "Add two numbers."),
        ('"""add(a, b) adds two numbers."""', "add(a, b) adds two numbers."),
        ('"""**DEPRECATED**\n\n    Add two numbers.\n    """', "Add two numbers."),
        ('"""Use :func:`~nx.bfs` or ``dfs`` on `G`."""', "Use nx.bfs or dfs on G."),
        ('"""The **whole** of [the graph](http://x.org/y)."""', "The whole of the graph."),
        ('"""Return a[0] of `a`."""', "Return a[0] of a."),
        ('"""See :ref:`the guide <guide>`."""', "See the guide."),
        ('"""Copyright 2024 Somebody."""', ""),
        ('b"""bytes"""', ""),
        ('""""""', ""),
        ('"""   """', ""),
        ('"""用户登录并返回会话"""', "用户登录并返回会话"),
    ],
)
def test_a_docstring_gives_its_first_paragraph_as_prose(docstring: str, lead: str) -> None:
    assert docstring_lead(docstring) == lead


@pytest.mark.parametrize(
    ("comments", "lead"),
    [
        (["# Adds two", "# numbers."], "Adds two numbers."),
        (["// Adds two", "//", "// numbers."], "Adds two"),
        (["/// Adds two numbers.", "///", "/// # Examples", "/// ```"], "Adds two numbers."),
        (["/** Adds two numbers. */"], "Adds two numbers."),
        (["/**\n * Adds two\n * numbers.\n *\n * @param a one\n */"], "Adds two numbers."),
        (["/**\n * @brief Adds two numbers.\n */"], "Adds two numbers."),
        (["/**\n * @param a one\n */"], ""),
        (["/** Adds {@link Foo#bar} to {@code x}. */"], "Adds Foo#bar to x."),
        (["/**\n * Adds <code>x</code>.\n * <p>More.\n */"], "Adds x ."),
        (
            ["/// <summary>", '/// Adds <see cref="T:A.B"/>.', "/// </summary>", "/// <remarks>x</remarks>"],
            "Adds A.B.",
        ),
        (["--- Adds two numbers.", "-- @param a one"], "Adds two numbers."),
        (["--[[ Adds two\nnumbers. ]]"], "Adds two numbers."),
        (["=begin\nAdds two numbers.\n=end"], "Adds two numbers."),
        (['@doc "Adds two numbers."'], "Adds two numbers."),
        (['@doc """\n  Adds two numbers.\n\n  ## Examples\n  """'], "Adds two numbers."),
        (['@doc ~S"""\n  Adds two numbers.\n  """'], "Adds two numbers."),
        (["# ---- Helpers for sums ----"], "Helpers for sums"),
        (["# ----------------"], ""),
        # What is not documentation
        (["# Copyright 2024 Somebody", "# Adds two numbers."], ""),
        (["// SPDX-License-Identifier: MIT"], ""),
        (["# type: ignore"], ""),
        (["# TODO: make it faster"], ""),
        (["# Adds two numbers.", "# TODO: make it faster"], "Adds two numbers."),
        (["# pylint: disable=all", "# Adds two numbers."], "Adds two numbers."),
        (["// eslint-disable-next-line no-console"], ""),
        (["// @ts-ignore"], ""),
        (["//go:noinline"], ""),
        (["#!/bin/sh"], ""),
        (["# -*- coding: utf-8 -*-"], ""),
        (["# x = add(a, b)", "# return x"], ""),
        (["// int add(int a, int b) {", "//   return a + b;", "// }"], ""),
        (["# if a:", "#     b(c)"], ""),
        (["# import os", "# from a import b"], ""),
        (["# raise ValueError(a)"], ""),
        (["// throw new Error(a)"], ""),
        (
            ["# Go through the queue and take", "# from the end of it"],
            "Go through the queue and take from the end of it",
        ),
        (["// return a set of all parents"], "return a set of all parents"),
        (["# return the sum of two numbers."], "return the sum of two numbers."),
    ],
)
def test_a_comment_gives_its_first_paragraph_unless_it_is_no_documentation(
    comments: list[str], lead: str
) -> None:
    assert comment_lead(comments) == lead


def test_a_long_first_paragraph_is_cut_after_a_sentence() -> None:
    sentence = "Each of these has just nine words in it. "
    lead = docstring_lead(f'"""{sentence * 20}"""')
    assert lead == (sentence * 6).strip()
    assert 6 * 10 <= MAX_LEAD_TOKENS < 7 * 10
    endless = docstring_lead(f'"""{"word " * 200}"""')
    assert endless == ("word " * MAX_LEAD_TOKENS).strip()


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        ("Return the whole sum", True),
        ("Return the sum", False),
        ("a - b", False),
        ("1 2 3 4", False),
        ("", False),
        ("用户登录并返回会话", True),
        ("Возвращает сумму двух чисел", True),
    ],
)
def test_documentation_of_less_than_four_words_is_no_query(lead: str, expected: bool) -> None:
    assert says_enough(lead) is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('"""Sum.\n\nLong.\n"""', '"""Sum."""'),
        ("r'''Sum.\n\nLong.\n'''", "r'''Sum.'''"),
        ("/**\n * Sum.\n */", "/** Sum. */"),
        ("/* Sum.\n more */", "/* Sum. */"),
        ("/// Sum.", "/// Sum."),
        ("//Sum.", "// Sum."),
        ("--- Sum.", "--- Sum."),
        ("--[[ Sum.\nmore ]]", "--[[ Sum. ]]"),
        ("# Sum.", "# Sum."),
        ('@doc """\nSum.\n\nLong.\n"""', '@doc """Sum."""'),
    ],
)
def test_a_lead_is_written_like_the_documentation_it_is_the_lead_of(raw: str, expected: str) -> None:
    assert shaped(raw, "Sum.") == expected


def test_line_comments_are_told_from_those_with_an_end() -> None:
    assert all(map(is_line_comment, ["# a", "// a", "/// a", "-- a"]))
    assert not any(map(is_line_comment, ["/* a */", "--[[ a ]]", '@doc "a"']))


def test_the_comment_nearest_to_a_definition_documents_it() -> None:
    source = """\
/* Licensed under the terms of nobody. */
/** Counts the bytes of a file. */
// eslint-disable-next-line
function count(file) { return file.size; }

// Far away from what follows it.

function lone() { return 1; }

let x = 1; // trailing words are of x
function next() { return 2; }
"""
    found = by_symbol("javascript", source)
    assert found["count"].documentation == "Counts the bytes of a file."
    assert found["count"].start_line == 2
    assert "Licensed" not in found["count"].text
    assert found["lone"].documentation is None
    assert found["lone"].start_line == 8
    assert found["next"].documentation is None
    assert found["next"].code == "function next() { return 2; }"


def test_a_docstring_outweighs_a_comment() -> None:
    source = (
        '# Old words about what is below.\ndef f():\n    """New words about the function."""\n    return 1\n'
    )
    snippet = by_symbol("python", source)["f"]
    assert snippet.documentation == "New words about the function."
    assert snippet.start_line == 2
    assert snippet.undocumented_text == "def f():\n    return 1"


def test_documentation_that_is_no_query_is_in_the_text_but_makes_no_pair() -> None:
    snippet = by_symbol("python", 'def f(a):\n    """Negate.\n\n    Long talk.\n    """\n    return -a\n')[
        "f"
    ]
    assert snippet.text == 'def f(a):\n    """Negate."""\n    return -a'
    assert snippet.documentation is None
    assert snippet.undocumented_text is None


@pytest.mark.parametrize("body", ["", "    pass\n", "    ...\n"])
def test_where_nothing_but_the_signature_would_be_left_there_is_no_undocumented_text(body: str) -> None:
    snippet = by_symbol("python", f'def f(a):\n    """Say what is to be done."""\n{body}')["f"]
    assert snippet.documentation == "Say what is to be done."
    assert snippet.undocumented_text is None


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "class A:\n    '''Holds the one thing there is.'''\n    def b(self): return 1\n"),
        (
            "rust",
            "/// Holds the one thing there is.\n///\n/// And more.\n#[derive(Debug)]\nstruct A { b: u8 }\n",
        ),
        ("java", "/**\n * Holds the one thing there is.\n * @author me\n */\n@Entity\nclass A { int b; }\n"),
        (
            "elixir",
            'defmodule A do\n  @moduledoc """\n  Holds the one thing there is.\n  """\n  def b, do: 1\nend\n',
        ),
        ("csharp", "/// <summary>\n/// Holds the one thing there is.\n/// </summary>\nclass A { int b; }\n"),
        ("go", "package a\n// Holds the one thing there is.\ntype A struct { b int }\n"),
    ],
)
def test_no_trace_of_the_documentation_is_in_the_undocumented_text(language: str, source: str) -> None:
    snippet = by_symbol(language, source)["A"]
    assert snippet.documentation == "Holds the one thing there is."
    assert snippet.documentation in snippet.text
    assert snippet.undocumented_text
    assert not {"one", "thing", "there", "is", "more", "author"} & set(snippet.undocumented_text.split())
    assert "b" in snippet.undocumented_text
