"""Every language yields documentation pairs: what authors say as prose, and code without a trace of it."""

from __future__ import annotations

import re

import pytest

from assets_tests.corpus.samples import by_symbol
from pipeline.corpus.languages import LANGUAGES

SAYS = "Merges two sorted lists into one list."

# By language: the documented definition's symbol; its source with SAYS as the first paragraph that documents
# it, and with LATER in everything of the documentation that is not it.
DOCUMENTED: dict[str, list[tuple[str, str]]] = {
    "python": [
        (
            "merge",
            '''\
def merge(a, b):
    """Merges two *sorted* lists into ``one`` list.

    LATER details.

    :param a: LATER
    :returns: LATER
    """
    return sorted(a + b)
''',
        ),
        (
            "A.merge",
            '''\
class A:
    @staticmethod
    def merge(a, b):
        r"""
        Merges two sorted lists into one list.

        .. versionadded:: 1.2 LATER

        Args:
            a: LATER
        """
        return sorted(a + b)
''',
        ),
    ],
    "javascript": [
        (
            "merge",
            """\
/**
 * Merges two sorted lists into {@link one} list.
 * @param {number[]} a LATER
 * @returns {number[]} LATER
 */
export function merge(a, b) { return a.concat(b).sort(); }
""",
        ),
        (
            "merge",
            """\
/**
 * @function merge
 * @description Merges two sorted lists into one list.
 * @example LATER
 */
const merge = (a, b) => { return a.concat(b).sort(); };
""",
        ),
    ],
    "typescript": [
        (
            "Lists.merge",
            """\
class Lists {
  /**
   * Merges two sorted lists into one list.
   *
   * @remarks LATER
   * @typeParam T - LATER
   */
  merge<T>(a: T[], b: T[]): T[] { return [...a, ...b].sort(); }
}
""",
        )
    ],
    "tsx": [
        (
            "Merge",
            """\
/** Merges two sorted lists into one list. */
export function Merge({ a, b }: Props) { return <ul>{a.concat(b).sort()}</ul>; }
""",
        )
    ],
    "go": [
        (
            "Merge",
            """\
package lists

// Merges two sorted lists into one list.
//
// LATER: the lists must not be nil.
//
//go:noinline
func Merge(a, b []int) []int { return append(a, b...) }
""",
        )
    ],
    "rust": [
        (
            "merge",
            """\
/// Merges two sorted lists into [`one`] list.
///
/// # Examples
///
/// ```
/// LATER(1)
/// ```
#[inline]
pub fn merge(a: &[u8], b: &[u8]) -> Vec<u8> { [a, b].concat() }
""",
        ),
        (
            "merge",
            """\
/**
 * Merges two sorted lists into one list.
 *
 * # Panics
 * LATER
 */
pub fn merge(a: &[u8], b: &[u8]) -> Vec<u8> { [a, b].concat() }
""",
        ),
    ],
    "java": [
        (
            "Lists.merge",
            """\
class Lists {
  /**
   * Merges two <i>sorted</i> lists into {@code one} list.
   *
   * <p>LATER paragraph.
   *
   * @param a LATER
   * @throws LaterException LATER
   */
  @Override
  List<T> merge(List<T> a, List<T> b) { a.addAll(b); return sorted(a); }
}
""",
        )
    ],
    "cpp": [
        (
            "merge",
            """\
/**
 * \\brief Merges two sorted lists into one list.
 * \\tparam T LATER
 * \\param a LATER
 */
template <typename T> List<T> merge(List<T> a, List<T> b) { return sort(a + b); }
""",
        ),
        (
            "merge",
            """\
//! Merges two sorted lists into one list.
//! \\return LATER
List merge(List a, List b) { return sort(a + b); }
""",
        ),
    ],
    "c": [
        (
            "merge",
            """\
/*!
 * @brief Merges two sorted lists into one list.
 * @param[in] a LATER
 * @return LATER
 */
static list *merge(list *a, list *b) { return sort(append(a, b)); }
""",
        ),
        (
            "merge",
            """\
/// Merges two sorted lists into one list.
/// @note LATER
list *merge(list *a, list *b) { return sort(append(a, b)); }
""",
        ),
    ],
    "csharp": [
        (
            "Lists.Merge",
            """\
class Lists {
    /// <summary>
    /// Merges two sorted lists into <see cref="one"/> list.
    /// </summary>
    /// <param name="a">LATER</param>
    /// <returns>LATER</returns>
    [Pure]
    public List<T> Merge(List<T> a, List<T> b) { a.AddRange(b); return Sorted(a); }
}
""",
        )
    ],
    "ruby": [
        (
            "Lists.merge",
            """\
class Lists
  # Merges two sorted lists into +one+ list.
  #
  # @param a [Array] LATER
  # @return [Array] LATER
  def merge(a, b)
    (a + b).sort
  end
end
""",
        )
    ],
    "php": [
        (
            "Lists.merge",
            """\
<?php
class Lists {
    /**
     * Merges two sorted lists into one list.
     *
     * @param array $a LATER
     * @return array
     */
    public function merge(array $a, array $b): array { return sorted($a, $b); }
}
""",
        )
    ],
    "elixir": [
        (
            "Lists.merge",
            '''\
defmodule Lists do
  @doc """
  Merges two sorted lists into `one` list.

  ## Examples

      iex> LATER
  """
  @spec merge(list, list) :: list
  def merge(a, b) do
    Enum.sort(a ++ b)
  end
end
''',
        ),
        (
            "Lists.merge",
            """\
defmodule Lists do
  @doc "Merges two sorted lists into one list."
  @doc since: "1.2"
  def merge(a, b), do: Enum.sort(a ++ b)
end
""",
        ),
    ],
    "lua": [
        (
            "merge",
            """\
--- Merges two sorted lists into one list.
-- @param a LATER
-- @return LATER
local function merge(a, b)
  return sort(concat(a, b))
end
""",
        ),
        (
            "merge",
            """\
--[[--
Merges two sorted lists into one list.

@param a LATER
]]
function merge(a, b)
  return sort(concat(a, b))
end
""",
        ),
    ],
    "kotlin": [
        (
            "merge",
            """\
/**
 * Merges two sorted lists into [one] list.
 *
 * @param a LATER
 * @return LATER
 */
fun merge(a: List<Int>, b: List<Int>): List<Int> = (a + b).sorted()
""",
        )
    ],
    "scala": [
        (
            "Lists.merge",
            """\
object Lists {
  /** Merges two sorted lists into '''one''' list.
    *
    *  @param a LATER
    *  @tparam T LATER
    */
  def merge[T](a: List[T], b: List[T]): List[T] = (a ++ b).sorted
}
""",
        )
    ],
    "swift": [
        (
            "merge",
            """\
/// Merges two sorted lists into `one` list.
///
/// - Parameters:
///   - a: LATER
/// - Returns: LATER
func merge(_ a: [Int], _ b: [Int]) -> [Int] { return (a + b).sorted() }
""",
        )
    ],
    "bash": [
        (
            "merge",
            """\
# Merges two sorted lists into one list.
# Globals:
#   LATER
# Arguments:
#   LATER
merge() {
  sort "$1" "$2"
}
""",
        ),
        (
            "merge",
            """\
#######################################
# Merges two sorted lists into one list.
# Arguments: LATER
#######################################
function merge {
  sort "$1" "$2"
}
""",
        ),
    ],
}


