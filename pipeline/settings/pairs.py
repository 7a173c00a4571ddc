"""What becomes a training pair, how much it counts, and its mined negatives."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class PairSettings(BaseSettings):
    """What becomes a training pair, how much it counts, and its mined negatives."""

    min_pairs: int = Field(default=100, ge=1, description="Fewer real pairs than this: training fails.")
    positive_confidence: float = Field(default=0.7, ge=0, le=1, description="A positive is above this.")
    imported_click_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="An imported click has no rank: it counts as one at ranks 4–6, which makes no positive. "
        "Set 0.8 when the export holds clicks at ranks 1–3 only.",
    )
    max_user_pairs_per_snippet: int = Field(
        default=1,
        ge=1,
        description="How often one person's repeated judgement of a snippet for the same query counts.",
    )
    max_user_share: float = Field(default=0.5, gt=0, le=1, description="Cap of one person on all feedback.")
    max_user_snippet_weight: float = Field(
        default=5.0,
        gt=0,
        description="What one person's pairs of one snippet weigh together, at the most, whatever they "
        "asked; those without a name count as one person here.",
    )
    max_rejected_per_pair: int = Field(
        default=8, ge=1, description="Rejected snippets that a pair takes as negatives, at the most."
    )
    propensity_max_rank: int = Field(
        default=10,
        ge=2,
        le=100,
        description="Down to here the data are asked how likely a rank is looked at.",
    )
    propensity_min_ranks: int = Field(
        default=6, ge=2, le=100, description="Clicks are corrected by it once it is known to this rank."
    )
    propensity_min_clicks: int = Field(
        default=200,
        ge=1,
        description="That needs so many chosen snippets per rank that stood at another rank, too.",
    )
    max_propensity_correction: float = Field(
        default=5.0, ge=1, description="A click stands for so many that were never made, at the most."
    )
    search_retention_days: int = Field(
        default=180, ge=1, description="Searches older than this are deleted, or lose their names if judged."
    )
    max_documentation_pairs: int = Field(
        default=1500, ge=0, description="Training pairs taken from documentation, at the most."
    )
    documentation_weight: float = Field(
        default=0.95, gt=0, le=1, description="Weight of a documentation pair; an accepted snippet has 0.95."
    )
    max_test_documentation_pairs: int = Field(default=500, ge=1, description="Likewise to test.")
    max_validation_documentation_pairs: int = Field(default=200, ge=1, description="Likewise to validate.")
    max_commits: int = Field(
        default=2000,
        ge=0,
        description="Newest commits of a git repository that are looked at for pairs; what was found stays.",
    )
    max_commit_functions: int = Field(
        default=3, ge=1, description="A commit that changes more functions says little about each of them."
    )
    max_commit_files: int = Field(
        default=20, ge=1, description="A commit that touches more files is a bulk change."
    )
    min_commit_change: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of a long function that a commit has to have changed; less is a detail of it.",
    )
    min_commit_likeness: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="How like what the commit left a function still has to be; else the message is outdated.",
    )
    commit_weight: float = Field(
        default=0.5,
        gt=0,
        le=0.7,
        description="Weight of a commit, shared by its functions; feedback that makes a pair has more.",
    )
    max_commit_pairs: int = Field(
        default=1000, ge=0, description="Training pairs taken from commits, at the most."
    )
    max_test_commit_pairs: int = Field(default=200, ge=0, description="Likewise to test.")
    max_validation_commit_pairs: int = Field(default=100, ge=0, description="Likewise to validate.")
    validation_percent: int = Field(
        default=10, ge=1, le=45, description="Share of the queries that decides when to stop."
    )
    test_percent: int = Field(
        default=20, ge=1, le=45, description="Share of the queries that the gate looks at; the rest trains."
    )
    hard_negatives: int = Field(default=1, ge=0, le=8, description="Mined negatives per pair.")
    hard_negative_max_ratio: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="A mined negative scores below this share of its positive's score: a false negative "
        "hurts more than a hard one helps.",
    )
    hard_negative_pool: int = Field(default=50, ge=1, description="Nearest neighbours looked at per query.")
