"""What a person does on the page, and what a test then asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

QUERY = "open a file for reading"


def search_of(page: Page) -> str:
    """The search_id of the page that is shown."""
    found = page.locator("main").get_attribute("data-search")
    assert found is not None
    return found


def shown(page: Page) -> list[int]:
    """The snippets on the page, in order."""
    return page.eval_on_selector_all("[data-snippet]", "all => all.map(each => Number(each.dataset.snippet))")


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.id")


def pressed(page: Page, rank: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#r{rank} [aria-pressed=true]", "all => all.map(each => each.dataset.do)"
    )


def toast_says(page: Page, text: str) -> None:
    expect(page.locator("#toast")).to_contain_text(text)


def ask_code(page: Page, code: str) -> str:
    page.goto(f"/search?{urlencode({'q': code})}")
    return search_of(page)


def insights_with(page: Page, query: str) -> Locator:
    """The row about a query; the figures are kept for a moment."""
    row = page.locator("tr", has_text=query)
    for _ in range(20):
        page.goto("/insights?days=7")
        if row.count():
            break
        page.wait_for_timeout(500)
    return row


def ask(page: Page, query: str = QUERY) -> str:
    page.goto("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?*")
    return search_of(page)


def user_of(context: BrowserContext) -> str:
    cookies = {cookie.get("name"): cookie for cookie in context.cookies()}
    assert cookies["honeloop_visitor"].get("httpOnly") is True
    assert cookies["honeloop_visitor"].get("sameSite") == "Lax"
    return f"web:{cookies['honeloop_visitor'].get('value')}"
