from __future__ import annotations

import hashlib

import pytest

from assets_tests.corpus.samples import by_symbol, cut
from pipeline.corpus.cutting import MAX_BYTES_BESIDE
from pipeline.corpus.definitions import MAX_NAME_CHARS, MAX_SYMBOL_CHARS, readable_name, unique_symbols

# --- identities


def test_same_named_definitions_are_numbered_in_file_order() -> None:
    source = """\
def f(): return 1
class A:
    def f(self): return 2
    def f(self, a): return 3
def f(): return 4
class A:
    def f(self): return 5
def f(): return 6
"""
    found = by_symbol("python", source)
    assert list(found) == ["f", "A", "A.f", "A.f#2", "f#2", "A#2", "A.f#3", "f#3"]
    assert found["f#3"].code == "def f(): return 6"
    assert found["A.f#3"].code == "    def f(self): return 5"


def test_a_name_that_looks_like_a_number_given_is_not_given_twice() -> None:
    assert unique_symbols(["a", "a", "a#2", "a", "b"]) == ["a", "a#2", "a#2#2", "a#3", "b"]


def test_overloads_have_identities_of_their_own() -> None:
    java = "class A {\n  int f(int a) { return a; }\n  int f(String a) { return 1; }\n}\n"
    assert list(by_symbol("java", java)) == ["A", "A.f", "A.f#2"]
    typescript = "function f(a: A): void;\nfunction f(a: B): void;\nfunction f(a) { go(a); }\n"
    assert list(by_symbol("typescript", typescript)) == ["f", "f#2", "f#3"]


def test_nested_functions_are_named_after_their_parents_and_slight_ones_are_left_to_them() -> None:
    source = """\
def outer():
    def slight():
        return 1
    def grave():
        a = 1
        b = 2
        return a + b
    def told():
        \"\"\"Say in four words.\"\"\"
    class Local:
        def method(self):
            return 1
    return slight
"""
    found = by_symbol("python", source)
    assert list(found) == ["outer", "outer.grave", "outer.told", "outer.Local", "outer.Local.method"]
    assert "def slight" in found["outer"].text
    assert found["outer.Local.method"].kind == "method"
    assert found["outer.grave"].kind == "function"


def test_clauses_of_an_elixir_function_are_one_unless_documented_or_apart() -> None:
    source = """\
defmodule M do
  def f(1), do: :one
  def f(2), do: :two

  @doc "Does the same for three."
  def f(3), do: :three
  def g(1), do: 1
  def f(4), do: :four
end
"""
    found = by_symbol("elixir", source)
    assert list(found) == ["M", "M.f", "M.f#2", "M.g", "M.f#3"]
    assert found["M.f"].text == "def f(1), do: :one\ndef f(2), do: :two"
    assert found["M.f"].end_line == 3
    assert found["M.f#2"].documentation == "Does the same for three."
    assert found["M"].text == "defmodule M\n    def f(1)\n    def f(3)\n    def g(1)\n    def f(4)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("geo::plane::Polygon<T>::operator==", "geo.plane.Polygon.operator=="),
        ("A<B<C>, D>::f", "A.f"),
        ("operator<<", "operator<<"),
        ("App\\Models", "App.Models"),
        ('"on-end"', "on-end"),
        ("`with blanks`", "withblanks"),
        ("[Symbol.iterator]", "[Symbol.iterator]"),
        ("a .\n  b", "a.b"),
        ('""', '""'),
    ],
)
def test_names_are_written_with_dots_and_without_quotes_and_arguments(text: str, name: str) -> None:
    assert readable_name(text) == name


def test_names_and_symbols_have_a_greatest_length() -> None:
    name = "n" * 3000
    found = by_symbol(
        "python", f"class {name}:\n    class {name}:\n        class {name}:\n            x = 1\n"
    )
    assert all(len(symbol) <= MAX_SYMBOL_CHARS for symbol in found)
    assert len(found) == 3
    assert next(iter(found)) == "n" * MAX_NAME_CHARS


# --- texts


def test_decorators_are_part_of_the_snippet_but_not_of_the_signature() -> None:
    source = (
        "@app.route('/')\n@cached\ndef index(\n    page: int,  # from 1\n    size=10,\n) -> str:\n    go()\n"
    )
    snippet = by_symbol("python", source)["index"]
    assert snippet.start_line == 1
    assert snippet.text == source.rstrip("\n")
    assert snippet.signature == "def index( page: int, size=10, ) -> str"


def test_the_text_of_a_class_is_its_head_and_the_signatures_of_its_members() -> None:
    source = '''\
@dataclass
class Cart(Base):
    """Holds what somebody wants.

    Long talk about carts.
    """

    # what it may hold
    limit: int = 10

    def put(self, item):
        """Put an item in."""
        self.items.append(item)

    @property
    def total(self) -> int:
        return sum(self.items)

    if FAST:
        def clear(self): pass
'''
    snippet = by_symbol("python", source)["Cart"]
    assert snippet.text == (
        "@dataclass\n"
        "class Cart(Base):\n"
        '    """Holds what somebody wants."""\n'
        "    limit: int = 10\n"
        "    def put(self, item)\n"
        "    def total(self) -> int\n"
        "    if FAST:\n"
        "    def clear(self)"
    )
    assert snippet.undocumented_text == snippet.text.replace('    """Holds what somebody wants."""\n', "")
    assert snippet.code == source.rstrip("\n")
    assert (snippet.start_line, snippet.end_line) == (1, 20)


