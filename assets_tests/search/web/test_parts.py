"""The parts the pages are made of: highlighted lines, charts, addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from xml.etree import ElementTree

import pytest
from starlette.datastructures import QueryParams

from pipeline.errors import BadInputError
from pipeline.search.request import SearchRequest
from pipeline.search.web.charts import Series, dots, lines, percent, stacked_columns, whole
from pipeline.search.web.highlighting import highlighted
from pipeline.search.web.permalinks import permalink, request_of
from pipeline.search.web.rendering import breakable, part, sentences, whole_symbol


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", 'def f():\n    """One\n\n    <b>two</b> &amp;"""\n    return "\'"\n'),
        ("python", "\n\n  x = 1\n\n\n"),
        ("javascript", "const f = `a\n${b}\n<i>`;"),
        ("php", "function f($a) {\n  return $a;\n}"),
        ("cpp", "/* a\n b */ int\tmain() { return '<'; }\n"),
        ("no such language", "<script>\nanything & all\n"),
        ("python", "x"),
        ("bash", "cat <<'E'\n<a>\nE\n"),
    ],
)
def test_highlighting_keeps_every_line_and_every_character(language: str, code: str) -> None:
    shown = highlighted(code, language, 41)
    assert [plain(line.html) for line in shown] == code.removesuffix("\n").split("\n")
    assert [line.number for line in shown] == list(range(41, 41 + len(shown)))
    for line in shown:  # no element reaches beyond its line
        assert line.html.count("<span") == line.html.count("</span>")


def test_highlighting_tells_tokens_apart() -> None:
    assert '<span class="k">def</span>' in highlighted("def f(): pass", "python", 1)[0].html
    assert '<span class="k">function</span>' in highlighted("function f() {}", "php", 1)[0].html
    assert "<span" not in highlighted("def f(): pass", "no such language", 1)[0].html


def test_a_permalink_is_read_back_as_the_same_search() -> None:
    asked = SearchRequest(
        "a & b = <c>?#\n é", 50, ("c++", "python"), ("one", "two"), ("class",), "src/**/[ab]*.py", "me", "web"
    )
    assert request_of(QueryParams(permalink(asked).partition("?")[2]), "me") == asked
    assert permalink(SearchRequest("x y")) == "/search?q=x+y"
    again = QueryParams("q=x&language=python&language=python&language=&path=&k=")
    assert request_of(again, "me") == SearchRequest("x", 10, ("python",), user="me", client="web")
    for k in ("0", "101", "-1", "1.5", "9" * 5000):
        with pytest.raises(BadInputError):
            request_of(QueryParams({"q": "x", "k": k}), "me")


def test_texts_are_escaped_before_anything_is_added_to_them() -> None:
    assert breakable("src/a_b/<i>'.py") == "src/<wbr>a_<wbr>b/<wbr>&lt;i&gt;&#39;<wbr>.py"
    assert breakable("../x__init__") == "../<wbr>x__<wbr>init__"
    assert sentences("Run `a <b>` or `c`, not `d.") == (
        "Run <code>a &lt;b&gt;</code> or <code>c</code>, not `d."
    )


def test_a_snippet_of_a_long_definition_says_which_part_it_is() -> None:
    assert (whole_symbol("Group.run@12"), part("Group.run@12")) == ("Group.run", ", part 12")
    for symbol in ("Group.run", "it@home", "@3x"):
        assert (whole_symbol(symbol), part(symbol)) == (symbol, "")


def shapes(svg: str, tag: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if each.tag == tag]


def test_columns_are_as_high_as_their_values() -> None:
    svg = stacked_columns("A & <b>", ["Mon", "Tue"], [Series("web", (30, 0)), Series("api", (10, 40))], whole)
    bars = shapes(svg, "rect")
    assert [bar.findtext("title") for bar in bars] == ["Mon, web: 30", "Mon, api: 10", "Tue, api: 40"]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.01)
    assert heights[2] == pytest.approx(heights[0] + heights[1], rel=0.01)
    assert float(bars[1].attrib["y"]) + heights[1] == pytest.approx(float(bars[0].attrib["y"]), abs=0.05)
    assert ElementTree.fromstring(svg).attrib["aria-label"] == "A & <b>"
    assert "style" not in svg


def test_a_line_is_interrupted_where_nothing_was_measured() -> None:
    svg = lines("t", list("abcde"), [Series("p50", (1.0, 2.0, None, 4.0, 5.0))], whole)
    assert len(shapes(svg, "polyline")) == 2
    assert len(shapes(svg, "circle")) == 4
    ys = [float(dot.attrib["cy"]) for dot in shapes(svg, "circle")]
    assert ys == sorted(ys, reverse=True)


def test_whiskers_reach_from_end_to_end() -> None:
    svg = dots("t", ["1"], [Series("ndcg", (0.5,), ((0.4, 0.6),))], percent, highest=1.0)
    (whisker,) = (each for each in shapes(svg, "line") if each.attrib["class"].startswith("whisker"))
    (dot,) = shapes(svg, "circle")
    assert dot.findtext("title") == "1, ndcg: 50% (95% interval 40% to 60%)"
    middle = (float(whisker.attrib["y1"]) + float(whisker.attrib["y2"])) / 2
    assert float(dot.attrib["cy"]) == pytest.approx(middle, abs=0.02)


@pytest.mark.parametrize("chart", [stacked_columns, lines, dots])
def test_a_chart_of_nothing_is_still_a_chart(chart: Callable[..., str]) -> None:
    ElementTree.fromstring(chart("t", [], [], whole))
    ElementTree.fromstring(chart("t", ["a"], [Series("s", (0,))], whole))
