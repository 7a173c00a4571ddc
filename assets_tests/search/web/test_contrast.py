"""Both colour schemes, computed: WCAG 2.2 AA wants 4.5 : 1 for text and 3 : 1 for what is drawn."""

from __future__ import annotations

import re

import pytest

from pipeline.search.web.rendering import static_files

TOKENS = ("keyword", "string", "comment", "number", "function", "class", "decorator", "builtin", "line")
TEXTS = [
    *((colour, ground) for colour in ("text", "muted", "link") for ground in ("page", "surface", "raised")),
    *((f"tok-{token}", "surface") for token in TOKENS),
    ("text", "surface"),
    ("text", "marked"),
    *((f"tok-{token}", "marked") for token in TOKENS if token != "line"),
    ("on-button", "button"),
    ("good", "good-back"),
    ("bad", "bad-back"),
    ("page", "text"),
    ("page", "bad"),
    ("bad", "page"),
]
DRAWN = [
    *((f"s{number}", "page") for number in range(5)),
    ("focus", "page"),
    ("focus", "surface"),
    ("edge", "page"),
    ("edge", "raised"),
    ("good", "page"),
    ("bad", "page"),
]


def schemes() -> dict[str, dict[str, str]]:
    css = static_files()["honeloop.css"].decode()
    light, dark, *_ = re.findall(r":root \{(.*?)\}", css, re.S)
    found = {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for name, block in (("light", light), ("dark", dark))
    }
    assert found["light"].keys() == found["dark"].keys()
    return found


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_what_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_its_ground(scheme: str) -> None:
    colours = schemes()[scheme]
    weak = {
        (colour, ground): round(contrast(colours[colour], colours[ground]), 2)
        for pairs, least in ((TEXTS, 4.5), (DRAWN, 3.0))
        for colour, ground in pairs
        if contrast(colours[colour], colours[ground]) < least
    }
    assert weak == {}


def test_no_colour_escapes_the_two_schemes() -> None:
    css = static_files()["honeloop.css"].decode()
    rules = css[css.index("*, *::before") :]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgb\([^)]*\)", rules) == [
        "rgb(0 0 0 / 18%)",
        "rgb(0 0 0 / 45%)",
    ]
    assert set(re.findall(r"var\(--([\w-]+)\)", rules)) <= schemes()["light"].keys()
