"""What no line of the project may do: open a pickle, run text, trust a model's code, glue SQL together."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import PROJECT_ROOT

# These open pickles, or run what they read.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "numpy.load",
    "np.load",
}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}
# psycopg takes LiteralString, bytes and its own Composed, which pyright checks. So it could be evaded.
EVASION = re.compile(r"cast\(.?LiteralString|sql\.SQL\(f|execute\(.*(?:encode\(|pyright: ignore)")
# Statements that are literals, which pyright does not see to be: out of a tuple, or formatted.
KNOWN = {
    "feedback/import_store.py",
    "feedback/expiring.py",
    "doctor/tables.py",
    "backup/restoring.py",  # a constraint's definition, as the server gave it
}


def sources() -> Iterator[tuple[Path, str]]:
    for path in sorted((PROJECT_ROOT / "pipeline").rglob("*.py")):
        yield path.relative_to(PROJECT_ROOT / "pipeline"), path.read_text("utf-8")


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.split(".")[0] in MODULES:
                yield node.module
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or name in BUILT_IN:
                yield name
            for keyword in node.keywords:
                harmless = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in KEYWORDS and not harmless:
                    yield f"{keyword.arg}="


def test_nothing_unpickles_and_nothing_runs_what_it_reads() -> None:
    found = {str(path): list(forbidden(ast.parse(text))) for path, text in sources()}
    assert len(found) > 250
    assert {path: what for path, what in found.items() if what} == {}


def test_the_search_for_it_finds_it() -> None:
    evil = "import pickle\nfrom joblib import load\ntorch.load(x)\neval(x)\nf(trust_remote_code=True)\n"
    assert sorted(forbidden(ast.parse(evil))) == [
        "eval",
        "joblib",
        "pickle",
        "torch.load",
        "trust_remote_code=",
    ]


def test_sql_is_literal_or_composed() -> None:
    assert {str(path) for path, text in sources() if EVASION.search(text)} == KNOWN
