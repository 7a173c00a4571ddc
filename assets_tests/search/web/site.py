"""A real service on a free port: engine, queue, API and page, in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from pipeline.config import Settings
from pipeline.search.api.app import create_app
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Site:
    """Where it answers, and the database behind it."""

    url: str
    db: Database

    def rows(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with self.db.connect() as connection:
            return connection.execute(statement, values).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]

    def soon(self, statement: str, values: Any, enough: Callable[[list[tuple[Any, ...]]], bool]) -> list[Any]:
        """The rows, as soon as they are enough; those there are when patience ends, for the assertion."""
        until = time.monotonic() + WAIT_SECONDS
        rows = self.rows(statement, values)
        while not enough(rows) and time.monotonic() < until:
            time.sleep(0.05)
            rows = self.rows(statement, values)
        return rows

    def said(self, search_id: str, count: int) -> list[tuple[Any, ...]]:
        """Feedback on a search, the oldest first, once there is `count`: snippet, judgement, dwell, user."""
        return self.soon(
            "SELECT snippet_id, judgement, dwell_ms, user_name FROM feedback"
            " WHERE search_id = %s ORDER BY id",
            [search_id],
            lambda rows: len(rows) >= count,
        )

    def browse(self, path: str, **options: Any) -> httpx.Response:
        """A page as a browser without cookies asks for it."""
        return httpx.get(f"{self.url}{path}", headers={"accept": "text/html"}, timeout=30, **options)


@contextlib.contextmanager
def serving(settings: Settings, db: Database) -> Generator[Site]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        SearchSpool(settings, db) as spool,
        SearchEngine(settings, db, spool) as engine,
    ):
        app = create_app(engine, settings, db=db, spool=spool)
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
        )
        thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
        thread.start()
        try:
            until = time.monotonic() + WAIT_SECONDS
            while not server.started and time.monotonic() < until:
                time.sleep(0.02)
            assert server.started
            yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", db)
        finally:
            server.should_exit = True
            thread.join(WAIT_SECONDS)
