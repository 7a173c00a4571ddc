"""HNSW: its size, its recall, its upkeep."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class IndexSettings(BaseSettings):
    """HNSW: its size, its recall, its upkeep."""

    hnsw_m: int = Field(default=16, ge=2, le=100, description="Links of a row in HNSW.")
    hnsw_ef_construction: int = Field(
        default=100,
        ge=4,
        le=1000,
        description="Candidates that they are chosen from, up to 100,000 rows; twice as many up to a "
        "million, and so on.",
    )
    hnsw_ef_search: int = Field(
        default=100, ge=1, le=1000, description="Breadth of an HNSW search; more where recall asks for it."
    )
    hnsw_max_ef_search: int = Field(
        default=1000, ge=1, le=1000, description="So broad a search at the most: time grows with it."
    )
    min_recall: float = Field(
        default=0.95, ge=0, le=1, description="recall@10 of HNSW against exact search, or it does not serve."
    )
    target_recall: float = Field(
        default=0.97, ge=0, le=1, description="The search is broadened until its recall@10 reaches this."
    )
    recall_sample: int = Field(default=200, ge=1, description="Queries used to measure that recall.")
    maintenance_work_mem: str | None = Field(
        default=None,
        description="Memory Postgres may use to build HNSW, such as 2GB; unset: a quarter of this machine's, "
        "at least 1GB, if the graph needs it; 1GB on a server of your own.",
    )
    index_build_workers: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Parallel workers that build HNSW beside the one that leads; unset: two, or as many as "
        "leave a processor of this machine to searches.",
    )
    in_place_share: float = Field(
        default=0.2, ge=0, le=1, description="Up to this share of new rows, the serving index is extended."
    )
    keep_retired_indexes: int = Field(default=2, ge=1, description="Index versions kept for rollback.")
