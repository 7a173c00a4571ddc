"""The application: the API's routes, the web page, and the layers around them."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from pipeline.config import Settings
from pipeline.search.api import errors
from pipeline.search.api.limits import BodyLimit, RateLimit
from pipeline.search.api.login import login_router
from pipeline.search.api.observing import Observing
from pipeline.search.api.routes import router
from pipeline.search.api.security import Guard, Sessions
from pipeline.search.api.service import Service
from pipeline.search.api.threads import Threads
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database

DESCRIPTION = """Search code by meaning, and say which answers were right: the model learns from that.

A service on this machine alone needs no token. One that others can reach takes
`Authorization: Bearer <HONELOOP_API_TOKEN>`; only `/health` is open to everybody. Every error has one shape:
a sentence, what to do about it, and the fields it is about.
"""


def create_app(engine: SearchEngine, settings: Settings, *, db: Database, spool: SearchSpool) -> FastAPI:
    """The HTTP service, complete.

    Its `state` holds `engine`, `settings`, `db` and `spool`, the `service` built of them, `threads` to run
    its blocking methods in, and two places for a web page: `snippet_page` and `error_page`.

    Args:
        engine: Answers searches; made with `spool` as its recorder. It stays its maker's to close.
        settings: Token, limits and the like.
        db: The database, for feedback and health.
        spool: Where the records of searches wait.
    """
    app = FastAPI(
        title="Honeloop",
        version=version("honeloop"),
        summary="A code-search model that hones itself on its users' feedback.",
        description=DESCRIPTION,
        # Their pages load scripts from elsewhere, which a service on this machine alone must not need.
        docs_url=None,
        redoc_url=None,
    )
    service = Service(engine, settings, db, spool)
    app.state.engine = engine
    app.state.settings = settings
    app.state.db = db
    app.state.spool = spool
    app.state.service = service
    app.state.threads = Threads()
    app.state.snippet_page = None
    app.state.error_page = None
    errors.install(app)
    app.include_router(router)
    app.include_router(login_router(None if settings.api_token is None else Sessions(settings.api_token)))
    _add_web_page(app, engine, settings)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Guard, token=settings.api_token, rate=RateLimit(settings.rate_limit))
    app.add_middleware(Observing, metrics=service.metrics, token=settings.api_token)
    return app


def _add_web_page(app: FastAPI, engine: SearchEngine, settings: Settings) -> None:
    if importlib.util.find_spec("pipeline.search.web.routes") is None:
        return
    web: Any = importlib.import_module("pipeline.search.web.routes")
    app.include_router(web.web_router(engine, settings), include_in_schema=False)
    app.state.snippet_page = getattr(web, "snippet_page", None)
    app.state.error_page = getattr(web, "error_page", None)