def test_every_language_is_in_the_table() -> None:
    assert set(DOCUMENTED) == {language.name for language in LANGUAGES}


@pytest.mark.parametrize(
    ("language", "symbol", "source"),
    [(language, *sample) for language, samples in DOCUMENTED.items() for sample in samples],
)
def test_documentation_is_told_as_prose_and_cut_out_of_the_code(
    language: str, symbol: str, source: str
) -> None:
    snippet = by_symbol(language, source)[symbol]
    assert snippet.documentation is not None
    assert re.sub(r"[*+']", "", snippet.documentation) == SAYS.replace("*", "")
    assert snippet.undocumented_text is not None
    undocumented = snippet.undocumented_text
    for word in ("sorted lists", "into", "LATER", "param", "summary"):
        assert word not in undocumented, undocumented
    # The code itself is all there: its name, and its body.
    assert re.search(r"merge", undocumented, re.IGNORECASE)
    assert re.search(r"sort|append|concat|addAll|AddRange", undocumented)
    assert "LATER" not in snippet.text


# What stands where documentation does, and is none: in the comments of C and of scripting languages.
SAYS_NOTHING = [
    "TODO: merge the lists some day soon",
    "FIXME this is slow for long lists",
    "@param a the first of the two lists",
    "@inheritDoc",
    "{@inheritDoc}",
    "See above.",
    "See the documentation of the other one.",
    "see {@link Other#merge}",
    "Copyright 2024 The Authors. All rights reserved.",
    "SPDX-License-Identifier: Apache-2.0",
    "Licensed under the Apache License, Version 2.0 (the License)",
    "@deprecated use the other one instead of this",
    "(see below for what this does)",
    "As above, but for lists.",
    "Same as merge, for tuples.",
    "Ditto for all the others.",
    "https://example.org/why/this/is/here/at/all",
]


@pytest.mark.parametrize("says", SAYS_NOTHING)
@pytest.mark.parametrize(
    ("language", "form", "symbol"),
    [
        ("java", "class A {{\n  /** {} */\n  int merge(int a) {{ int b = a; return b; }}\n}}\n", "A.merge"),
        ("go", "package a\n\n// {}\nfunc Merge(a int) int {{ b := a; return b }}\n", "Merge"),
        ("ruby", "# {}\ndef merge(a)\n  b = a\n  b\nend\n", "merge"),
        ("lua", "--- {}\nfunction merge(a)\n  local b = a\n  return b\nend\n", "merge"),
        ("python", 'def merge(a):\n    """{}"""\n    b = a\n    return b\n', "merge"),
    ],
)
def test_what_says_nothing_makes_no_pair(says: str, language: str, form: str, symbol: str) -> None:
    assert by_symbol(language, form.format(says))[symbol].documentation is None
