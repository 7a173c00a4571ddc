"""Which Honeloop and which torch a machine has: what decides whether two compute the same."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

# Beside Honeloop itself and the grammars: what vectors, weights, token counts and snippets come from. Ray
# compares Python and itself.
_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "accelerate",
    "peft",
    "numpy",
    "tree-sitter",
    "kingfisher-secret-scanner",
)
_ROOT = Path(__file__).resolve().parents[1]
_CODE = ("*.py", "*.scm", "*.yml")


@cache
def versions_here() -> dict[str, str]:
    """The version of each by its name; Honeloop's with a hash of its code, which changes more often."""
    found = {name: _version(name) for name in (*_LIBRARIES, *_grammars())}
    return {"honeloop": f"{_version('honeloop')} (code {_code()})", **found}


def _grammars() -> list[str]:
    """The wheels of the grammars: each decides how files of its language are cut."""
    try:
        from pipeline.corpus.languages import LANGUAGES
    except ImportError:  # a machine without tree-sitter itself, which is said by its own name
        return []
    return sorted({language.wheel for language in LANGUAGES})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in _ROOT.rglob(pattern)):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
