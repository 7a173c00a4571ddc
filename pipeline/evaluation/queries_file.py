"""`honeloop evaluate`: a model on the queries of a file, ranking the whole indexed corpus exactly.

What is ranked is distinct contents, each once, wherever it stands. A relevant entry of the file is one item:
the snippet its `symbol` names together with the parts it was split into, or, without `symbol`, all snippets
of the file. How items get their ranks is said in `ranking`. Entries that mean the same contents are one item,
and a content is relevant if any of its places is. Entries that are not in the corpus do not count; a query
none of whose entries is found is counted in `unmatched` and left out of the metrics.

The order is that of the cosine, or that of searches, in which words and crowds count what was learned for the
model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.config import Settings, load_settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.metrics import RANKING_METRICS, query_metrics
from pipeline.evaluation.query_lines import RelevantItem, read_queries, set_aside
from pipeline.evaluation.ranking import RankedQuery, Vectors, rank_items
from pipeline.evaluation.store import live_hashes
from pipeline.progress import Progress
from pipeline.search.hybrid.exactly import SearchOrder, search_order
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.weights import weights_to_serve
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

RankedBy = Literal["search", "meaning"]
_PART = re.compile(r"@\d+$")
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class QueryFileReport:
    """What `honeloop evaluate` found.

    Attributes:
        model_version: Whose vectors were ranked.
        queries: How many queries the metrics are means over.
        corpus: How many distinct contents each of them ranked.
        unmatched: How many queries were left out, as none of their answers is in the corpus.
        metrics: The means, by name.
        ranking: What counted beside the cosine.
        rejected: How many lines could not be used.
        rejected_file: Where those lines are kept, with the reasons.
        unmatched_queries: The texts of the unmatched ones.
    """

    model_version: str
    queries: int
    corpus: int
    unmatched: int
    metrics: dict[str, float]
    ranking: Weights = MEANING_ALONE
    rejected: int = 0
    rejected_file: Path | None = None
    unmatched_queries: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON of `honeloop evaluate --json`."""
        return {
            "model_version": self.model_version,
            "queries": self.queries,
            "corpus": self.corpus,
            "unmatched": self.unmatched,
            "rejected": self.rejected,
            "rejected_file": None if self.rejected_file is None else str(self.rejected_file),
            "ranking": self.ranking._asdict(),
            "metrics": self.metrics,
            "unmatched_queries": list(self.unmatched_queries),
        }


def evaluate_queries(
    db: Database,
    encoder: Encoder,
    file: Path,
    progress: Progress,
    settings: Settings | None = None,
    *,
    ranked_by: RankedBy = "search",
) -> QueryFileReport:
    """The metrics of `encoder` on the queries of `file`. The model must be registered.

    Contents the model has not embedded yet are embedded first. Lines that cannot be used are kept in
    `FILE.rejected.jsonl` with their reasons.

    Args:
        db: The database.
        encoder: The model.
        file: Lines of `{"query", "relevant": [{"repository", "path", "symbol"?}]}`.
        progress: Told what is going on.
        settings: How to embed what is missing; by default the settings in force.
        ranked_by: "search": in the order of searches by this model; "meaning": of the cosine alone.

    Raises:
        BadInputError: the file cannot be read, no line of it can be used, or no query's answer is indexed.
        HoneloopError: nothing is indexed.
    """
    from pipeline.index.embeddings import embed_missing, load_vectors
    from pipeline.index.in_use import vectors_in_use

    settings = settings or load_settings()
    lines, rejected = read_queries(file)
    aside = set_aside(file, rejected)
    if not lines:
        raise BadInputError(
            f"No line of {file} can be used" + (f"; see {aside} for why." if aside else ": it is empty."),
            hint='A line is {"query": "…", "relevant": [{"repository": "…", "path": "…"}]}.',
        )
    corpus = live_hashes(db)
    if not corpus:
        raise HoneloopError("Nothing is indexed yet.", hint="Run `honeloop index`.")
    places = _places(db, [item for line in lines for item in line.relevant])
    with vectors_in_use(db, encoder.version):
        embed_missing(db, encoder, settings, progress)
        hashes, vectors = load_vectors(db, encoder.version, corpus)
    position = {content_hash: i for i, content_hash in enumerate(hashes)}

    wanted = [_items(line.relevant, places, position) for line in lines]
    matched = [(line.query, items) for line, items in zip(lines, wanted, strict=True) if items]
    unmatched = tuple(line.query for line, items in zip(lines, wanted, strict=True) if not items)
    if not matched:
        raise BadInputError(
            f"The corpus holds none of the relevant code that {file} names.",
            hint=_known_repositories(db),
        )
    with db.connect() as connection:
        weights = weights_to_serve(connection, encoder.version) if ranked_by == "search" else MEANING_ALONE
        order = search_order(connection, hashes, vectors, weights)
        metrics = _means(encoder, matched, vectors, order, progress)
    return QueryFileReport(
        model_version=encoder.version,
        queries=len(matched),
        corpus=len(corpus),
        unmatched=len(unmatched),
        metrics=metrics,
        ranking=weights,
        rejected=len(rejected),
        rejected_file=aside,
        unmatched_queries=unmatched,
    )


