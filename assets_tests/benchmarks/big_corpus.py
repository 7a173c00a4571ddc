"""A database with as many snippets as asked for: real code of the installed packages, and real vectors.

Beyond the texts that were embedded, vectors are the real ones again with a little noise; beyond the code that
is installed, texts are the real ones again with a line that tells them apart.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.installed_code import Code, queries_of
from pipeline.encoders.encoder import Encoder
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.tables import copy_vectors
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database

# Real near-duplicates have a cosine in between: below, they are merely alike, above, nearly the same.
NEAR_DUPLICATES = (0.9, 0.995)
# Length of isotropic noise beside a vector of length 1: a cosine of about 0.96 with the original.
NOISE = 0.3
CHUNK = 5000


def real_embeddings(
    encoder: Encoder, code: list[Code], queries: int, cache: Path | None
) -> tuple[NDArray[np.float32], list[str], NDArray[np.float32]]:
    """Vectors of the code; documentation of some of it as queries, and their vectors; kept in `cache`.

    Raises:
        ValueError: the cache is another benchmark's.
    """
    if cache is not None and cache.exists():
        stored: Any = np.load(cache)
        if not {"vectors", "texts", "queries"} <= set(stored.files):
            raise ValueError(
                f"{cache} holds vectors without queries, of another benchmark: name another file."
            )
        if len(stored["vectors"]) >= len(code) and len(stored["texts"]) >= queries:
            return (
                stored["vectors"][: len(code)],
                list(stored["texts"][:queries]),
                stored["queries"][:queries],
            )
    texts = queries_of(code, queries)
    vectors, asked = encoder.embed_documents([each.text for each in code]), encoder.embed_queries(texts)
    if cache is not None:
        np.savez(cache, vectors=vectors, texts=np.array(texts), queries=asked)
    return vectors, texts, asked


def near_duplicate_noise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every way in which two of the real vectors that are near-duplicates differ; shape (ways, dims).

    Added to another vector, such a difference makes a copy that differs from it as real code does from its
    near-duplicate: along some 60 directions and not 384, and more toward and from queries. Copies with
    isotropic noise all stand around their original like a star, which real code does not.
    """
    some = vectors[:10_000]
    cosine = np.triu(some @ some.T, 1)
    one, other = np.nonzero((cosine > NEAR_DUPLICATES[0]) & (cosine < NEAR_DUPLICATES[1]))
    if not len(one):
        raise ValueError(f"No two of {len(some)} texts are near-duplicates: embed more.")
    differences = some[one] - some[other]
    return np.concatenate([differences, -differences])


def fill(
    db: Database,
    encoder: Encoder,
    code: list[Code],
    vectors: NDArray[np.float32],
    count: int,
    *,
    words: bool = True,
    isotropic: bool = False,
) -> None:
    """Stores `count` snippets with their vectors, as extraction and embedding would have left them.

    Without `words` the words of the texts are left out, which take most of the time.
    """
    ways = None if isotropic else near_duplicate_noise(vectors)
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
            copy_vectors(connection, table, encoder.version, hashes, repeated(vectors, ways, numbers, rng))
        if start % (20 * CHUNK) == 0 and start:
            print(f"  {start:,} snippets stored after {time.perf_counter() - started:.0f} s", flush=True)
    with db.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _path(each: Code, number: int, texts: int) -> str:
    """Of a copy: another file in the folder of the package."""
    folder, _, rest = each.path.partition("/")
    return each.path if number < texts else f"{folder}/copy_{number // texts}/{rest}"


def _text(code: list[Code], number: int) -> tuple[Code, str]:
    each = code[number % len(code)]
    return each, each.text if number < len(code) else f"{each.text}\n# copy {number // len(code)}"


def repeated(
    vectors: NDArray[np.float32],
    ways: NDArray[np.float32] | None,
    numbers: range,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The vectors of these rows: the real ones, and beyond them each again with a difference of `ways`.

    Without `ways` with isotropic noise.
    """
    chosen = vectors[np.array(numbers) % len(vectors)]
    if ways is None:
        noise = rng.standard_normal(chosen.shape).astype(np.float32) * (NOISE / np.sqrt(chosen.shape[1]))
    else:
        noise = ways[rng.integers(len(ways), size=len(chosen))]
    noise[np.array(numbers) < len(vectors)] = 0  # these are the real ones
    noisy = chosen + noise
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def batches_of(queries: list[str], clients: int) -> Iterator[list[str]]:
    """The queries, shared among the clients."""
    for client in range(clients):
        yield queries[client::clients]
