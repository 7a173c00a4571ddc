"""What serves now, and every index version with its figures."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.errors import HoneloopError, UnavailableError
from pipeline.index.tables import VectorTable
from pipeline.store.connections import Connection, Database


class WrongModelError(HoneloopError):
    """A vector of one model version was about to meet another's. The encoder to load is that of `serving`."""

    def __init__(self, serving: ServingIndex, offered: str) -> None:
        self.serving = serving
        self.offered = offered
        super().__init__(
            f"The index that serves holds vectors of model version {serving.model_version[:12]};"
            f" a query embedded by {offered[:12]} cannot be compared with them.",
            hint=f"Load the encoder from {serving.location} and ask again.",
        )


@dataclass(frozen=True)
class ServingIndex:
    """The index version that answers searches.

    Args:
        index_version_id: Its id.
        model_version: Whose vectors it holds; queries must be embedded by the same.
        table_name: Where they are.
        dims: Their length.
        location: What `load_encoder` takes to load that model.
        rows: How many texts it has.
        ef_search: The breadth of the HNSW search that its recall was measured with.
        recall_at_10: That recall.
        lexical_weight: How much words count beside meaning in its ranking, in units of cosine, from 0 to 1; 0
            unless proven, for it or for the model it was trained from (`pipeline.search.hybrid.learning`).
        crowding_weight: How much the crowd around a text counts against it, likewise.
    """

    index_version_id: int
    model_version: str
    table_name: str
    dims: int
    location: str
    rows: int
    ef_search: int
    recall_at_10: float | None
    lexical_weight: float = 0.0
    crowding_weight: float = 0.0

    @property
    def by_meaning_alone(self) -> bool:
        """Whether nothing but the cosine orders what it finds."""
        return not self.lexical_weight and not self.crowding_weight

    @property
    def table(self) -> VectorTable:
        """Its table."""
        return VectorTable(self.table_name, self.model_version, self.dims)


@dataclass(frozen=True)
class IndexCount:
    """One index version for `honeloop status`; sizes in bytes, HNSW and key included, 0 once dropped."""

    index_version_id: int
    model_version: str
    model_name: str
    state: str
    dims: int
    rows: int
    recall_at_10: float | None
    recall_sample: int | None
    build_seconds: float | None
    parameters: dict[str, Any]
    size_bytes: int
    created_at: datetime
    served_from: datetime | None
    served_until: datetime | None


# What counts in the ranking is what `pipeline.search.hybrid.weights.weights_to_serve` says, in one statement:
# a model that has just taken over ranks by what is proven for its base from its first search on.
_SELECT = (
    "SELECT i.id, i.model_version, i.table_name, i.dims, m.location, i.row_count,"
    " (i.parameters ->> 'ef_search')::int, i.recall_at_10,"
    " coalesce(w.weight, 0), coalesce(w.crowding, 0)"
    " FROM index_versions i JOIN model_versions m ON m.version = i.model_version"
    " LEFT JOIN LATERAL (SELECT weight, crowding FROM ranking_weights"
    "  WHERE model_version IN (i.model_version, m.base_version) AND crowding IS NOT NULL"
    "  ORDER BY model_version = i.model_version DESC, id DESC LIMIT 1) AS w ON true"
)


def serving_index(where: Database | Connection) -> ServingIndex:
    """The index version that serves.

    Raises:
        UnavailableError: nothing serves yet.
    """
    with connected(where) as connection:
        row = connection.execute(f"{_SELECT} WHERE i.state = 'serving'").fetchone()
    if row is None:
        raise UnavailableError("Nothing is indexed yet.", hint="Run `honeloop run` or `honeloop index`.")
    return ServingIndex(*row)


def verified_index(where: Database | Connection, model_version: str) -> ServingIndex | None:
    """An index version of this model that could answer and does not serve; None if there is none.

    The one that is ready to serve, else the one that served last.
    """
    with connected(where) as connection:
        row = connection.execute(
            f"{_SELECT} WHERE i.model_version = %s AND i.state IN ('ready', 'retired')"
            " AND i.table_name IS NOT NULL AND i.recall_at_10 IS NOT NULL"
            " ORDER BY i.state, i.id DESC LIMIT 1",
            [model_version],
        ).fetchone()
    return None if row is None else ServingIndex(*row)


def index_counts(where: Database | Connection) -> list[IndexCount]:
    """Every index version ever built, the newest first."""
    with connected(where) as connection:
        rows = connection.execute(
            "SELECT i.id, i.model_version, m.name, i.state, i.dims, i.row_count, i.recall_at_10,"
            " i.recall_sample, i.build_seconds, i.parameters,"
            " coalesce(pg_total_relation_size(to_regclass(quote_ident(i.table_name))), 0),"
            " i.created_at, i.served_from, i.served_until"
            " FROM index_versions i JOIN model_versions m ON m.version = i.model_version ORDER BY i.id DESC"
        ).fetchall()
    return [IndexCount(*row) for row in rows]


@contextmanager
def connected(where: Database | Connection) -> Generator[Connection]:
    """`where` itself if it is a connection, else a new one for the length of the block."""
    if isinstance(where, Database):
        with where.connect() as connection:
            yield connection
    else:
        yield where
