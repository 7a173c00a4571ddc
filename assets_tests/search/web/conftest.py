"""A site over click's functions, and an installed Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql

from assets_tests.index.click_corpus import Function, add_functions, click_functions, serve, store_vectors
from assets_tests.search.web.hostile import HOSTILE
from assets_tests.search.web.site import Site, serving
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.store.connections import Database
from pipeline.store.server import database_url

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

# Read when this is imported: a fixture of the whole session takes all such variables away.
CHROMIUM = os.environ.get("HONELOOP_TEST_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def long_function() -> Function:
    """One of click's functions with more lines than are shown at once."""
    return next(f for f in click_functions() if 40 < f.code.count("\n") < 80)


def repeated_function() -> Function:
    """One that stands in a second file, too."""
    return next(f for f in click_functions() if f.symbol.startswith("make_str:"))


@pytest.fixture(scope="session")
def site(
    server_settings: Settings,
    _template: str,
    minilm: Encoder,
    functions: tuple[Function, ...],
    vectors: NDArray[np.float32],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Click's functions, hostile ones, a long one and a copied one, indexed and served."""
    name = f"test_web_{os.getpid()}_{tmp_path_factory.mktemp('web').name}"
    admin = database_url(server_settings, "template1")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_template))
        )
    db = Database(database_url(server_settings, name))
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=db.url, device="cpu")
    more = [f for f in (long_function(), repeated_function()) if f not in functions]
    copied = repeated_function()
    add_functions(db, [*functions, *more])
    add_functions(
        db, [Function("vendored/copy.py", copied.symbol, copied.code, 9, None)], repository="vendor"
    )
    add_functions(db, HOSTILE, repository="hostile")
    store_vectors(db, minilm, functions, vectors)
    extra = [*more, *HOSTILE]
    store_vectors(db, minilm, extra, minilm.embed_documents([f.code for f in extra]))
    serve(db, minilm, settings)
    with serving(settings, db) as site:
        yield site
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# Not for the session: while Playwright is open its event loop counts as running in this thread, and whatever
# runs one of its own there afterwards (Dagster in process) cannot close it.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(
            "no Chromium is installed: `apt-get install chromium`, or name one in HONELOOP_TEST_CHROMIUM"
        )
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a test's pages complained of, and whom they asked."""

    complaints: list[str] = field(default_factory=list[str])
    asked: set[str] = field(default_factory=set[str])
    # A complaint that a test provokes on purpose begins like this.
    expected: tuple[str, ...] = ()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def context(browser: Browser, site: Site, watched: Watched) -> Iterator[BrowserContext]:
    """A person of their own. At the end nothing may have complained, and no other site been asked."""
    context = browser.new_context(base_url=site.url, viewport={"width": 1200, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    context.set_default_timeout(15_000)
    watch(context, watched)
    yield context
    context.close()
    unexpected = [each for each in watched.complaints if not each.startswith(watched.expected or ("\0",))]
    assert unexpected == []
    assert {url for url in watched.asked if not url.startswith(f"{site.url}/")} == set()


def watch(context: BrowserContext, watched: Watched) -> None:
    context.on("request", lambda request: watched.asked.add(request.url))
    context.on(
        "console",
        lambda message: (
            watched.complaints.append(message.text) if message.type in {"error", "warning"} else None
        ),
    )
    context.on("weberror", lambda error: watched.complaints.append(str(error.error)))

    def refuse(dialog: Dialog) -> None:
        watched.complaints.append(dialog.message)
        dialog.dismiss()

    context.on("dialog", refuse)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