def test_a_change_in_a_method_does_not_change_the_text_of_its_class() -> None:
    before = by_symbol("java", "class A {\n  int f() { return 1; }\n  int g() { return 1; }\n}\n")
    after = by_symbol("java", "class A {\n  int f() { return 2; }\n  int g() { return 1; }\n}\n")
    changed = {symbol for symbol in before if before[symbol].content_hash != after[symbol].content_hash}
    assert changed == {"A.f"}


def test_equal_functions_have_equal_texts_however_deep_they_stand() -> None:
    function = "def f(a):\n    b = a\n\n    return b\n"
    deep = "".join(" " * 8 + line if line.strip() else line for line in function.splitlines(keepends=True))
    found = by_symbol("python", f"{function}class A:\n    class B:\n{deep}")
    assert found["f"].content_hash == found["A.B.f"].content_hash
    assert found["f"].content_hash == hashlib.sha256(found["f"].text.encode()).digest()


@pytest.mark.parametrize(
    ("language", "source", "signature"),
    [
        (
            "javascript",
            "export const f = async ({ a, b }) => {\n  return a;\n};\n",
            "export const f = async ({ a, b }) =>",
        ),
        (
            "go",
            "package p\nfunc (s *Set[K]) Has(k K) bool {\n\treturn true\n}\n",
            "func (s *Set[K]) Has(k K) bool",
        ),
        (
            "rust",
            "#[inline]\npub fn f<T>(a: T) -> u8\nwhere\n    T: Copy,\n{\n    1\n}\n",
            "pub fn f<T>(a: T) -> u8 where T: Copy,",
        ),
        (
            "java",
            "class A {\n  @Override\n  public int f(int a) throws E {\n    return a;\n  }\n}\n",
            "public int f(int a) throws E",
        ),
        (
            "cpp",
            "A::A(int b)\n    : b_(b), c_{1} {\n  go();\n}\n",
            "A::A(int b)",
        ),
        (
            "csharp",
            "class A {\n  [Fact]\n  public int F(int a) => a;\n}\n",
            "public int F(int a)",
        ),
        (
            "ruby",
            "def f(a, b = 1)\n  a\nend\n",
            "def f(a, b = 1)",
        ),
        (
            "elixir",
            "defmodule M do\n  def f(a) when a > 1 do\n    a\n  end\nend\n",
            "def f(a) when a > 1",
        ),
        (
            "kotlin",
            "@Test\nfun f(a: Int): Int = a\n",
            "fun f(a: Int): Int",
        ),
        (
            "swift",
            "@objc func f(_ a: Int) -> Int {\n  return a\n}\n",
            "func f(_ a: Int) -> Int",
        ),
        (
            "scala",
            "object O {\n  def f(a: Int): Int = a\n}\n",
            "def f(a: Int): Int",
        ),
        (
            "bash",
            "f() {\n  echo\n}\n",
            "f()",
        ),
    ],
)
def test_a_signature_is_the_head_on_one_line(language: str, source: str, signature: str) -> None:
    assert [snippet.signature for snippet in cut(language, source).snippets][-1] == signature


# --- files as they come


PLAIN = b"""\
class A:
    def f(self):
        "Do it in four words."
        if self:

            return 1
"""


def test_windows_line_ends_stay_in_the_code_and_not_in_the_text() -> None:
    plain = by_symbol("python", PLAIN)
    windows = by_symbol("python", PLAIN.replace(b"\n", b"\r\n"))
    assert {symbol: snippet.text for symbol, snippet in windows.items()} == {
        symbol: snippet.text for symbol, snippet in plain.items()
    }
    assert windows["A.f"].undocumented_text == plain["A.f"].undocumented_text
    assert windows["A.f"].code == plain["A.f"].code.replace("\n", "\r\n")
    assert [(s.start_line, s.end_line) for s in windows.values()] == [(1, 6), (2, 6)]


def test_windows_line_ends_do_not_hide_a_leading_comment() -> None:
    source = "// Adds two numbers up.\r\n// And more.\r\nfunction add(a, b) {\r\n  return a + b;\r\n}\r\n"
    snippet = by_symbol("javascript", source)["add"]
    assert snippet.documentation == "Adds two numbers up. And more."
    assert snippet.undocumented_text == "function add(a, b) {\n  return a + b;\n}"
    assert snippet.start_line == 1


def test_tabs_are_kept_and_the_own_indentation_is_not() -> None:
    source = "class A:\n\tdef f(self):\n\t\tif self:\n\t\t\treturn 1\n"
    assert by_symbol("python", source)["A.f"].text == "def f(self):\n\tif self:\n\t\treturn 1"


