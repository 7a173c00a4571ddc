"""Meaning alone against meaning and words, at fixed weights and at the learned one, on judged queries.

Run: `python -m assets_tests.benchmarks.hybrid_ranking --judged DIRECTORY`: the functions there are indexed
(`judged`), two thirds of the judgements are imported, and the accepted queries of the rest are asked. Or
`--queries held_out.jsonl`, as for `honeloop evaluate`, with HONELOOP_HOME where a corpus is indexed and other
judgements are imported. Every model version whose index still stands is measured as it would serve. The
learned weight is learned here from the judgements in that database; the queries asked must not be among them
to prove anything.

Measured on CoSQA's judgements (6,267 functions, base MiniLM, 276 accepted queries held out, nDCG@10): meaning
alone 0.597; words at 0.1 0.600, at 0.2 0.604, at 0.3 0.616, at 0.5 0.605, words alone 0.398. On the 477
queries to learn from, the weight chosen by cross-validation changed it by +0.003 (-0.009 to +0.017): that is
no proof, so the learned weight is 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from assets_tests.benchmarks.judged import (
    REPOSITORY,
    import_judgements,
    judged_corpus,
    read_judged,
)
from pipeline.config import load_settings
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.query_lines import RelevantItem, read_queries
from pipeline.evaluation.statistics import paired_bootstrap
from pipeline.index.flipping import rollback
from pipeline.index.serving import ServingIndex, index_counts, serving_index
from pipeline.progress import Silent
from pipeline.search.filters import Filters
from pipeline.search.hybrid.candidates import Candidate, find_candidates
from pipeline.search.hybrid.fusion import fused
from pipeline.search.hybrid.learning import GRID, learn_weight
from pipeline.store.connections import Connection
from pipeline.terminal import TerminalProgress
from pipeline.training.training_set import build_training_set
from pipeline.workbench import Workbench

SEED = 17
SHOWN = ("ndcg@10", "mrr@10", "recall@10")


def contents_of(connection: Connection, item: RelevantItem) -> set[bytes]:
    """The contents that an entry of the file means."""
    rows = connection.execute(
        "SELECT s.content_hash FROM snippets s JOIN repositories r ON r.id = s.repository_id"
        " WHERE r.name = %s AND s.path = %s AND s.vanished_at IS NULL"
        " AND (%s::text IS NULL OR regexp_replace(s.symbol, '@[0-9]+$', '') = %s)",
        [item.repository, item.path, item.symbol, item.symbol],
    )
    return {content_hash for (content_hash,) in rows}


def metrics(candidates: Sequence[Candidate], weight: float, items: Sequence[set[bytes]]) -> dict[str, float]:
    """Of one query; an item is hit at its best content, and its others leave the ranking."""
    order = np.argsort(-fused(candidates, weight), kind="stable")
    ranks: list[int] = []
    open_items = list(items)
    rank = 0
    passed: set[bytes] = set()
    for position in order:
        key = candidates[position].content_hash
        if key in passed:
            continue
        rank += 1
        for item in [item for item in open_items if key in item]:
            open_items.remove(item)
            passed |= item
            ranks.append(rank)
            break
    return query_metrics(ranks, len(items))


def measure(bench: Workbench, serving: ServingIndex, file: Path, learned: float) -> dict[str, Any]:
    encoder = bench.encoder(bench.model(serving.model_version))
    read, _ = read_queries(file)
    by_weight: dict[float, list[dict[str, float]]] = defaultdict(list)
    weights = sorted({*GRID, learned, 1.0})
    with bench.db.connect() as connection:
        asked = [(each.query, [contents_of(connection, item) for item in each.relevant]) for each in read]
        asked = [(query, [item for item in items if item]) for query, items in asked]
        asked = [(query, items) for query, items in asked if items]
        vectors = encoder.embed_queries([query for query, _ in asked])
        for (query, items), vector in zip(asked, vectors, strict=True):
            candidates = find_candidates(
                connection, serving, vector, query, k=10, filters=Filters(), ef_search=serving.ef_search
            )
            for weight in weights:
                by_weight[weight].append(metrics(candidates, weight, items))
    settings = bench.settings
    alone = [each["ndcg@10"] for each in by_weight[0.0]]
    return {
        "queries": len(asked),
        "learned_weight": learned,
        "by_weight": {
            f"{weight:g}": {
                **{name: round(float(np.mean([each[name] for each in found])), 4) for name in SHOWN},
                "ndcg@10 against 0": asdict(
                    paired_bootstrap(
                        [each["ndcg@10"] for each in found],
                        alone,
                        settings.bootstrap_resamples,
                        settings.seed,
                    )
                ),
            }
            for weight, found in by_weight.items()
        },
    }


def show(name: str, found: dict[str, Any], evidence: dict[str, Any]) -> None:
    print(f"\n{name}: {found['queries']} queries; learned: {evidence['reason']}")
    for weight, values in found["by_weight"].items():
        difference = values["ndcg@10 against 0"]
        print(
            f"  weight {weight:>5}  "
            + "  ".join(f"{metric} {values[metric]:.4f}" for metric in SHOWN)
            + f"  nDCG@10 {difference['mean']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
            + ("  <- learned" if float(weight) == found["learned_weight"] else "")
        )


@contextmanager
def judged_bench(directory: Path, home: Path | None) -> Generator[tuple[Workbench, Path]]:
    """A workbench with two thirds of the judgements imported, and the file of the held-out queries.

    Args:
        directory: See `judged.read_judged`.
        home: Where the index is kept; None: in a temporary place.
    """
    data = read_judged(directory)
    learning, held_out = data.sides(SEED, 0)
    accepted: dict[str, list[dict[str, str]]] = defaultdict(list)
    for each in held_out:
        if each.judgement == "accept":
            accepted[each.query].append({"repository": REPOSITORY, "path": each.path})
    with (
        TerminalProgress() as progress,
        judged_corpus(data, home, progress) as corpus,
        corpus.experiment() as bench,
        tempfile.TemporaryDirectory(prefix="honeloop-judged-") as scratch,
    ):
        import_judgements(bench, learning)
        # What the words may be learned from is what no model was trained on: the set says which that is.
        build_training_set(bench.db, bench.encoder(bench.base_model()), bench.settings, progress)
        file = Path(scratch) / "held_out.jsonl"
        lines = [json.dumps({"query": query, "relevant": places}) for query, places in accepted.items()]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield bench, file


def compare(bench: Workbench, queries: Path, figures: Path | None) -> None:
    """Measures and shows every model version whose index stands."""
    standing = {
        each.index_version_id for each in index_counts(bench.db) if each.state in ("serving", "retired")
    }
    results: dict[str, Any] = {}
    while True:
        serving = serving_index(bench.db)
        model = bench.model(serving.model_version)
        weight = learn_weight(bench.db, bench.encoder(model), bench.settings, Silent())
        found = measure(bench, serving, queries, weight.weight)
        results[model.name] = {"model_version": model.version, "evidence": weight.evidence, **found}
        show(
            f"{model.name} ({model.version[:12]}), index version {serving.index_version_id}",
            found,
            weight.evidence,
        )
        standing.discard(serving.index_version_id)
        if not standing:
            break
        if rollback(bench.db, reasons=["benchmark"]).index_version_id not in standing:
            break
    if figures is not None:
        figures.write_text(json.dumps(results, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description="Hybrid ranking against meaning alone.")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--judged", type=Path, help="A directory with corpus.jsonl and feedback.jsonl.")
    given.add_argument("--queries", type=Path, help="Judged queries, one JSON object a line.")
    parser.add_argument("--home", type=Path, help="With --judged: keeps the index there; else temporary.")
    parser.add_argument("--json", type=Path, help="Where to write the figures.")
    asked = parser.parse_args()
    if asked.judged is None:
        compare(Workbench(load_settings()), asked.queries, asked.json)
    else:
        with judged_bench(asked.judged, asked.home) as (bench, queries):
            compare(bench, queries, asked.json)


if __name__ == "__main__":
    main()
