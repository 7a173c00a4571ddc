"""What there is to choose from: the filters that would find something, and queries worth trying."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass

from pipeline.search.engine import SearchEngine
from pipeline.store.connections import Connection

# Counting every live snippet takes about half a second at a million; what there is changes by the night.
KEPT_SECONDS = 300.0
EXAMPLES = 6
# First sentences of this many words read like what a person would ask.
_WORDS = range(4, 11)
_MARKUP = re.compile(r"[`*:;<>{}\[\]|\\_=#@]|\b(?:todo|fixme|deprecated)\b", re.I)


@dataclass(frozen=True)
class Choice:
    """A value of a filter and how many live snippets have it."""

    value: str
    snippets: int


@dataclass(frozen=True)
class Choices:
    """Every value that some live snippet has, by how many do; and queries from real documentation."""

    languages: tuple[Choice, ...] = ()
    sources: tuple[Choice, ...] = ()
    kinds: tuple[Choice, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def snippets(self) -> int:
        """All live snippets."""
        return sum(each.snippets for each in self.sources)


class ChoiceKeeper:
    """The choices of an engine's database, read anew every few minutes."""

    def __init__(self, engine: SearchEngine, kept_seconds: float = KEPT_SECONDS) -> None:
        self._engine = engine
        self._kept = kept_seconds
        self._lock = threading.Lock()
        self._read: tuple[float, Choices] | None = None

    def get(self) -> Choices:
        """What there is. Raises UnavailableError when the database is away."""
        with self._lock:  # one reads, the others wait for it
            now = time.monotonic()
            if self._read is None or not self._read[1].snippets or now - self._read[0] > self._kept:
                self._read = (now, self._engine.read(read_choices))
            return self._read[1]


def read_choices(connection: Connection) -> Choices:
    """The choices, out of the database."""
    rows = connection.execute(
        "SELECT s.language, r.name, s.kind, s.snippets FROM ("
        " SELECT language, repository_id, kind, count(*) AS snippets FROM snippets"
        " WHERE vanished_at IS NULL GROUP BY language, repository_id, kind"
        ") AS s JOIN repositories r ON r.id = s.repository_id"
    ).fetchall()
    return Choices(
        _summed([(language, count) for language, _, _, count in rows]),
        _summed([(source, count) for _, source, _, count in rows]),
        _summed([(kind, count) for _, _, kind, count in rows]),
        _examples(connection),
    )


def _summed(counted: list[tuple[str, int]]) -> tuple[Choice, ...]:
    totals: dict[str, int] = {}
    for value, count in counted:
        totals[value] = totals.get(value, 0) + count
    return tuple(Choice(*each) for each in sorted(totals.items(), key=lambda each: (-each[1], each[0])))


def _examples(connection: Connection) -> tuple[str, ...]:
    """First sentences of the documentation of real functions, in turn from one repository and the next."""
    rows = connection.execute(
        "SELECT sampled.documentation FROM repositories r CROSS JOIN LATERAL ("
        # By hash: as good as at random, and always the same. Of the first thousand, which bounds it.
        " SELECT documentation, row_number() OVER (ORDER BY content_hash) AS number FROM ("
        "  SELECT DISTINCT c.content_hash, c.documentation FROM ("
        "   SELECT content_hash, kind FROM snippets"
        "   WHERE repository_id = r.id AND vanished_at IS NULL LIMIT 1000"
        "  ) AS s JOIN contents c USING (content_hash)"
        "  WHERE s.kind IN ('function', 'method') AND length(c.documentation) BETWEEN 20 AND 400) AS few"
        ") AS sampled WHERE sampled.number <= 60 ORDER BY sampled.number, r.name"
    ).fetchall()
    found: dict[str, None] = {}
    for (documentation,) in rows:
        sentence = re.split(r"(?<=[a-z)])\.(?:\s|$)", documentation, maxsplit=1)[0].strip().rstrip(".")
        if len(sentence.split()) in _WORDS and len(sentence) <= 70 and not _MARKUP.search(sentence):
            found.setdefault(sentence)
        if len(found) == EXAMPLES:
            break
    return tuple(found)
