from __future__ import annotations

from itertools import pairwise

import pytest

from assets_tests.corpus.samples import by_symbol, count_words, cut, words
from pipeline.corpus.cutting import cut_file
from pipeline.corpus.languages import get_language
from pipeline.corpus.splitting import pack
from pipeline.corpus.tokens import TokenBudget

LONG = '''\
def settle(orders, today):
    """Settle all orders that are due.

    Long talk that is not embedded.
    """
    due = [order for order in orders if order.due <= today]
    # Who pays nothing is asked again.
    late = {}
    for order in due:
        if order.paid:
            order.close()
            continue
        late[order.owner] = order
        order.remind(today)
    total = sum(order.amount for order in due)

    report(total, late)
    return total
'''


def test_a_long_function_is_split_at_its_own_statements_first() -> None:
    found = by_symbol("python", LONG, limit=56)
    assert list(found) == ["settle", "settle@2", "settle@3"]
    assert [(part.start_line, part.end_line) for part in found.values()] == [(1, 8), (9, 14), (15, 18)]
    assert found["settle"].text == (
        "def settle(orders, today):\n"
        '    """Settle all orders that are due."""\n'
        "    due = [order for order in orders if order.due <= today]\n"
        "    # Who pays nothing is asked again.\n"
        "    late = {}"
    )
    assert found["settle@3"].text == (
        "def settle(orders, today)\n"
        "    total = sum(order.amount for order in due)\n"
        "\n"
        "    report(total, late)\n"
        "    return total"
    )
    assert found["settle@2"].code == "\n".join(LONG.splitlines()[8:14])


def test_only_the_first_part_is_documented() -> None:
    found = by_symbol("python", LONG, limit=56)
    assert [part.documentation for part in found.values()] == ["Settle all orders that are due.", None, None]
    assert found["settle"].undocumented_text == (
        "def settle(orders, today):\n"
        "    due = [order for order in orders if order.due <= today]\n"
        "    # Who pays nothing is asked again.\n"
        "    late = {}"
    )
    assert found["settle@2"].undocumented_text is None


def test_a_statement_over_the_limit_is_split_inside() -> None:
    found = by_symbol("python", LONG.replace('"""Settle all orders that are due.', '"""Settle.'), limit=36)
    assert [(part.start_line, part.end_line) for part in found.values()] == [
        (1, 6),
        (7, 8),
        (9, 13),
        (14, 18),
    ]
    assert all(count <= 36 for count in count_words([part.text for part in found.values()]))
    assert found["settle@4"].text.startswith(
        "def settle(orders, today)\n        order.remind(today)\n    total"
    )


def test_what_fits_is_not_split() -> None:
    exact = count_words([by_symbol("python", LONG)["settle"].text])[0]
    assert len(by_symbol("python", LONG, limit=exact)) == 1
    assert len(by_symbol("python", LONG, limit=exact - 1)) == 2


def test_a_leaf_over_the_limit_stays_whole() -> None:
    source = f"def table():\n    first = 1\n    rows = [{', '.join('1' * 300)}]\n    return rows\n"
    found = by_symbol("python", source, limit=64)
    whole = [part for part in found.values() if count_words([part.text])[0] > 64]
    assert len(whole) == 1
    assert whole[0].code == source.splitlines()[2]


def test_comments_and_decorators_stay_with_the_statement_they_are_before() -> None:
    source = """\
def outer():
    a = one(1, 2, 3, 4, 5, 6, 7, 8)

    # About the second,
    # at some length.
    b = two(1, 2, 3, 4, 5, 6, 7, 8)
    @cached
    def inner():
        return b
    return inner(1, 2, 3, 4, 5, 6, 7, 8)  # at the end
"""
    parts = [part for part in cut("python", source, limit=44).snippets if part.symbol.startswith("outer")]
    assert [(part.start_line, part.end_line) for part in parts] == [(1, 2), (4, 6), (7, 10)]


