"""Documentation → code of installed packages: a test set of functions that nothing was trained on.

Each query is what a function's documentation says it does; what is ranked is the functions of the set, with
their documentation cut out. Both are cut by the project's own extraction, so a query is what a pair of origin
`docstring` would ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository
from pipeline.errors import HoneloopError
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.ranking import RankedQuery, rank_items
from pipeline.progress import Progress
from pipeline.store.connections import Database, create_database
from pipeline.store.server import database_url
from pipeline.training.documentation_pairs import documentation_candidates
from pipeline.training.near_duplicates import NearDuplicates, tokens_of
from pipeline.training.pairs import Candidate
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

# All of them are here where the tests run, and none is a source that `honeloop run` begins with.
PACKAGES = ("accelerate", "datasets", "fastapi", "matplotlib", "mcp", "pydantic", "pytest")
EVERYTHING = 1_000_000


@dataclass(frozen=True)
class PackageTest:
    """Queries and the code that answers each; no two have the same query, or near-duplicate code."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]

    def measure(self, encoder: Encoder, progress: Progress) -> list[dict[str, float]]:
        """The metrics of each query, in order; each ranks all documents."""
        with progress.stage("Embedding the test functions", len(self.documents)) as advance:
            documents = encoder.embed_documents(self.documents, advance)
        wanted = [RankedQuery(((place,),)) for place in range(len(self.documents))]
        ranks = rank_items(wanted, encoder.embed_queries(self.queries), documents)
        return [query_metrics(found, 1) for found in ranks]


def all_documented(db: Database) -> list[Candidate]:
    """Every documented function that could make a pair, in a stable order; none twice."""
    unlimited = {f"max_{split}documentation_pairs": EVERYTHING for split in ("", "validation_", "test_")}
    with db.connect() as connection:
        found, _ = documentation_candidates(connection, Settings().model_copy(update=unlimited))
    return sorted(found, key=lambda each: hashlib.sha256(each.group_key + each.content_hash).digest())


def package_test(
    home: Path,
    progress: Progress,
    *,
    functions: int = 1000,
    packages: Sequence[str] = PACKAGES,
    trained_on: Iterable[str] = (),
) -> PackageTest:
    """Draws the test set, the same every time for the same installed versions.

    Args:
        home: Where the packages are extracted to; what is there already is not done again.
        progress: Told of what takes long.
        functions: How many, drawn by hash.
        packages: Installed distributions.
        trained_on: Code that a model may have learned from: no near-duplicate of it is drawn.

    Raises:
        HoneloopError: there are fewer functions.
    """
    server = Settings(home=home)
    create_database(server, "packages")
    settings = server.model_copy(update={"database_url": database_url(server, "packages")})
    bench = Workbench(settings)
    budget = bench.token_budget()
    for name in packages:
        repository = add_repository(bench.db, name, name, "distribution")
        extract_repository(bench.db, repository, settings, budget, progress)
    known: NearDuplicates[str] = NearDuplicates()
    for number, code in enumerate(trained_on):
        known.add(f"trained {number}", tokens_of(code))
    chosen: list[Candidate] = []
    asked: set[bytes] = set()
    for each in all_documented(bench.db):
        tokens = tokens_of(each.code)
        if each.group_key in asked or any(True for _ in known.of(tokens)):
            continue
        known.add(each.content_hash.hex(), tokens)
        asked.add(each.group_key)
        chosen.append(each)
        if len(chosen) == functions:
            return PackageTest(tuple(c.query for c in chosen), tuple(c.code for c in chosen))
    raise HoneloopError(f"There are {len(chosen)} documented functions, and {functions} are asked for.")
