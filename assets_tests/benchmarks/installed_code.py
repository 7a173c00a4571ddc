"""Real code to measure with: functions of the installed packages, drawn file by file.

Files come in the order of a hash of their names, so that a few of them are a fair sample of all packages, are
the same ones every time, and no more of them are parsed than asked for: parsing all takes a minute.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackagePath, distributions, files
from itertools import chain
from pathlib import Path

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


@dataclass(frozen=True)
class Code:
    """One function.

    Args:
        package: The distribution it is installed by.
        path: Of its file, below where packages are installed.
        text: Its source.
        documentation: The first paragraph of its docstring, on one line; empty if it has none.
    """

    package: str
    path: str
    text: str
    documentation: str


def real_code(count: int, packages: Sequence[str] = PACKAGES) -> list[Code]:
    """Up to `count` functions of different texts; a smaller count gives the beginning of a larger one's.

    Once there are no more in `packages`, those of all others follow that are installed.
    """
    found: dict[str, Code] = {}
    for package, file in chain(_python_files(packages), _python_files_of_others(packages)):
        for code in _functions(package, file):
            found.setdefault(code.text, code)
        if len(found) >= count:
            break
    return list(found.values())[:count]


def queries_of(code: Sequence[Code], count: int) -> list[str]:
    """Documentation of the functions to search with, each text once: questions in words, about real code."""
    texts = dict.fromkeys(each.documentation[:300] for each in code)
    return [text for text in texts if len(text.split()) >= 4][:count]


def _python_files(packages: Sequence[str]) -> list[tuple[str, PackagePath]]:
    found = [(each, file) for each in packages for file in files(each) or () if file.suffix == ".py"]
    return sorted(found, key=lambda each: hashlib.sha256(str(each[1]).encode()).digest())


def _python_files_of_others(packages: Sequence[str]) -> Iterator[tuple[str, PackagePath]]:
    """Looked for only when somebody asks for the first."""
    known = {_normal(name) for name in packages}
    yield from _python_files(
        sorted({each.name for each in distributions() if _normal(each.name) not in known})
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _functions(package: str, file: PackagePath) -> Iterator[Code]:
    try:
        source = Path(str(file.locate())).read_text("utf-8", errors="replace")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what old code's string escapes deserve is not the matter here
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        # Gone since; of another version of Python, or a template; with a null byte; nested beyond reason.
        return
    lines = source.split("\n")
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            documentation = (ast.get_docstring(node) or "").split("\n\n")[0]
            if text.strip():
                yield Code(package, str(file), text, " ".join(documentation.split()))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement. Functions stand in no expression, of which there are ten times as many."""
    open_nodes = [tree]
    while open_nodes:
        node = open_nodes.pop()
        yield node
        for field in ("handlers", "cases", "finalbody", "orelse", "body"):
            open_nodes.extend(reversed(getattr(node, field, None) or ()))
