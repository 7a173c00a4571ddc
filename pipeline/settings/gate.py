"""What is measured, and what it takes to serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class GateSettings(BaseSettings):
    """What is measured, and what it takes to serve."""

    bootstrap_resamples: int = Field(default=2000, ge=100, description="For each confidence interval.")
    permutations: int = Field(
        default=10_000, ge=1000, description="Draws of signs for each permutation test's p-value."
    )
    keep_test_sets: int = Field(
        default=50,
        ge=1,
        description="Frozen test sets kept, with what was measured on them; those behind a model in use stay "
        "anyway.",
    )
    keep_rejected_checkpoints: int = Field(
        default=5,
        ge=1,
        description="Models whose weights are kept though the gate rejected them or had not enough evidence, "
        "the newest. Of older ones the record stays, and the weights only if they served, somebody promoted "
        "them or another model was trained from them.",
    )
    gate_metric: str = Field(default="ndcg@10", description="The primary metric: what a gain is measured in.")
    gate_min_queries: int = Field(default=50, ge=1, description="Fewer test queries: not enough evidence.")
    gate_significance: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="A permutation test's p-value must be below this; the gate's intervals are as sure.",
    )
    gate_min_improvement: float = Field(
        default=0.01,
        ge=0,
        description="A smaller mean gain does not matter, however certain: with thousands of queries almost "
        "any is.",
    )
    gate_max_slice_regression: float = Field(
        default=0.02, ge=0, description="No large slice may significantly lose more than this on average."
    )
    gate_slice_min_queries: int = Field(
        default=30, ge=1, description="A slice with fewer test queries is shown and decides nothing."
    )
    gate_slice_correction: Literal["none", "holm"] = Field(
        default="none",
        description="Of the many tests for harm in slices: none (each alarm counts) or holm (fewer false "
        "alarms, and harm that is missed).",
    )
    gate_max_general_regression: float = Field(
        default=0.005,
        ge=0,
        description="The general set may not lose more than this on average against the base, chance or not.",
    )
    general_min_queries: int = Field(
        default=50, ge=1, description="A general set with fewer queries cannot tell, and is replaced."
    )
    gate_floors: dict[str, float] = Field(
        default={"recall@100": 0.3},
        description="Metrics that a candidate may not be below, whatever it is compared with.",
    )
    interleaving_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the searches through the service and agents whose results are drafted from two "
        "models, once `honeloop interleave` has chosen the other; 0: none.",
    )
    interleaving_patience_ms: int = Field(
        default=200,
        ge=1,
        description="So long such a search waits for each step of the other model, at the most; then what "
        "serves answers alone.",
    )
    interleaving_min_searches: int = Field(
        default=100, ge=1, description="Fewer decided interleaved searches: not enough online evidence."
    )
    min_metric: float = Field(
        default=0.1, ge=0, le=1, description="Check: a candidate below this in the gate's metric is broken."
    )
    max_validation_drop: float = Field(
        default=0.05, ge=0, le=1, description="Check: what the best validation may lose against the base."
    )