def _means(
    encoder: Encoder,
    matched: Sequence[tuple[str, tuple[tuple[int, ...], ...]]],
    vectors: Vectors,
    order: SearchOrder | None,
    progress: Progress,
) -> dict[str, float]:
    found: list[dict[str, float]] = []
    with progress.stage("Ranking the corpus for each query", len(matched)) as advance:
        for start in range(0, len(matched), _QUERIES_AT_ONCE):
            block = matched[start : start + _QUERIES_AT_ONCE]
            queries = [query for query, _ in block]
            ranks = rank_items(
                [RankedQuery(items) for _, items in block],
                encoder.embed_queries(queries),
                vectors,
                rescore=None if order is None else order.rescoring(queries),
            )
            found += [query_metrics(r, len(items)) for r, (_, items) in zip(ranks, block, strict=True)]
            advance(len(block))
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in RANKING_METRICS}


def _places(db: Database, items: Iterable[RelevantItem]) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """The live snippets, as (symbol, content hash), of every (repository, path) that is named."""
    named = sorted({(item.repository, item.path) for item in items})
    found: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT r.name, s.path, s.symbol, s.content_hash"
            " FROM unnest(%s::text[], %s::text[]) AS named (repository, path)"
            " JOIN repositories r ON r.name = named.repository"
            " JOIN snippets s ON s.repository_id = r.id AND s.path = named.path AND s.vanished_at IS NULL",
            [[repository for repository, _ in named], [path for _, path in named]],
        )
        for repository, path, symbol, content_hash in rows:
            found.setdefault((repository, path), []).append((symbol, bytes(content_hash)))
    return found


def _items(
    relevant: Sequence[RelevantItem],
    places: Mapping[tuple[str, str], Sequence[tuple[str, bytes]]],
    position: Mapping[bytes, int],
) -> tuple[tuple[int, ...], ...]:
    """The distinct items that the corpus holds, each as the positions of its contents."""
    items: set[tuple[int, ...]] = set()
    for entry in relevant:
        contents = {
            position[content_hash]
            for symbol, content_hash in places.get((entry.repository, entry.path), ())
            if content_hash in position and (entry.symbol is None or _names(entry.symbol, symbol))
        }
        if contents:
            items.add(tuple(sorted(contents)))
    return tuple(sorted(items))


def _names(wanted: str, symbol: str) -> bool:
    """Whether `wanted` means `symbol`: itself, or the whole of which `symbol` is a part (`name@2`)."""
    return symbol == wanted or _PART.sub("", symbol) == wanted


def _known_repositories(db: Database) -> str:
    with db.connect() as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM repositories ORDER BY name")]
    return f"Known repositories: {', '.join(names)}. Paths are relative to the repository."
