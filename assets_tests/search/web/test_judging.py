"""Judging, copying and reading in a real browser, and what of it arrives in the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from assets_tests.search.web.acting import (
    ask,
    ask_code,
    focused,
    pressed,
    search_of,
    shown,
    toast_says,
    user_of,
)
from assets_tests.search.web.conftest import Watched, long_function
from assets_tests.search.web.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NOT_LOADED = "Failed to load resource"
# Selects so many characters of the second result's code, from the beginning of its first line.
SELECT = """characters => {
    const range = new Range();
    const lines = [...document.querySelectorAll("#r2 .ln")];
    range.setStart(lines[0], 0);
    let left = characters;
    const last = lines.find(line => (left -= line.textContent.length) <= 0);
    const texts = document.createTreeWalker(last, NodeFilter.SHOW_TEXT);
    left += last.textContent.length;
    while (texts.nextNode() && texts.currentNode.length < left) left -= texts.currentNode.length;
    range.setEnd(texts.currentNode, left);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
}"""
# What a browser does when its tab is left or come back to.
SEEN = """state => {
    Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_accepting_rejecting_and_changing_ones_mind(page: Page, site: Site) -> None:
    search = ask(page)
    one, two, *_ = shown(page)
    page.click("#r1 [data-do=accept]")
    page.click("#r2 [data-do=reject]")
    user = user_of(page.context)
    assert sorted(site.said(search, 2)) == sorted([(one, "accept", None, user), (two, "reject", None, user)])
    assert pressed(page, 1) == ["accept"]
    assert pressed(page, 2) == ["reject"]
    page.click("#r1 [data-do=reject]")
    assert site.said(search, 3)[2] == (one, "reject", None, user)
    assert pressed(page, 1) == ["reject"]
    page.click("#r1 [data-do=reject]")  # nothing new
    page.click("#r1 h2 a")
    page.wait_for_url("**/snippets/*")
    assert page.locator("[aria-pressed=true]").get_attribute("data-do") == "reject"
    page.keyboard.press("a")
    expect(page.locator("[data-do=accept]")).to_have_attribute("aria-pressed", "true")
    words = [each[1] for each in site.said(search, 5) if each[1] != "click"]
    assert words.count("accept") == 2
    assert words.count("reject") == 2
    page.click("text=← Results")
    page.wait_for_url("**/search?*")
    assert search_of(page) == search  # the same page as before, not the search made anew
    expect(page.locator("#r1 [data-do=accept]")).to_have_attribute("aria-pressed", "true")
    assert pressed(page, 1) == ["accept"]


def test_copying_takes_the_whole_code_and_is_recorded(page: Page, site: Site) -> None:
    long = long_function()
    search = ask_code(page, long.code[:300])
    one, two, *_ = shown(page)
    assert page.locator("#r1 h2").inner_text() == long.symbol
    page.click("#r1 [data-do=copy]")
    toast_says(page, "Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"{long.code}\n"
    assert site.said(search, 1) == [(one, "copy", None, user_of(page.context))]
    for characters in (5, 60):  # a word is looked up; several lines are used
        page.evaluate(SELECT, characters)
        page.keyboard.press("Control+c")
    said = site.said(search, 2)
    assert [each[:2] for each in said] == [(one, "copy"), (two, "copy")]


def test_opening_a_result_records_a_click_and_how_long_it_was_read(page: Page, site: Site) -> None:
    search = ask(page)
    one = shown(page)[0]
    page.click("#r1 h2 a")
    page.wait_for_url("**/snippets/*")
    user = user_of(page.context)
    assert site.said(search, 1) == [(one, "click", None, user)]
    page.wait_for_timeout(1200)
    page.goto("/")
    said = site.said(search, 2)
    assert len(said) == 2
    assert said[1][:2] == (one, "click")
    assert 1200 <= said[1][2] < 15_000
    assert said[1][3] == user


def test_only_what_is_on_the_screen_is_read_and_closing_the_tab_ends_it(page: Page, site: Site) -> None:
    search = ask(page)
    began = time.monotonic()
    page.click("#r1 h2 a")
    page.wait_for_url("**/snippets/*")
    site.said(search, 1)
    page.wait_for_timeout(600)
    page.evaluate(SEEN, "hidden")
    first = site.said(search, 2)[1][2]
    assert first >= 600
    page.wait_for_timeout(2000)
    page.evaluate(SEEN, "visible")  # the person comes back
    page.wait_for_timeout(600)
    page.close(run_before_unload=True)
    both = site.said(search, 3)[2][2]
    assert first + 600 <= both <= (time.monotonic() - began) * 1000 - 2000


def test_unfolding_code_is_reading_it(page: Page, site: Site) -> None:
    long = long_function()
    search = ask_code(page, long.code[:300])
    one = shown(page)[0]
    lines = long.code.count("\n") + 1
    assert page.locator("#r1 .ln:visible").count() == 20
    assert f"Show all {lines} lines" in page.locator("#r1 .rest summary").inner_text()
    page.keyboard.press("j")
    page.keyboard.press("e")
    assert page.locator("#r1 .ln:visible").count() == lines
    site.said(search, 1)  # a moment after it is unfolded; from then on it is read
    page.wait_for_timeout(800)
    page.keyboard.press("e")
    said = site.said(search, 2)
    assert [each[:2] for each in said] == [(one, "click"), (one, "click")]
    assert said[0][2] is None
    assert 800 <= said[1][2] < 15_000
    page.wait_for_timeout(700)
    page.goto("/")  # folded, it is not read any longer
    page.wait_for_timeout(300)
    assert len(site.said(search, 2)) == 2


def test_feedback_that_cannot_be_sent_is_said_and_sent_later(
    page: Page, site: Site, watched: Watched
) -> None:
    watched.expected = (NOT_LOADED,)
    search = ask(page)
    one, two, *_ = shown(page)
    refused: list[str] = []

    def away(route: Any) -> None:
        refused.append(route.request.url)
        if len(refused) == 1:
            route.abort()
        else:
            route.fulfill(
                status=503, content_type="application/json", body='{"error": "Not now.", "hint": ""}'
            )

    page.route("**/feedback", away, times=2)
    page.click("#r1 [data-do=accept]")
    toast_says(page, "Not saved yet:")
    toast_says(page, "Accepted.")
    assert site.said(search, 1) == [(one, "accept", None, user_of(page.context))]
    assert len(refused) == 2
    assert pressed(page, 1) == ["accept"]

    def never(route: Any) -> None:
        body = '{"error": "Snippet 1 was not shown in search 2.", "hint": "Take another."}'
        route.fulfill(status=422, content_type="application/json", body=body)

    page.route("**/feedback", never, times=1)
    page.click("#r2 [data-do=reject]")
    toast_says(page, "Not saved:")
    assert "Snippet 1 was not shown in search 2. Take another." in page.locator("#toast").inner_text()
    assert pressed(page, 2) == []
    assert two not in {each[0] for each in site.said(search, 1)}


def test_a_verdict_is_seen_in_the_other_tab_and_is_the_last_one_everywhere(
    context: BrowserContext, page: Page, site: Site
) -> None:
    search = ask(page)
    one = shown(page)[0]
    page.click("#r1 [data-do=accept]")
    other = context.new_page()
    other.goto(f"/snippets/{one}?search={search}")
    accept, reject = other.locator("[data-do=accept]"), other.locator("[data-do=reject]")
    expect(accept).to_have_attribute("aria-pressed", "true")
    reject.click()
    expect(page.locator("#r1 [data-do=reject]")).to_have_attribute("aria-pressed", "true")
    page.click("#r1 [data-do=accept]")  # which the first tab would not say if it thought it had
    expect(accept).to_have_attribute("aria-pressed", "true")
    said = [each[1] for each in site.said(search, 4) if each[1] != "click"]
    assert said == ["accept", "reject", "accept"]


def test_two_quick_clicks_are_one_judgement(page: Page, site: Site) -> None:
    search = ask(page)
    one, two, *_ = shown(page)
    page.dblclick("#r1 [data-do=accept]")
    page.dblclick("#r1 [data-do=copy]")
    page.click("#r2 [data-do=reject]")
    said = {each[:2] for each in site.said(search, 3)}
    page.goto("/")
    assert said == {(one, "accept"), (one, "copy"), (two, "reject")}
    assert len(site.said(search, 3)) == 3


def test_copying_where_the_clipboard_is_withheld_keeps_ones_place(page: Page, site: Site) -> None:
    # As over plain http from another machine.
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    search = ask(page)
    two = shown(page)[1]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("c")
    toast_says(page, "Copied.")
    assert focused(page) == "r2"
    assert [each[:2] for each in site.said(search, 1)] == [(two, "copy")]


def test_a_browser_that_keeps_nothing_still_has_keys_and_judgements(page: Page, site: Site) -> None:
    for name in ("localStorage", "sessionStorage"):
        page.add_init_script(
            f"Object.defineProperty(window, '{name}', {{get() {{ throw new DOMException('no'); }}}})"
        )
    search = ask(page)
    one = shown(page)[0]
    page.keyboard.press("j")
    page.keyboard.press("a")
    toast_says(page, "Accepted.")
    assert [each[:2] for each in site.said(search, 1)] == [(one, "accept")]
    page.keyboard.press("?")
    assert page.locator("#keys").is_checked()


def test_whoever_is_sent_a_result_judges_it_in_their_own_name(
    page: Page, browser: Browser, site: Site
) -> None:
    search = ask(page)
    one = shown(page)[0]
    page.click("#r1 [data-do=accept]")
    site.said(search, 1)
    other = browser.new_context(base_url=site.url)
    their = other.new_page()
    their.goto(f"/snippets/{one}?search={search}")
    assert their.locator("[aria-pressed=true]").count() == 0
    their.keyboard.press("r")
    expect(their.locator("[data-do=reject]")).to_have_attribute("aria-pressed", "true")
    verdicts = [each for each in site.said(search, 3) if each[1] != "click"]
    assert verdicts == [(one, "accept", None, user_of(page.context)), (one, "reject", None, user_of(other))]
    assert user_of(other) != user_of(page.context)
    other.close()