def test_a_class_is_split_between_its_members() -> None:
    methods = "".join(f"    def method_{number}(self, a, b):\n        return a + b\n" for number in range(12))
    source = f'class Many(Base):\n    """Has very many methods indeed."""\n    limit = 3\n{methods}'
    found = by_symbol("python", source, limit=64)
    parts = [found[symbol] for symbol in found if symbol.split("@")[0] == "Many"]
    assert [part.symbol for part in parts] == ["Many", *(f"Many@{n}" for n in range(2, len(parts) + 1))]
    assert len(parts) > 2
    assert parts[0].text.startswith(
        'class Many(Base):\n    """Has very many methods indeed."""\n    limit = 3\n'
    )
    assert all(part.text.startswith("class Many(Base)\n    def method_") for part in parts[1:])
    listed = [
        line.split("(")[0].split()[-1] for part in parts for line in part.text.splitlines() if "def" in line
    ]
    assert listed == [f"method_{number}" for number in range(12)]
    assert parts[0].undocumented_text
    assert "very many" not in parts[0].undocumented_text
    assert "return" not in "".join(part.text for part in parts)
    assert "\n".join(part.code for part in parts) == source.rstrip("\n")


def test_parts_of_the_second_of_a_name_are_told_from_those_of_the_first() -> None:
    found = by_symbol("python", LONG + "\n" + LONG, limit=56)
    assert list(found) == [
        "settle", "settle@2", "settle@3", "settle#2", "settle#2@2", "settle#2@3"
    ]  # fmt: skip


def test_the_signature_before_a_part_is_shortened_if_it_takes_too_much_of_the_limit() -> None:
    arguments = ", ".join(f"argument_{number}" for number in range(100))
    source = f"def wide({arguments}):\n" + "".join(f"    step({number})\n" for number in range(60))
    found = by_symbol("python", source, limit=64)
    assert len(found) > 3
    assert all(part.text.split("\n")[0].endswith("…") for part in list(found.values())[1:])
    assert all(count <= 64 for count in count_words([part.text for part in list(found.values())[1:]]))
    assert found["wide"].signature.startswith("def wide(argument_0, argument_1")


# The head of a function, a statement with others inside, and what ends it.
STATEMENTS = {
    "javascript": (
        "function f(a) {",
        """\
  if (a.b) {
    one(a);
    two(a);
  } else {
    three(a);
    four(a);
  }""",
        "}",
    ),
    "typescript": (
        "function f(a: A): void {",
        """\
  switch (a) {
    case 1:
      one(a);
      two(a);
      break;
    default:
      three(a);
      four(a);
  }""",
        "}",
    ),
    "go": (
        "package p\nfunc f(a int) {",
        """\
	for i := range a {
		one(i)
		two(i)
		three(i)
	}""",
        "}",
    ),
    "rust": (
        "fn f(a: u8) {",
        """\
    match a {
        1 => {
            one(a);
            two(a);
        }
        _ => three(a),
    }""",
        "}",
    ),
    "java": (
        "class C {\n  void f(int a) {",
        """\
    try {
      one(a);
      two(a);
    } finally {
      three(a);
      four(a);
    }""",
        "  }\n}",
    ),
    "c": (
        "void f(int a)\n{",
        """\
    while (a) {
        one(a);
        two(a);
        three(a);
    }""",
        "}",
    ),
    "cpp": (
        "void C::f(int a) {",
        """\
  for (auto x : a) {
    one(x);
    two(x);
    three(x);
  }""",
        "}",
    ),
    "csharp": (
        "class C {\n  void F(int a) {",
        """\
    foreach (var x in a) {
      One(x);
      Two(x);
      Three(x);
    }""",
        "  }\n}",
    ),
    "ruby": (
        "def f(a)",
        """\
  if a
    one(a)
    two(a)
  else
    three(a)
    four(a)
  end""",
        "end",
    ),
    "php": (
        "<?php\nfunction f($a) {",
        """\
  foreach ($a as $x) {
    one($x);
    two($x);
    three($x);
  }""",
        "}",
    ),
    "elixir": (
        "defmodule M do\n  def f(a) do",
        """\
    if a do
      one(a)
      two(a)
    else
      three(a)
      four(a)
    end""",
        "  end\nend",
    ),
    "lua": (
        "function f(a)",
        """\
  for i = 1, a do
    one(i)
    two(i)
    three(i)
  end""",
        "end",
    ),
    "kotlin": (
        "fun f(a: Int) {",
        """\
    when (a) {
        1 -> {
            one(a)
            two(a)
        }
        else -> three(a)
    }""",
        "}",
    ),
    "scala": (
        "object O {\n  def f(a: Int) = {",
        """\
    if (a > 1) {
      one(a)
      two(a)
    } else {
      three(a)
      four(a)
    }""",
        "  }\n}",
    ),
    "swift": (
        "func f(a: Int) {",
        """\
    for x in a {
        one(x)
        two(x)
        three(x)
    }""",
        "}",
    ),
    "bash": (
        "f() {",
        """\
  if [ -z "$a" ]; then
    one "$a"
    two "$a"
  else
    three "$a"
    four "$a"
  fi""",
        "}",
    ),
}


