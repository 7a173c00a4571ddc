"""Real code to make training sets of: functions of Python's standard library, with real vectors."""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assets_tests.feedback.world import content_hash
from pipeline.encoders.encoder import Encoder
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.tables import copy_vectors
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database

MODULES = ("bisect", "heapq", "random", "shutil", "statistics", "textwrap")


@dataclass(frozen=True)
class Function:
    """One function, with its documentation and without."""

    path: str
    symbol: str
    text: str
    documentation: str | None
    undocumented: str | None

    @property
    def hash(self) -> bytes:
        return content_hash(self.text)


@cache
def functions() -> tuple[Function, ...]:
    """Short functions and methods, by path and place; each text once."""
    found: dict[str, Function] = {}
    for module in MODULES:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno < 40:
                function = _function(f"{module}.py", node, source.split("\n"))
                found.setdefault(function.text, function)
    return tuple(sorted(found.values(), key=lambda function: (function.path, function.symbol)))


def _function(path: str, node: ast.FunctionDef, lines: Sequence[str]) -> Function:
    code = lines[node.lineno - 1 : node.end_lineno]
    documentation = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    undocumented = None
    if len(documentation.split()) >= 4 and len(node.body) > 1:
        docstring = node.body[0]
        assert docstring.end_lineno is not None
        first, end = docstring.lineno - node.lineno, docstring.end_lineno - node.lineno + 1
        undocumented = textwrap.dedent("\n".join([*code[:first], *code[end:]]))
    return Function(
        path=path,
        symbol=f"{node.name}#{node.lineno}",
        text=textwrap.dedent("\n".join(code)),
        documentation=documentation if undocumented else None,
        undocumented=undocumented,
    )


def named(name: str) -> Function:
    return next(function for function in functions() if function.symbol.split("#")[0] == name)


_embedded: dict[tuple[str, str], NDArray[np.float32]] = {}


def embed(encoder: Encoder, chosen: Sequence[Function]) -> NDArray[np.float32]:
    """The encoder's vectors of these functions; each is computed once for all tests."""
    new = [function.text for function in chosen if (encoder.version, function.text) not in _embedded]
    for text, vector in zip(new, encoder.embed_documents(new), strict=True):
        _embedded[encoder.version, text] = vector
    return np.stack([_embedded[encoder.version, function.text] for function in chosen])


def add_functions(db: Database, chosen: Sequence[Function], repository: str = "stdlib") -> dict[bytes, int]:
    """Adds them as live snippets of a repository; snippet ids by content hash."""
    ids: dict[bytes, int] = {}
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO repositories (name, kind, location) VALUES (%s, 'directory', '/x') "
            "ON CONFLICT DO NOTHING",
            [repository],
        )
        for position, function in enumerate(chosen):
            connection.execute(
                "INSERT INTO contents (content_hash, text, documentation, undocumented_text) "
                "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [function.hash, function.text, function.documentation, function.undocumented],
            )
            row = connection.execute(
                "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, "
                "start_line, end_line, content_hash) SELECT id, %s, %s, 'function', 'python', %s, %s, %s, "
                "%s, %s FROM repositories WHERE name = %s RETURNING id",
                [
                    function.path,
                    function.symbol,
                    function.text.split("\n")[0],
                    function.text,
                    position + 1,
                    position + 1,
                    function.hash,
                    repository,
                ],
            ).fetchone()
            assert row is not None
            ids[function.hash] = row[0]
    return ids


def add_vectors(db: Database, encoder: Encoder, chosen: Sequence[Function]) -> None:
    """Registers the encoder and stores its vectors of `chosen`."""
    ensure_registered(db, encoder, "minilm")
    with db.connect(autocommit=True) as connection:
        table = ensure_embedding_table(connection, encoder)
        copy_vectors(
            connection, table, encoder.version, [function.hash for function in chosen], embed(encoder, chosen)
        )
