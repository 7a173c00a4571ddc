"""Meaning alone against what words and crowds count beside it, as searches rank, on judged queries held out.

    python -m assets_tests.benchmarks.hybrid_ranking --data DIRECTORY [--train] [--json FILE]

For each seed the judgements are parted as for `judged_learning`. What counts in the ranking is learned from
one side, for the base model's index, and the queries of the other are searched for: by meaning alone, with
words alone beside it at a customary weight, and under what was learned. With `--train` the default settings
train a model on the same side; its index is built and made to serve, and it takes over or learns what counts.

Everything goes the way of a search: the HNSW index, the pool of candidates, the first ten results.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from rich.table import Table

from assets_tests.benchmarks.experiments import Indexed, train
from assets_tests.benchmarks.judged import (
    OUTSIDE,
    Judged,
    Judgement,
    Metrics,
    begin,
    difference,
    judged_corpus,
    learn_from,
    mean,
    measure_searches,
    parser,
    shown,
)
from assets_tests.benchmarks.judged_learning import FOLD
from assets_tests.benchmarks.provenance import show, write_figures
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index, verified_index
from pipeline.promotion.deciding import promote
from pipeline.search.challenger import build_challenger
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.line import learn_ranking
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.terminal import TerminalProgress
from pipeline.workbench import Workbench

SHOWN = ("ndcg@10", "mrr@10", "recall@10")
WORDS_ALONE = Weights(0.15, 0.0)


def searched(bench: Workbench, held_out: list[Judgement], weights: Weights) -> Metrics:
    """The metrics of the held-out queries as the serving index answers them, under these weights."""
    model = bench.serving_model()
    with bench.db.connect() as connection:
        store_weights(connection, RankingWeights(model.version, weights, {"fingerprint": ""}))
    return measure_searches(bench, bench.encoder(model), held_out)


def let_serve(bench: Workbench) -> None:
    """Trains on what is imported, and lets the model serve, whatever the gate would say."""
    record = train(bench).record
    build_challenger(bench, record, bench.progress)
    promote(bench.db, bench.settings, record.version, "measured")
    index = verified_index(bench.db, record.version)
    assert index is not None
    flip(bench.db, index.index_version_id, actor="index", reasons=["measured"], settings=bench.settings)


def run(
    indexed: Indexed, data: Judged, seed: int, overrides: dict[str, str], *, with_training: bool
) -> dict[str, Any]:
    """The figures of one seed."""
    learning, held_out = data.sides(seed, FOLD)
    with indexed.experiment(**{**OUTSIDE, **overrides}, seed=seed) as bench:
        learned = learn_from(bench, learning)
        base = searched(bench, held_out, MEANING_ALONE)
        found = {
            "base": base,
            f"base, words at {WORDS_ALONE.words:g}": searched(bench, held_out, WORDS_ALONE),
            "base, as learned": searched(bench, held_out, learned.weights),
        }
        weights = {"base, as learned": learned}
        if with_training:
            let_serve(bench)
            taken = learn_ranking(bench, serving_index(bench.db), bench.progress, changed=False)
            found["fine-tuned"] = searched(bench, held_out, MEANING_ALONE)
            found["fine-tuned, as learned"] = searched(bench, held_out, taken.weights)
            weights["fine-tuned, as learned"] = taken
        return {
            "seed": seed,
            "queries": len(base),
            "arms": {
                arm: {
                    **{name: mean(metrics, name) for name in SHOWN},
                    "over base": asdict(difference(metrics, base, "ndcg@10", bench.settings)),
                }
                for arm, metrics in found.items()
            },
            "weights": {
                arm: {**each.weights._asdict(), "reason": each.evidence["reason"]}
                for arm, each in weights.items()
            },
        }


def table(figures: dict[str, Any]) -> Table:
    """A row for each arm: its differences to the base by seed, and their mean."""
    runs = figures["runs"]
    made = Table(title="Held-out queries as searches answer them: nDCG@10 over the base's meaning alone")
    for heading in ("", *(f"seed {each['seed']} ({each['queries']} queries)" for each in runs), "mean"):
        made.add_column(heading)
    for arm in runs[0]["arms"]:
        over = [each["arms"][arm]["over base"] for each in runs]
        made.add_row(
            arm,
            *map(shown, over),
            f"{statistics.mean(each['mean'] for each in over):+.4f}",
        )
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.add_argument("--train", action="store_true", help="Train and measure a model as well.")
    asked = arguments.parse_args()
    data, overrides, figures = begin(asked)
    with TerminalProgress() as progress, judged_corpus(data, asked.home, progress) as indexed:
        for seed in asked.seeds:
            found = run(indexed, data, seed, overrides, with_training=asked.train)
            figures["runs"].append(found)
            for arm, each in found["weights"].items():
                progress.note(f"Seed {seed}, {arm}: words {each['words']:g}, crowds {each['crowding']:g}.")
            write_figures(asked.json, figures)
    show(table(figures))


if __name__ == "__main__":
    main()