@pytest.mark.parametrize("language", STATEMENTS)
def test_every_language_is_split_at_statements_and_inside_them_if_need_be(language: str) -> None:
    begin, statement, end = STATEMENTS[language]
    source = "\n".join([begin, *[statement] * 8, end, ""])
    lines = source.split("\n")
    first = begin.count("\n") + 2  # the line of the first statement
    height = statement.count("\n") + 1
    size = count_words([statement])[0]

    def starts(limit: int) -> list[int]:
        parts = [part for part in cut(language, source, limit).snippets if part.kind != "class"]
        parts = [part for part in parts if part.kind != "module"]
        for part, after in pairwise(parts):
            assert after.start_line == part.end_line + 1
        assert all(part.code == "\n".join(lines[part.start_line - 1 : part.end_line]) for part in parts)
        return [part.start_line for part in parts]

    # With room for several statements, each part begins with one of the outermost.
    roomy = starts(3 * size + 16)
    assert len(roomy) >= 2
    assert all((start - first) % height == 0 for start in roomy[1:])
    # With less room than one takes, there are splits inside, at a statement.
    tight = starts(size)
    assert any((start - first) % height for start in tight[1:])
    assert not any(lines[start - 1].strip() in {"", "}", "end", "fi", "} else {", "else"} for start in tight)


def test_pieces_are_packed_into_parts_of_about_equal_size_at_the_shallowest_places() -> None:
    assert pack([10, 10, 10], [0, 1, 1], 30, 30) == [0]
    assert pack([10, 10, 10, 10], [0, 1, 1, 1], 30, 30) == [0, 2]
    assert pack([10, 10, 10, 10], [0, 2, 2, 1], 30, 30) == [0, 3]
    assert pack([50, 50], [0, 1], 30, 30) == [0, 1]
    assert pack([10, 50, 10], [0, 1, 1], 30, 30) == [0, 1, 2]
    assert pack([100], [0], 30, 30) == [0]
    assert pack([20, 5, 5], [0, 1, 1], 20, 10) == [0, 1]


def test_a_tokenizer_that_needs_more_for_texts_side_by_side_is_kept_to_as_well() -> None:
    # Each line break costs ten tokens, which pieces counted one by one do not show.
    budget = TokenBudget(
        "odd", 100, lambda texts: [len(text.split()) + 10 * text.count("\n") for text in texts]
    )
    source = "def f():\n" + "".join(f"    step({number})\n" for number in range(40))
    found = cut_file("f.py", source.encode(), get_language("python"), budget)
    assert len(found.snippets) > 1
    assert all(count <= 100 for count in budget.count([part.text for part in found.snippets]))
    assert "\n".join(part.code for part in found.snippets) == source.rstrip("\n")


def test_tokens_are_counted_for_a_whole_file_at_once() -> None:
    calls: list[int] = []

    def count(texts: list[str]) -> list[int]:
        calls.append(len(texts))
        return count_words(texts)

    many = "".join(LONG.replace("settle", f"settle_{number}") for number in range(50))
    cut_file("f.py", many.encode(), get_language("python"), TokenBudget("words/70", 70, count))  # pyright: ignore
    assert len(calls) <= 6
    calls.clear()
    cut_file("f.py", b"def f():\n    return 1\n", get_language("python"), words(256))
    assert calls == []


@pytest.mark.parametrize("limit", [10, 16, 24, 56])
def test_a_block_of_the_same_extent_as_its_function_is_not_in_it(limit: int) -> None:
    lines = (f"    {line}" if line.strip() else line for line in LONG.splitlines(keepends=True))
    inside = by_symbol("python", "if True:\n" + "".join(lines), limit)
    assert [part.text for part in inside.values()] == [
        part.text for part in by_symbol("python", LONG, limit).values()
    ]
