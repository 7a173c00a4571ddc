"""The service over a real index of click's functions; the database and the loaded model are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray
from psycopg import sql
from starlette.testclient import TestClient

from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors
from assets_tests.index.conftest import functions, vectors
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search.api.app import create_app
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database
from pipeline.store.server import database_url

__all__ = ["functions", "vectors"]

BASE = "http://127.0.0.1:8321"
TOKEN = "a-long-secret-of-the-tests-0123456789"


@dataclass(frozen=True)
class World:
    """The parts of a running service."""

    settings: Settings
    db: Database
    spool: SearchSpool
    engine: SearchEngine

    def app(self, **changes: object) -> FastAPI:
        """The application, with these settings changed."""
        settings = Settings.model_validate({**self.settings.model_dump(), **changes})
        return create_app(self.engine, settings, db=self.db, spool=self.spool)

    def count(self, table: str) -> int:
        """Rows of a table, once the queue is written."""
        assert self.spool.flush()
        with self.db.connect() as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="session")
def world(
    server_settings: Settings,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
    minilm: Encoder,
    functions: tuple[Function, ...],
    vectors: NDArray[np.float32],
) -> Iterator[World]:
    name = f"test_api_{uuid4().hex[:12]}"
    with psycopg.connect(database_url(server_settings, "template1"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_template))
        )
    db = Database(database_url(server_settings, name))
    settings = Settings(
        home=tmp_path_factory.mktemp("api") / "home", database_url=db.url, rate_limit="1000000/minute"
    )
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    serve(db, minilm, settings)
    with SearchSpool(settings, db) as spool, SearchEngine(settings, db, spool) as engine:
        engine.serving()
        yield World(settings, db, spool, engine)


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Without a token, from this machine."""
    with TestClient(world.app(), base_url=BASE) as client:
        yield client


@pytest.fixture
def client_of(world: World) -> Callable[..., TestClient]:
    """Makes a client of a service with other settings, which follows no redirects."""
    return lambda **changes: TestClient(world.app(**changes), base_url=BASE, follow_redirects=False)
