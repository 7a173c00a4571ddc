"""The page in a real browser: searching, reading, and finding one's way by mouse, keys and phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

from assets_tests.search.web.acting import (
    QUERY,
    ask,
    ask_code,
    focused,
    insights_with,
    search_of,
    shown,
    toast_says,
    user_of,
)
from assets_tests.search.web.conftest import Watched, repeated_function, watch
from assets_tests.search.web.hostile import SCRIPT
from assets_tests.search.web.site import Site, serving
from pipeline.config import Settings
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def test_searching_shows_what_the_api_answers_and_is_recorded_as_this_persons(page: Page, site: Site) -> None:
    search = ask(page)
    answer = httpx.post(f"{site.url}/search", json={"query": QUERY}).json()
    assert shown(page) == [each["snippet_id"] for each in answer["results"]]
    assert page.url == f"{site.url}/search?q=open+a+file+for+reading"
    first = answer["results"][0]
    heading = page.locator("#r1")
    assert heading.locator("h2").inner_text() == first["symbol"]
    assert (
        f"{first['path']}:{first['start_line']}–{first['end_line']}" in heading.locator(".where").inner_text()
    )
    assert heading.locator(".score").inner_text().split()[-1] == f"{first['score']:.3f}"
    assert heading.locator(".code .k").first.inner_text() in {"def", "return", "with"}
    numbers = heading.locator(".ln").evaluate_all("all => all.map(each => each.dataset.n)")
    assert numbers[:2] == [str(first["start_line"]), str(first["start_line"] + 1)]
    rows = site.soon("SELECT query, client, user_name FROM searches WHERE id = %s", [search], bool)
    assert rows == [(QUERY, "web", user_of(page.context))]


def test_filters_narrow_and_stand_in_the_address(page: Page, site: Site) -> None:
    page.goto("/")
    page.fill("#q", "escape quotes")
    page.click("summary:has-text('Source')")
    page.check("input[value=hostile]")
    page.click("summary:has-text('Kind')")  # its menu closes, and what was ticked takes effect
    page.wait_for_url("**/search?*source=hostile*")
    assert len(shown(page)) == 2
    rows = site.soon("SELECT filters FROM searches WHERE id = %s", [search_of(page)], bool)
    assert rows == [({"k": 10, "sources": ["hostile"]},)]
    page.fill("input[name=path]", "**/*quoted*.py")
    page.keyboard.press("Enter")
    page.wait_for_url("**path=*")
    assert len(shown(page)) == 1
    page.click("text=Clear filters")
    page.wait_for_url(lambda url: "source" not in url)
    assert len(shown(page)) == 10


def test_coming_back_finds_the_choices_that_led_to_the_results(page: Page) -> None:
    ask(page)
    page.click("summary:has-text('Source')")
    page.check("input[value=hostile]")
    page.click("summary:has-text('Kind')")
    page.wait_for_url("**/search?*source=hostile*")
    page.go_back()
    page.wait_for_url(lambda url: "source" not in url)
    assert not page.locator("input[value=hostile]").is_checked()
    assert page.locator("#q").input_value() == QUERY
    assert len(shown(page)) == 10


def test_a_permalink_repeats_the_search_wherever_it_is_opened(page: Page, site: Site) -> None:
    link = "/search?q=make+a+string&source=click&kind=function&path=**%2Futils.py&k=5"
    page.goto(link)
    first = search_of(page)
    before = shown(page)
    assert len(before) == 5
    assert page.locator("#q").input_value() == "make a string"
    assert page.locator("input[name=path]").input_value() == "**/utils.py"
    assert page.locator("select[name=k]").input_value() == "5"
    assert page.locator("input[name=source][value=click]").is_checked()
    page.keyboard.press("y")
    toast_says(page, "Link copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"{site.url}{link}".replace("**", "%2A%2A")
    page.reload()
    assert search_of(page) != first
    assert shown(page) == before
    rows = site.soon(
        "SELECT count(*) FROM searches WHERE id = ANY(%s)",
        [[first, search_of(page)]],
        lambda r: r[0][0] == 2,
    )
    assert rows == [(2,)]


def test_the_keyboard_does_everything(page: Page, site: Site) -> None:
    search = ask(page)
    one, two, three, *_ = shown(page)
    page.keyboard.press("j")
    assert focused(page) == "r1"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    assert focused(page) == "r3"
    page.keyboard.press("r")
    page.keyboard.press("k")
    assert focused(page) == "r2"
    page.keyboard.press("c")
    page.keyboard.press("ArrowUp")
    assert focused(page) == "r1"
    page.keyboard.press("a")
    said = {each[:2] for each in site.said(search, 3)}
    assert said == {(three, "reject"), (two, "copy"), (one, "accept")}
    page.keyboard.press("/")
    assert focused(page) == "q"
    page.keyboard.type("jar?")  # letters in the box are letters
    assert page.locator("#q").input_value() == "jar?"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.uncheck("#keys")
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()  # at once: the next key is the page's
    page.keyboard.press("j")
    assert focused(page) != "r1"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "r1"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/snippets/{one}?search={search}")
    assert (one, "click") in {each[:2] for each in site.said(search, 4)}


@pytest.mark.parametrize(
    "closing", ["press('Escape')", "press('?')", "document.querySelector('#help button').click()"]
)
def test_no_key_is_lost_while_the_help_closes(page: Page, closing: str) -> None:
    ask(page)
    page.keyboard.press("?")
    assert focused(page) == "keys"
    # In one go, before the browser draws: until then the focus stays on what is no longer shown.
    now = page.evaluate(
        """() => {
            const press = key => document.activeElement.dispatchEvent(
                new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
            CLOSING;
            press("j");
            return [document.getElementById("help").open, document.activeElement.id];
        }""".replace("CLOSING", closing)
    )
    assert now == [False, "r1"]


def test_the_same_code_elsewhere_is_listed_once_and_linked_from_its_page(page: Page) -> None:
    copied = repeated_function()
    ask_code(page, copied.code)
    result = page.locator(".result", has_text=copied.symbol).first
    assert "The same code in 1 other place" in result.locator("details.places summary").inner_text()
    result.locator("details.places summary").click()
    assert "vendored/copy.py:9" in result.locator("details.places").inner_text()
    result.locator("h2 a").click()
    page.wait_for_url("**/snippets/*")
    assert "2 places" in page.locator(".facts").inner_text()
    page.click("text=vendored/copy.py")
    expect(page.locator(".where")).to_contain_text("vendored/copy.py:9")
    assert page.locator("[data-do=accept]").count() == 0  # it was not reached from a search


@pytest.mark.parametrize(
    "query",
    [
        "<script>window.hacked=1</script>",
        '"><img src=x onerror=window.hacked=1>',
        "'; DROP TABLE searches; --",
        "{{ 7*7 }} {% raw %}",
        "日本語 ünïcödé 🐝 \u202e right to left",
        "&lt;b&gt; &amp;amp; %3Cscript%3E",
        "javascript:window.hacked=1",
    ],
)
def test_a_query_stays_text(page: Page, site: Site, query: str) -> None:
    search = ask(page, query)
    assert page.locator("#q").input_value() == query
    assert page.title().startswith(query[:20])
    assert len(shown(page)) == 10
    assert page.evaluate("window.hacked") is None
    assert site.soon("SELECT query FROM searches WHERE id = %s", [search], bool) == [(query,)]
    assert insights_with(page, query).locator("a").inner_text() == query
    assert page.evaluate("window.hacked") is None


def test_code_paths_and_symbols_stay_text(page: Page) -> None:
    page.goto("/search?q=render+evil+page+template&source=hostile")
    result = page.locator("[data-snippet]", has_text=SCRIPT.path)
    for _ in range(2):  # among the results, and on its own page
        where = result.locator(".where").inner_text()
        assert SCRIPT.path in where
        assert SCRIPT.symbol in result.inner_text()
        lines = result.locator(".ln").evaluate_all("all => all.map(each => each.textContent)")
        assert lines == SCRIPT.code.removesuffix("\n").split("\n")
        assert page.evaluate("window.hacked") is None
        result.locator("h2 a, h1").first.click()
        page.wait_for_url("**/snippets/*")
        result = page.locator("article.snippet")


@pytest.mark.parametrize("path", ["/", f"/search?q={'+'.join(QUERY.split())}", "/insights", "long"])
def test_a_phone_shows_all_of_it_without_sideways_scrolling(
    browser: Browser, site: Site, watched: Watched, path: str
) -> None:
    context = browser.new_context(
        base_url=site.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    watch(context, watched)
    page = context.new_page()
    if path == "long":
        page.goto("/search?q=escape+quotes&source=hostile")
        page.tap("summary:has-text('Source')")
        page.wait_for_selector(".panel:visible")
        box = page.locator(".panel:visible").bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 360
        page.keyboard.press("Escape")
        page.locator("#r1 h2 a").click()
        page.wait_for_url("**/snippets/*")
    else:
        page.goto(path)
    page.tap(".foot summary")
    # Of a page wider than the screen, a phone's browser makes the screen wider.
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    for button in page.locator(".act:visible").all()[:3]:
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 24  # WCAG 2.5.8
        assert box["x"] + box["width"] <= 360
    context.close()
    assert watched.complaints == []


def test_without_javascript_people_search_filter_read_and_judge(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.fill("#q", QUERY)
    page.click("text=Source")
    page.check("input[value=click]")
    page.click("button.primary")
    page.wait_for_url("**/search?*source=click*")
    assert page.locator(".result").count() == 10
    assert page.locator("[data-do=copy]:visible, [data-do=link]:visible").count() == 0
    one, two, *_ = [
        int(each.get_attribute("data-snippet") or 0) for each in page.locator("[data-snippet]").all()
    ]
    search, user = search_of(page), user_of(context)
    page.click("#r2 >> text=Reject")
    page.wait_for_url(f"**/snippets/{two}?search={search}")
    assert page.locator("[aria-pressed=true]").inner_text() == "Reject"
    assert page.locator(".ln").count() > 1
    page.click("text=Accept")  # on second thoughts
    assert page.locator("[aria-pressed=true]").inner_text() == "Accept"
    page.reload()  # says nothing again
    said = site.said(search, 2)
    assert said == [(two, "reject", None, user), (two, "accept", None, user)]
    page.click("text=← Results")
    page.wait_for_url("**/search?*source=click*")
    again = search_of(page)
    page.click("#r1 h2 a")
    page.wait_for_url(f"**/snippets/{one}?search={again}")
    page.go_back()  # to the results, not to what led on
    page.wait_for_url("**/search?*source=click*")
    assert site.said(again, 1) == [(one, "click", None, user)]
    context.close()


def test_the_number_of_results_is_chosen_by_keys_without_leaving_the_page_on_the_way(page: Page) -> None:
    search = ask(page)
    page.locator("select[name=k]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.locator("select[name=k]").input_value() == "5"
    assert search_of(page) == search
    page.keyboard.press("Enter")
    page.wait_for_url("**k=5")
    assert len(shown(page)) == 5


def test_a_query_that_is_too_long_is_said_and_not_cut(page: Page) -> None:
    page.goto("/")
    page.fill("#q", "x" * 10_001)
    page.keyboard.press("Enter")
    said = page.locator("#q").evaluate("box => box.validationMessage")
    assert said.startswith("The query has 10,001 characters; at most 10,000 are taken.")
    assert page.locator("#q").evaluate("box => box.value.length") == 10_001
    page.fill("#q", "日本" * 5_000)
    page.keyboard.press("Enter")
    said = page.locator("#q").evaluate("box => box.validationMessage")
    assert said.startswith("Written as an address, the query takes 90,002 bytes; at most 60,000 arrive.")
    page.fill("#q", "日本" * 3_333)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?*")
    assert len(shown(page)) == 10


def test_a_name_is_who_one_is_from_then_on(page: Page, site: Site) -> None:
    ask(page)
    address = page.url
    page.click(".foot summary")
    page.fill("#name", "Ada Löve <i>")
    page.click("text=Use this name")
    page.wait_for_load_state()
    assert page.url == address
    search = search_of(page)
    page.click("#r1 [data-do=accept]")
    assert site.said(search, 1) == [(shown(page)[0], "accept", None, "Ada Löve <i>")]
    assert site.rows("SELECT user_name FROM searches WHERE id = %s", [search]) == [("Ada Löve <i>",)]
    page.click(".foot summary")
    page.fill("#name", "")
    page.click("text=Use this name")
    page.wait_for_load_state()
    assert page.locator("body").get_attribute("data-user") == user_of(page.context)


def test_a_browser_logs_in_and_out(browser: Browser, settings: Settings, db: Database) -> None:
    with serving(settings.model_copy(update={"api_token": SecretStr("the-token-of-a-test")}), db) as site:
        context = browser.new_context(base_url=site.url)
        page = context.new_page()
        page.goto("/insights?days=7")
        page.wait_for_url("**/login?next=*")
        for token in ("not-the-token", "the-token-of-a-test"):
            page.fill("#token", token)
            page.click("button.primary")
            page.wait_for_load_state()
        assert page.url == f"{site.url}/insights?days=7"
        page.click("text=Log out")
        page.wait_for_url("**/login")
        page.goto("/")
        page.wait_for_url("**/login?next=*")
        context.close()


def test_insights_show_what_happened(page: Page, site: Site) -> None:
    search = ask(page, "something only asked here")
    page.click("#r1 [data-do=reject]")
    site.said(search, 1)
    row = insights_with(page, "something only asked here").locator("td").all_inner_texts()
    assert row[1:6] == ["1", "1", "10", "1", "web"]
    page.click("tr:has-text('something only asked here') a")
    page.wait_for_url("**/search?q=something+only+asked+here")
