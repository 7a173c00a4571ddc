"""What a run of the loop did, as data that can be sent from the process that ran it to the one that asked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.defs.failing import Failure

# The name under which a run of the job whole_loop says what it did.
RESULT = "result"
# Metadata longer than this is for reading in the web page: tables, pictures, manifests.
LONGEST_SENT = 500


@dataclass
class RunResult:
    """What a run of the loop did: the metadata of what was materialized, as plain values, and what failed.

    Attributes:
        sources: By repository: the metadata of `snippets` and `snippet_embeddings`.
        index: The metadata of `search_index` after the last build; empty if there was none.
        training: By asset, from `training_set` to `promoted_model`.
        problems: Lines about what was left out, which did not stop the run.
        failures: What stopped it, or a part of it.
        examples: Queries whose results a promotion changed: the query, the results before, and after. Dagster
            keeps them; whoever is forgotten is found there under this name (feedback/forgetting_runs.py).
        run_ids: The Dagster runs, in order.
    """

    sources: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    index: dict[str, Any] = field(default_factory=dict[str, Any])
    training: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    problems: list[str] = field(default_factory=list[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    examples: list[tuple[str, list[str], list[str]]] = field(
        default_factory=list[tuple[str, list[str], list[str]]]
    )
    run_ids: list[str] = field(default_factory=list[str])

    def raise_for_failure(self) -> None:
        """Raises the first failure as a HoneloopError."""
        if self.failures:
            raise self.failures[0].error()

    def to_json(self) -> dict[str, Any]:
        """Without the metadata that only the web page shows."""
        return {
            **asdict(self),
            "sources": {name: _short(entry) for name, entry in self.sources.items()},
            "index": _short(self.index),
            "training": {asset: _short(entry) for asset, entry in self.training.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunResult":
        """The inverse of `to_json`."""
        return cls(
            sources=content["sources"],
            index=content["index"],
            training=content["training"],
            problems=content["problems"],
            failures=[Failure(**each) for each in content["failures"]],
            examples=[(query, before, after) for query, before, after in content["examples"]],
            run_ids=content["run_ids"],
        )


def _short(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and names, and what `--json` shows of a training set."""
    return {
        key: value
        for key, value in metadata.items()
        if key == "counts"
        or value is None
        or isinstance(value, (bool, int, float))
        or (isinstance(value, str) and len(value) <= LONGEST_SENT)
    }
