"""What is asked: the query, how many results, and which snippets come into question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pipeline.corpus.definitions import Kind
from pipeline.corpus.store import can_be_stored
from pipeline.errors import BadInputError
from pipeline.search.globs import glob_to_regex

MAX_QUERY_CHARACTERS = 10_000
MAX_K = 1000
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class SearchRequest:
    """One search as it is asked.

    Args:
        query: 1 to 10,000 characters.
        k: How many results, 1 to 1,000.
        languages: Only snippets in one of them, such as "python"; empty: any.
        sources: Only snippets of the repositories of these names; empty: any.
        kinds: Only these of function, method, class, module; empty: any.
        path: Only snippets of files whose path matches this glob (`src/**/*.py`); None: any.
        user: Who asks, for the record.
        client: Through what: cli, api, web, mcp.
    """

    query: str
    k: int = 10
    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    path: str | None = None
    user: str | None = None
    client: str = "api"

    @property
    def asked(self) -> dict[str, Any]:
        """Everything but the query and who asked, for the record; what is not set is left out."""
        given: dict[str, Any] = {
            "k": self.k,
            "languages": list(self.languages),
            "sources": list(self.sources),
            "kinds": list(self.kinds),
            "path": self.path,
        }
        return {name: value for name, value in given.items() if value}

    def check(self) -> None:
        """Raises BadInputError if it cannot be answered as asked, whatever is indexed."""
        if not self.query.strip():
            raise BadInputError(
                "The query is empty.", hint="Say in a few words what the code should do.", field="query"
            )
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise BadInputError(
                f"The query has {len(self.query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are taken.",
                hint="Ask with a few words, or with the part of the code that matters.",
                field="query",
            )
        for what, text in (("query", self.query), ("user", self.user), ("path", self.path)):
            _require_text(what, text)
        for what, names in (("language", self.languages), ("source", self.sources)):
            for name in names:
                _require_text(what, name)
        if not 1 <= self.k <= MAX_K:
            raise BadInputError(f"k is {self.k}; it must be from 1 to {MAX_K:,}.", field="k")
        for kind in self.kinds:
            if kind not in KINDS:
                raise BadInputError(
                    f"There is no kind of snippet {kind!r}.",
                    hint=f"Known: {', '.join(KINDS)}.",
                    field="kind",
                )
        if self.path is not None:
            glob_to_regex(self.path)


def _require_text(what: str, text: str | None) -> None:
    if not can_be_stored(text):
        raise BadInputError(
            f"The {what} has characters that are no text.", hint="Send it as valid UTF-8.", field=what
        )
