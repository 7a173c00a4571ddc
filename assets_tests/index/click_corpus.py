"""Real snippets to index: the functions of the installed `click`, put straight into the tables."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.index import building, embeddings, flipping
from pipeline.index.building import IndexReport
from pipeline.index.tables import copy_vectors
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database


@dataclass(frozen=True)
class Function:
    """One function of click."""

    path: str
    symbol: str
    code: str
    start_line: int
    documentation: str | None

    @property
    def content_hash(self) -> bytes:
        return hashlib.sha256(self.code.encode()).digest()


@cache
def click_functions() -> tuple[Function, ...]:
    """Every function and method of click with a text of its own, in the order of path and line."""
    found: dict[bytes, Function] = {}
    for file in sorted(str(f) for f in files("click") or () if str(f).endswith(".py")):
        source = Path(str(next(f for f in files("click") or () if str(f) == file).locate())).read_text(
            "utf-8"
        )
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                code = ast.get_source_segment(source, node)
                lead = (ast.get_docstring(node) or "").split("\n\n")[0]
                documentation = " ".join(lead.split()) if len(lead.split()) >= 4 else None
                if code:
                    function = Function(file, f"{node.name}:{node.lineno}", code, node.lineno, documentation)
                    found.setdefault(function.content_hash, function)
    return tuple(sorted(found.values(), key=lambda f: (f.path, f.start_line)))


@cache
def some_functions() -> tuple[Function, ...]:
    """250 of them, spread over all modules; short ones, which are embedded quickly."""
    short = [f for f in click_functions() if len(f.code) < 700]
    return tuple(short[i] for i in np.linspace(0, len(short) - 1, 250).astype(int))


@cache
def vectors_of(encoder: Encoder, functions: tuple[Function, ...]) -> NDArray[np.float32]:
    """The functions' vectors, row by row; computed once, whichever tests ask."""
    return encoder.embed_documents([f.code for f in functions])


def add_repository(db: Database, name: str = "click") -> int:
    with db.connect() as connection:
        row = connection.execute(
            "INSERT INTO repositories (name, kind, location) VALUES (%s, 'distribution', 'click')"
            " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
            [name],
        ).fetchone()
    assert row is not None
    return row[0]


def add_functions(
    db: Database,
    functions: Sequence[Function],
    *,
    repository: str = "click",
    language: Callable[[Function], str] = lambda _: "python",
) -> None:
    """Stores the functions as live snippets of `repository`."""
    repository_id = add_repository(db, repository)
    with db.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO contents (content_hash, text, documentation) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [(f.content_hash, f.code, f.documentation) for f in functions],
        )
        cursor.executemany(
            "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
            " end_line, content_hash) VALUES (%s, %s, %s, 'function', %s, %s, %s, %s, %s, %s)",
            [
                (
                    repository_id,
                    f.path,
                    f.symbol,
                    language(f),
                    f.code.split("\n", 1)[0],
                    f.code,
                    f.start_line,
                    f.start_line + f.code.count("\n"),
                    f.content_hash,
                )
                for f in functions
            ],
        )
        cursor.executemany(
            "INSERT INTO files (repository_id, path, blob_hash, extractor) VALUES (%s, %s, 'made', 'made')"
            " ON CONFLICT DO NOTHING",
            [(repository_id, path) for path in sorted({f.path for f in functions})],
        )


def vanish(db: Database, functions: Sequence[Function], *, back: bool = False) -> None:
    """Marks the functions' snippets as vanished, or as there again."""
    with db.connect() as connection:
        connection.execute(
            f"UPDATE snippets SET vanished_at = {'NULL' if back else 'now()'} WHERE content_hash = ANY(%s)",
            [[f.content_hash for f in functions]],
        )


def register(db: Database, encoder: Encoder) -> None:
    ensure_registered(db, encoder, encoder.spec.name)


def store_vectors(
    db: Database, encoder: Encoder, functions: Sequence[Function], vectors: NDArray[np.float32]
) -> None:
    """Stores vectors that `encoder` made of the functions, computed once for the whole test session."""
    register(db, encoder)
    with db.connect() as connection:
        table = embeddings.ensure_embedding_table(connection, encoder)
        copy_vectors(connection, table, encoder.version, [f.content_hash for f in functions], vectors)


def build(db: Database, encoder: Encoder, settings: Settings) -> IndexReport:
    return building.build_index(db, encoder.version, settings, Silent())


def serve(db: Database, encoder: Encoder, settings: Settings) -> IndexReport:
    """Builds an index of what is live and lets it serve."""
    report = build(db, encoder, settings)
    flipping.flip(db, report.index_version_id, actor="index", reasons=["test"], settings=settings)
    return report


def another_model(encoder: Encoder, name: str = "minilm-short") -> Encoder:
    """The same weights under another spec: another model version, with equal dimensions."""
    member = encoder.spec.members[0].model_copy(update={"document_prompt": f"{name}: "})
    spec = encoder.spec.model_copy(update={"name": name, "members": (member,)})
    return Encoder(spec, encoder._members, encoder.files)


def twice_the_model(encoder: Encoder) -> Encoder:
    """The model concatenated with itself: another model version, with twice the dimensions."""
    member = encoder.spec.members[0]
    frozen = member.model_copy(update={"trainable": False})
    spec = encoder.spec.model_copy(update={"name": "minilm+minilm", "members": (member, frozen)})
    return Encoder(spec, encoder._members * 2, encoder.files)
