"""The programming languages that are understood. To add one: its wheel in pyproject.toml, its query in
`queries/`, and one line in `LANGUAGES`.

What a query may capture is told in `queries/README.md`.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

import tree_sitter

from pipeline.errors import HoneloopError

CORPUS_PATH = Path(__file__).resolve().parent
QUERIES_PATH = CORPUS_PATH / "queries"
# What these modules say decides what is cut out of a file, so a change in them must cut every file again.
CUTTING_MODULES = (
    "parsing",
    "definitions",
    "leading",
    "documentation",
    "rendering",
    "splitting",
    "cutting",
)

_INHERITS = re.compile(r"^;\s*inherits:\s*(.+)$", re.MULTILINE)
_SHEBANG = re.compile(rb"^(?:\xef\xbb\xbf)?#![ \t]*(\S+)(?:[ \t]+(?:-S[ \t]+)?([^\s=]+))?")


@dataclass(frozen=True)
class Language:
    """One language: which files are written in it, and where its grammar and its query are.

    Args:
        name: As shown and stored; also the query's file name.
        wheel: The distribution that carries the grammar.
        extensions: File endings, lower case, with the dot.
        grammar: Name of the function in the wheel's module that gives the grammar.
        interpreters: Names after `#!` that mean this language, without version numbers.
        filenames: Whole file names, for files without an ending.
        head: If a later language claims an extension too, the file is in this one only if its beginning
            matches.
        indented: Line breaks and indentation decide which statements there are, and in which block.
    """

    name: str
    wheel: str
    extensions: tuple[str, ...]
    grammar: str = "language"
    interpreters: tuple[str, ...] = ()
    filenames: tuple[str, ...] = ()
    head: re.Pattern[bytes] | None = None
    indented: bool = False

    @cached_property
    def query_text(self) -> str:
        """The text of its query, preceded by those it inherits (`; inherits: other`)."""
        return _query_text(self.name)

    @cached_property
    def version(self) -> str:
        """What decides how a file of this language is cut: grammar, query and the code that cuts."""
        from importlib.metadata import version

        parts = [version("tree-sitter"), self.query_text, _cutting_code()]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return f"{self.wheel}-{version(self.wheel)}+{digest}"

    def load(self) -> tree_sitter.Language:
        """The grammar. Raises HoneloopError if its wheel is missing or too old for this tree-sitter."""
        return _load_grammar(self.wheel, self.grammar)


@cache
def _query_text(name: str) -> str:
    text = (QUERIES_PATH / f"{name}.scm").read_text(encoding="utf-8")
    inherited = [other.strip() for line in _INHERITS.findall(text) for other in line.split(",")]
    return "\n".join([*map(_query_text, inherited), text])


@cache
def _cutting_code() -> str:
    return "\0".join((CORPUS_PATH / f"{name}.py").read_text(encoding="utf-8") for name in CUTTING_MODULES)


@cache
def _load_grammar(wheel: str, function: str) -> tree_sitter.Language:
    try:
        module = importlib.import_module(wheel.replace("-", "_"))
        capsule: object = getattr(module, function)()
        return tree_sitter.Language(capsule)
    except (ImportError, AttributeError, ValueError) as error:
        raise HoneloopError(
            f"the grammar in {wheel} cannot be loaded: {error}.", hint=f"Run `pip install --upgrade {wheel}`."
        ) from error


# An include guard and `extern "C"` are C's too; these words at the beginning of a line are not.
_CPP_HEAD = re.compile(
    rb"^[ \t]*(?:class|namespace|template|using|public:|private:|protected:)\b|\bstd::", re.M
)

LANGUAGES: tuple[Language, ...] = (
    Language(
        "python",
        "tree-sitter-python",
        (".py", ".pyi", ".pyw"),
        interpreters=("python", "pypy"),
        indented=True,
    ),
    Language(
        "javascript",
        "tree-sitter-javascript",
        (".js", ".mjs", ".cjs", ".jsx"),
        interpreters=("node", "nodejs"),
    ),
    Language(
        "typescript",
        "tree-sitter-typescript",
        (".ts", ".mts", ".cts"),
        "language_typescript",
        interpreters=("deno", "ts-node", "tsx", "bun"),
    ),
    Language("tsx", "tree-sitter-typescript", (".tsx",), "language_tsx"),
    Language("go", "tree-sitter-go", (".go",)),
    Language("rust", "tree-sitter-rust", (".rs",)),
    Language("java", "tree-sitter-java", (".java",)),
    Language(
        "cpp",
        "tree-sitter-cpp",
        (".cpp", ".cc", ".cxx", ".c++", ".hpp", ".hh", ".hxx", ".h++", ".ipp", ".inl", ".h"),
        head=_CPP_HEAD,
    ),
    Language("c", "tree-sitter-c", (".c", ".h")),
    Language("csharp", "tree-sitter-c-sharp", (".cs", ".csx")),
    Language(
        "ruby",
        "tree-sitter-ruby",
        (".rb", ".rake", ".gemspec", ".ru"),
        interpreters=("ruby", "jruby"),
        filenames=("Rakefile", "Gemfile", "Guardfile", "Vagrantfile"),
    ),
    Language("php", "tree-sitter-php", (".php", ".phtml", ".inc"), "language_php", interpreters=("php",)),
    Language("elixir", "tree-sitter-elixir", (".ex", ".exs"), interpreters=("elixir",)),
    Language("lua", "tree-sitter-lua", (".lua",), interpreters=("lua", "luajit")),
    Language("kotlin", "tree-sitter-kotlin", (".kt", ".kts"), interpreters=("kotlin",)),
    Language("scala", "tree-sitter-scala", (".scala", ".sc"), interpreters=("scala", "amm"), indented=True),
    Language("swift", "tree-sitter-swift", (".swift",), interpreters=("swift",)),
    Language(
        "bash",
        "tree-sitter-bash",
        (".sh", ".bash", ".bats", ".ebuild"),
        interpreters=("sh", "bash", "dash", "ksh", "zsh", "ash"),
    ),
)


@cache
def _by_extension() -> dict[str, list[Language]]:
    claims: dict[str, list[Language]] = {}
    for language in LANGUAGES:
        for extension in language.extensions:
            claims.setdefault(extension, []).append(language)
    return claims


@cache
def _by_word() -> dict[str, Language]:
    return {
        word: language for language in LANGUAGES for word in (*language.interpreters, *language.filenames)
    }


def get_language(name: str) -> Language:
    """The language of that name. Raises KeyError if there is none."""
    return {language.name: language for language in LANGUAGES}[name]


def language_of(path: str, head: bytes) -> Language | None:
    """The language a file is written in, or None if it is not one of ours.

    Args:
        path: Where the file lies; its ending decides, then its whole name.
        head: The file's beginning (a few kilobytes are plenty). Decides between languages that share an
            ending, and names the interpreter (`#!`) of a file that has no ending.
    """
    name = PurePosixPath(path).name
    extension = PurePosixPath(name.lower()).suffix
    claims = _by_extension().get(extension, [])
    for language in claims[:-1]:
        if language.head is None or language.head.search(head):
            return language
    if claims:
        return claims[-1]
    if name in _by_word():
        return _by_word()[name]
    shebang = None if extension else _SHEBANG.match(head)
    if shebang is None:
        return None
    program, argument = shebang.groups()
    interpreter = PurePosixPath(program.decode("utf-8", "replace")).name
    if interpreter == "env" and argument:
        interpreter = PurePosixPath(argument.decode("utf-8", "replace")).name
    return _by_word().get(re.sub(r"[\d.]+$", "", interpreter))
