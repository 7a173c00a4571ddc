"""Documentation → code of packages that gave no pair: base, the plain recipe, and Honeloop's settings.

    python -m assets_tests.benchmarks.unseen_packages [--arms plain default …] [--json FILE]

Trains on documentation of some installed distributions and tests on functions of others: each query is a
function's documentation, and what is ranked is those functions with their documentation cut out. The plain
recipe (`plain_recipe`) sees pairs drawn by the seed; the other arms take the project's own way from
extraction to checkpoint, with the settings that `ARMS` gives. The distributions tested give no training pair,
no validation pair and no mined negative, and no near-duplicate of code that was trained on is tested.

`--arm "NAME: SETTING=VALUE SETTING=VALUE"` tries others, with the settings' names in pipeline/settings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    index_sources,
    kept_home,
    named_arm,
    train,
)
from assets_tests.benchmarks.package_documentation import PackageTest, all_documented, package_test
from assets_tests.benchmarks.plain_recipe import train_plainly
from assets_tests.benchmarks.provenance import provenance, show, write_figures
from pipeline.config import Settings
from pipeline.evaluation.statistics import paired_difference
from pipeline.progress import Progress
from pipeline.terminal import TerminalProgress
from pipeline.workbench import Workbench

TRAINED_ON = ("networkx", "rich", "click")
SHOWN = ("mrr@10", "ndcg@10", "recall@10")
# All documentation there is, but for a twentieth that decides when to stop: what tests stands elsewhere.
ALL_PAIRS = {"max_documentation_pairs": "100000", "test_percent": "1", "validation_percent": "5"}
ARMS: dict[str, dict[str, str]] = {
    "default": {},
    "no hard negatives": {"hard_negatives": "0"},
    "all pairs": ALL_PAIRS,
    "all pairs, 2 epochs": {**ALL_PAIRS, "train_epochs": "2"},
    "all pairs, cached 256": {**ALL_PAIRS, "recipe": "cached", "learning_rate": "2e-4", "train_epochs": "2"},
    "all pairs, averaged": {**ALL_PAIRS, "recipe": "averaged", "learning_rate": "1e-4"},
}


def plain(bench: Workbench, seed: int, pairs: int, test: PackageTest) -> list[dict[str, float]]:
    """The plain recipe on `pairs` documentation pairs drawn by the seed."""
    found = [(each.query, each.text) for each in all_documented(bench.db)]
    drawn = np.random.default_rng(seed).permutation(len(found))[:pairs]
    with tempfile.TemporaryDirectory(prefix="honeloop-plain-") as directory:
        encoder = train_plainly(
            base_encoder(bench), [found[row] for row in drawn], seed, Path(directory) / "m"
        )
    return test.measure(encoder, bench.progress)


def run_arm(
    indexed: Indexed, arm: str, overrides: dict[str, str], seed: int, *, test: PackageTest, pairs: int
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The metrics of every query, and how they came to be."""
    started = time.monotonic()
    if arm == "plain":
        with indexed.experiment() as bench:
            metrics = plain(bench, seed, pairs, test)
        return metrics, {"pairs": pairs, "seconds": round(time.monotonic() - started, 1)}
    with indexed.experiment(**overrides, seed=seed) as bench:
        trained = train(bench)
        metrics = test.measure(trained.encoder, bench.progress)
    return metrics, {
        "pairs": len(trained.training_set.of("train")),
        "mined": sum(len(pair.negatives) for pair in trained.training_set.of("train")),
        "training_seconds": trained.account.seconds,
        "best_step": trained.account.best_step,
        "averaging": trained.account.averaging.get("share"),
        "seconds": round(time.monotonic() - started, 1),
    }


