"""What figures were measured on: the machine, and the versions of all that decides them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from assets_tests.benchmarks.comparing import PROJECT_ROOT, Peer, peer_environment
from assets_tests.benchmarks.environment import PEER_PYTHON

LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "tree-sitter",
    "dagster",
    "psycopg",
    "onnx",
    "onnxruntime",
    "ray",
)
NOT_INSTALLED = "not installed"


def machine() -> dict[str, Any]:
    """What it runs on, and with which versions; none is left out without a word."""
    import torch

    postgres, pgvector = _embedded_server()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # which library computes depends on them
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "grammars": _grammars(),
        "postgres": postgres,
        "pgvector": pgvector,
        "cocoindex": _peers_version(),
        "honeloop": _version("honeloop"),
        "commit": commit(),
    }


def commit() -> str:
    """Of the checkout that this code is in; "+dirty" if a file of it differs. Says so where there is none."""
    root = _git("rev-parse", "--show-toplevel")
    if root is None or Path(root).resolve() != PROJECT_ROOT:
        return "not a checkout"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{_git('rev-parse', 'HEAD')}{'+dirty' if changed else ''}"


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "-C", PROJECT_ROOT, *arguments], capture_output=True, text=True, check=False
    )
    return None if done.returncode else done.stdout.strip()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _grammars() -> str:
    from pipeline.corpus.languages import LANGUAGES

    wheels = sorted({language.wheel for language in LANGUAGES})
    return ", ".join(f"{wheel.removeprefix('tree-sitter-')} {_version(wheel)}" for wheel in wheels)


def _embedded_server() -> tuple[str, str]:
    """Postgres and pgvector as the package brings them, without starting a server."""
    from assets_tests.benchmarks.plain_index import server_programs

    programs = server_programs()
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    shared = subprocess.run(
        [programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=True
    )
    control = Path(shared.stdout.strip()) / "extension" / "vector.control"
    versions = [
        line.partition("=")[2].strip(" '")
        for line in control.read_text("utf-8").splitlines()
        if line.startswith("default_version")
    ]
    return said.stdout.split()[-1], versions[0]


def _peers_version() -> str:
    if Peer.absence() is not None:
        return "not measured"
    done = subprocess.run(
        [os.environ[PEER_PYTHON], "-c", "import importlib.metadata as m; print(m.version('cocoindex'))"],
        capture_output=True,
        text=True,
        check=False,
        env=peer_environment(),
    )
    return done.stdout.strip() or NOT_INSTALLED


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
