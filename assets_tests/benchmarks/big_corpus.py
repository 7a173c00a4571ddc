"""A database with as many snippets as asked for: real code of the installed packages, and real vectors.

Beyond the texts that were embedded, vectors are the real ones again with a little noise; beyond the code that
is installed, texts are the real ones again with a line that tells them apart.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.real_vectors import functions
from pipeline.encoders.encoder import Encoder
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.tables import copy_vectors
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database

PACKAGES = (
    "networkx",
    "rich",
    "click",
    "sqlalchemy",
    "dagster",
    "pandas",
    "scikit-learn",
    "scipy",
    "sympy",
    "matplotlib",
    "transformers",
    "torch",
)
# Length of the noise beside a vector of length 1: such twins have a cosine of about 0.96 with their original.
NOISE = 0.3
CHUNK = 5000


@dataclass(frozen=True)
class Code:
    """One real function."""

    package: str
    path: str
    text: str
    documentation: str


@dataclass(frozen=True)
class Sizes:
    """How much of the corpus is what it seems.

    Args:
        snippets: How many there are.
        texts: How many different real functions they come from.
        embedded: How many texts were really embedded.
    """

    snippets: int
    texts: int
    embedded: int


def real_code(count: int) -> list[Code]:
    """Up to `count` different functions of the installed packages, the same every time, in mixed order."""
    found: dict[str, Code] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what old code's string escapes deserve is not the matter here
        for package in PACKAGES:
            for number, (text, documentation) in enumerate(functions(package)):
                if text.strip():
                    path = f"{package}/part_{number // 200}/module_{number // 20}.py"
                    found.setdefault(text, Code(package, path, text, documentation))
            if len(found) >= 3 * count:
                break
    chosen = sorted(found.values(), key=lambda each: hashlib.sha256(each.text.encode()).digest())
    return chosen[:count]


def real_embeddings(
    encoder: Encoder, code: list[Code], queries: int, cache: Path | None
) -> tuple[NDArray[np.float32], list[str], NDArray[np.float32]]:
    """Vectors of the code; documentation of some of it as queries, and their vectors; kept in `cache`."""
    if cache is not None and cache.exists():
        stored: Any = np.load(cache)
        if len(stored["vectors"]) >= len(code) and len(stored["texts"]) >= queries:
            return (
                stored["vectors"][: len(code)],
                list(stored["texts"][:queries]),
                stored["queries"][:queries],
            )
    texts = [" ".join(each.documentation.split())[:300] for each in code]
    texts = list(dict.fromkeys(text for text in texts if len(text.split()) >= 4))[:queries]
    vectors, asked = encoder.embed_documents([each.text for each in code]), encoder.embed_queries(texts)
    if cache is not None:
        np.savez(cache, vectors=vectors, texts=np.array(texts), queries=asked)
    return vectors, texts, asked


def fill(
    db: Database,
    encoder: Encoder,
    code: list[Code],
    vectors: NDArray[np.float32],
    count: int,
    *,
    words: bool = True,
) -> Sizes:
    """Stores `count` snippets with their vectors, as extraction and embedding would have left them.

    Without `words` the words of the texts are left out, which take most of the time.
    """
    ensure_registered(db, encoder, "minilm")
    with db.connect() as connection:
        table = ensure_embedding_table(connection, encoder)
        repositories = {
            package: connection.execute(
                "INSERT INTO repositories (name, kind, location) VALUES (%s, 'distribution', %s)"
                " RETURNING id",
                [package, package],
            ).fetchone()[0]  # type: ignore[index]
            for package in sorted({each.package for each in code})
        }
    started = time.perf_counter()
    rng = np.random.default_rng(17)
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        rows = [(number, *_text(code, number)) for number in numbers]
        hashes = [hashlib.sha256(text.encode()).digest() for _, _, text in rows]
        with db.connect() as connection, connection.cursor() as cursor:
            if not words:
                cursor.execute("ALTER TABLE contents DISABLE TRIGGER words_of_new_contents")
            with cursor.copy("COPY contents (content_hash, text) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "text"])
                for key, (_, _, text) in zip(hashes, rows, strict=True):
                    copy.write_row((key, text))
            with cursor.copy(
                "COPY snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
                " end_line, content_hash) FROM STDIN"
            ) as copy:
                for key, (number, each, text) in zip(hashes, rows, strict=True):
                    kind = "method" if number % 3 else "function"
                    copy.write_row(
                        (
                            repositories[each.package],
                            _path(each, number, len(code)),
                            f"f{number}",
                            kind,
                            "python",
                            text.split("\n", 1)[0][:200],
                            text,
                            1,
                            1 + text.count("\n"),
                            key,
                        )
                    )
            paths = {(repositories[each.package], _path(each, number, len(code))) for number, each, _ in rows}
            cursor.executemany(
                "INSERT INTO files (repository_id, path, blob_hash, extractor)"
                " VALUES (%s, %s, 'made', 'made') ON CONFLICT DO NOTHING",
                sorted(paths),
            )
        with db.connect() as connection:
            copy_vectors(connection, table, encoder.version, hashes, _vectors(vectors, numbers, rng))
        if start % (20 * CHUNK) == 0 and start:
            print(f"  {start:,} snippets stored after {time.perf_counter() - started:.0f} s", flush=True)
    with db.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return Sizes(count, min(len(code), count), min(len(vectors), count))


def _path(each: Code, number: int, texts: int) -> str:
    return each.path.replace("/part_", f"/copy_{number // texts}/part_")


def _text(code: list[Code], number: int) -> tuple[Code, str]:
    each = code[number % len(code)]
    return each, each.text if number < len(code) else f"{each.text}\n# copy {number // len(code)}"


def _vectors(vectors: NDArray[np.float32], numbers: range, rng: np.random.Generator) -> NDArray[np.float32]:
    chosen = vectors[np.array(numbers) % len(vectors)]
    noise = rng.standard_normal(chosen.shape).astype(np.float32) * (NOISE / np.sqrt(chosen.shape[1]))
    noise[np.array(numbers) < len(vectors)] = 0  # these are the real ones
    noisy = chosen + noise
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def batches_of(queries: list[str], clients: int) -> Iterator[list[str]]:
    """The queries, shared among the clients."""
    for client in range(clients):
        yield queries[client::clients]