def measured(
    metrics: list[dict[str, float]], base: list[dict[str, float]], settings: Settings
) -> dict[str, Any]:
    """Means, and the differences to the base over the same queries."""
    found: dict[str, Any] = {}
    for name in SHOWN:
        difference = paired_difference(
            [each[name] for each in metrics],
            [each[name] for each in base],
            settings.bootstrap_resamples,
            settings.permutations,
            settings.seed,
        )
        found[name] = {
            "mean": float(np.mean([each[name] for each in metrics])),
            "gain": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "p": difference.permutation_p,
        }
    return found


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds: mean and spread (standard deviation; 0 for one seed) of each metric and of its gain."""
    found: dict[str, Any] = {}
    for name in SHOWN:
        for what in ("mean", "gain"):
            values = [run["metrics"][name][what] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            found.setdefault(name, {})[what] = {"mean": statistics.fmean(values), "spread": spread}
    return found


def table(figures: dict[str, Any]) -> Table:
    """All arms, with the gain over the base and how many times the plain recipe's that is."""
    made = Table(title="documentation → code of packages that gave no pair; spread over seeds")
    for heading in ("arm", "pairs", "seeds", *SHOWN, "gain in nDCG@10", "times plain"):
        made.add_column(heading, justify="left" if heading == "arm" else "right")
    base = figures["base"]
    made.add_row("base", "", "", *(f"{base[name]:.4f}" for name in SHOWN), "", "")
    plain_gain = figures["summary"].get("plain", {}).get("ndcg@10", {}).get("gain", {}).get("mean")
    for arm, found in figures["summary"].items():
        runs = figures["runs"][arm]
        gain = found["ndcg@10"]["gain"]
        made.add_row(
            arm,
            f"{runs[0]['made']['pairs']:,}",
            str(len(runs)),
            *(f"{found[name]['mean']['mean']:.4f} ± {found[name]['mean']['spread']:.4f}" for name in SHOWN),
            f"{gain['mean']:+.4f} ± {gain['spread']:.4f}",
            "" if not plain_gain else f"{gain['mean'] / plain_gain:.2f}",
        )
    return made


def compare_arms(
    arms: dict[str, dict[str, str]],
    seeds: Sequence[int],
    home: Path | None,
    progress: Progress,
    *,
    functions: int,
    pairs: int,
    trained_on: Sequence[str] = TRAINED_ON,
    file: Path | None = None,
) -> dict[str, Any]:
    """Every arm with every seed; the figures so far are written after each run."""
    with kept_home(home) as kept:
        indexed = index_sources(kept, {name: (name, "distribution") for name in trained_on}, progress)
        with indexed.experiment() as bench:
            settings = bench.settings
            code = [each.code for each in all_documented(bench.db)]
            test = package_test(kept, progress, functions=functions, trained_on=code)
            base = test.measure(base_encoder(bench), progress)
        figures: dict[str, Any] = {
            **provenance(seeds, trained_on=trained_on, functions=functions, arms=arms),
            "documented": len(code),
            "base": {name: float(np.mean([each[name] for each in base])) for name in SHOWN},
            "runs": {},
            "summary": {},
        }
        for seed in seeds:
            for arm, overrides in arms.items():
                metrics, made = run_arm(indexed, arm, overrides, seed, test=test, pairs=pairs)
                run: dict[str, Any] = {
                    "seed": seed,
                    "made": made,
                    "metrics": measured(metrics, base, settings),
                }
                figures["runs"].setdefault(arm, []).append(run)
                figures["summary"][arm] = summary(figures["runs"][arm])
                gain = run["metrics"]["ndcg@10"]
                progress.note(
                    f"{arm}, seed {seed}: nDCG@10 {gain['mean']:.4f}, {gain['gain']:+.4f} over the base "
                    f"({gain['low']:+.4f} to {gain['high']:+.4f}), {made['seconds']:.0f} s."
                )
                write_figures(file, figures)
        return figures


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ("plain", *ARMS)
    parser.add_argument("--arms", nargs="*", choices=known, default=["plain", "default"], help="Which.")
    parser.add_argument("--arm", action="append", default=[], help='Another: "NAME: SETTING=VALUE …".')
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19])
    parser.add_argument("--functions", type=int, default=1000, help="Tested, of other packages.")
    parser.add_argument("--pairs", type=int, default=2000, help="Of the plain recipe, at the most.")
    parser.add_argument("--trained-on", nargs="+", default=TRAINED_ON, help="Installed distributions.")
    parser.add_argument("--home", type=Path, help="Keeps index and checkpoints there; else temporary.")
    parser.add_argument("--json", type=Path, help="A file for the figures.")
    asked = parser.parse_args()
    arms = {name: ARMS.get(name, {}) for name in asked.arms} | dict(map(named_arm, asked.arm))
    with TerminalProgress() as progress:
        figures = compare_arms(
            arms,
            asked.seeds,
            asked.home,
            progress,
            functions=asked.functions,
            pairs=asked.pairs,
            trained_on=tuple(asked.trained_on),
            file=asked.json,
        )
    show(table(figures))


if __name__ == "__main__":
    main()
