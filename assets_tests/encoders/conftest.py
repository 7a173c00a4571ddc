"""Copies of the real MiniLM that a test may damage, and real code to embed."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from pipeline.encoders.presets import PRESETS
from pipeline.encoders.sources import locate

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = locate(PRESETS["minilm"].members[0]).directory
FILES = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def copy_model(directory: Path, *, real: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Path:
    """MiniLM's files in `directory`: linked, but for those in `real`, which may then be damaged."""
    for name in FILES:
        if name in without:
            continue
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Small files are always copied: writing through a link would change the installed package.
        if name in real or name != "model.safetensors":
            shutil.copyfile(MODEL / name, target)
        else:
            os.symlink(MODEL / name, target)
    return directory


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    """A whole copy of MiniLM's directory; the weights are a link and must not be written to."""
    return copy_model(tmp_path / "model")


@pytest.fixture(scope="session")
def reference() -> SentenceTransformer:
    """MiniLM as Sentence Transformers loads it, with nothing of ours in it."""
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.quiet import quiet

    with quiet():
        return SentenceTransformer(str(MODEL), device="cpu", local_files_only=True)


@pytest.fixture(scope="session")
def functions() -> list[str]:
    """Real functions, the installed click's: of one line and of two hundred, in file order."""
    found: list[str] = []
    for path in sorted(Path(click.__file__).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_source_segment(source, node)):
                found.append(text)
    return found


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuses every connection and every look-up of a name, and gives the list of what was asked for."""
    import socket

    asked: list[Any] = []

    def refuse_connection(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError(f"this test may not connect to {address}")

    def refuse_name(host: Any, *_: Any, **__: Any) -> None:
        asked.append(host)
        raise socket.gaierror(f"this test may not look up {host}")

    monkeypatch.setattr(socket.socket, "connect", refuse_connection)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_name)
    return asked