def test_a_byte_order_mark_is_no_part_of_the_code() -> None:
    found = by_symbol("python", b"\xef\xbb\xbfdef f():\n    return 1\n")
    assert found["f"].code == "def f():\n    return 1"
    assert found["f"].text == "def f():\n    return 1"


def test_what_is_not_utf8_is_replaced() -> None:
    source = 'def f():\n    """Größe in vier Wörtern."""\n    return "ä"\n'.encode("latin-1")
    snippet = by_symbol("python", source)["f"]
    assert snippet.documentation == "Gr\ufffd\ufffde in vier W\ufffdrtern."
    assert snippet.end_line == 3
    assert "\0" not in by_symbol("python", b'def f():\n    return "\0"\n')["f"].code


def test_an_empty_file_gives_nothing() -> None:
    for language in ("python", "go", "php", "elixir"):
        assert cut(language, b"").snippets == []
        assert cut(language, b"\n \n").snippets == []


def test_on_a_line_with_much_beside_it_a_snippet_is_only_what_is_its_own() -> None:
    few = "var a=function(){return 1},b=function(){return 2};"
    assert by_symbol("javascript", few)["a"].code == few
    names = [f"f{number}" for number in range(300)]
    many = "var " + ",".join(f"{name}=function(){{return {name}}}" for name in names) + ";"
    found = by_symbol("javascript", many)
    assert list(found) == names
    assert found["f7"].code == "f7=function(){return f7}"
    assert len(many) > MAX_BYTES_BESIDE


# --- files with errors


def test_what_parses_in_a_file_with_syntax_errors_is_kept() -> None:
    source = "def before():\n    return 1\n\ndef (broken:\n    ???\n\ndef after(a):\n    return a\n"
    result = cut("python", source)
    assert result.syntax_errors >= 1
    assert {"before", "after"} <= {snippet.symbol for snippet in result.snippets}


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("javascript", "function a() { return 1; }\nfunction { ] }\nfunction b() { return 2; }\n"),
        ("java", "class X {\n  int a() { return 1; }\n  int ( { }\n  int b() { return 2; }\n}\n"),
        ("go", "package p\nfunc a() int { return 1 }\nfunc ( {\n}\nfunc b() int { return 2 }\n"),
        ("ruby", "def a\n  1\nend\n)\ndef b\n  2\nend\n"),
        ("c", "int a(void) { return 1; }\nint ) (;\nint b(void) { return 2; }\n"),
    ],
)
def test_an_error_between_two_functions_costs_neither(language: str, source: str) -> None:
    result = cut(language, source)
    assert result.syntax_errors >= 1
    names = {snippet.symbol.split(".")[-1] for snippet in result.snippets}
    assert {"a", "b"} <= names


def test_a_definition_with_an_error_inside_is_kept() -> None:
    source = "function a() {\n  let x = = 1;\n  return x;\n}\n"
    result = cut("javascript", source)
    assert result.syntax_errors >= 1
    assert [snippet.symbol for snippet in result.snippets] == ["a"]
    assert result.snippets[0].code == source.rstrip("\n")


def test_what_is_no_source_at_all_gives_no_snippets_and_no_exception() -> None:
    garbage = bytes(range(256)) * 20
    for language in ("python", "javascript", "cpp", "ruby", "bash"):
        assert all(snippet.text for snippet in cut(language, garbage).snippets)


def test_nothing_but_loose_tokens_is_one_error_and_no_definition() -> None:
    result = cut("python", "(" * 200_000)
    assert (result.snippets, result.syntax_errors) == ([], 1)


def test_a_file_without_errors_has_none() -> None:
    assert cut("python", PLAIN).syntax_errors == 0


# --- nesting

DEPTH = 10_000


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("javascript", "function f() {\n" + "if (a) {\n" * DEPTH + "x();\n" + "}\n" * DEPTH + "}\n"),
        ("javascript", "function f() { return " + "[" * DEPTH + "]" * DEPTH + "; }\n"),
        ("python", "def f():\n    return " + "(" * DEPTH + ")" * DEPTH + "\n"),
        ("java", "class A { void f() {\n" + "{\n" * DEPTH + "}\n" * DEPTH + "} }\n"),
        ("cpp", "namespace a {" * DEPTH + " int f() { return 1; } " + "}" * DEPTH),
        ("go", "package p\nfunc f() {\n" + "if a {\n" * DEPTH + "}\n" * DEPTH + "}\n"),
    ],
)
def test_nesting_ten_thousand_deep_is_cut_like_anything_else(language: str, source: str) -> None:
    assert any(snippet.symbol.split(".")[-1].startswith("f") for snippet in cut(language, source).snippets)


def test_definitions_nested_without_end_do_not_multiply() -> None:
    result = cut("javascript", "function f() {\n" * 300 + "}\n" * 300)
    symbols = [snippet.symbol for snippet in result.snippets]
    assert len(symbols) == len(set(symbols))
    assert max(symbol.count(".") for symbol in symbols) < 20
