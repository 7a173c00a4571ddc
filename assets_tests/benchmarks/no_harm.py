"""What learning from feedback does to code search in general: documentation → code, before and after.

    python -m assets_tests.benchmarks.no_harm --data DIRECTORY [--functions 1000] --json FILE

For each seed, a model learns from one side of the judgements, and is measured on two general sets. One is the
gate's: documentation of the indexed corpus that is held out of the training. The other is of installed
packages, which no training pair comes from (`package_documentation`). The goal: neither loses more than half
a point of nDCG@10 against the base.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    kept_home,
    train,
    verdict_on,
)
from assets_tests.benchmarks.judged import (
    Judged,
    Metrics,
    begin,
    difference,
    held_out_queries,
    import_judgements,
    index_judged,
    mean,
    measure,
    parser,
    shown,
    spread,
)
from assets_tests.benchmarks.nights import GENERAL
from assets_tests.benchmarks.package_documentation import PackageTest, package_test
from assets_tests.benchmarks.provenance import show, write_figures
from pipeline.terminal import TerminalProgress

SHOWN = ("ndcg@10", "mrr@10", "recall@10")
GOAL = 0.005


def run(
    indexed: Indexed,
    data: Judged,
    seed: int,
    *,
    overrides: dict[str, str],
    packages: PackageTest,
    base: Metrics,
) -> dict[str, Any]:
    """The figures of one seed, on fold 0."""
    learning, held_out = data.sides(seed, 0)
    with indexed.experiment(**overrides, seed=seed) as bench:
        import_judgements(bench, learning)
        trained = train(bench)
        verdict = verdict_on(bench, trained)
        asked = held_out_queries(bench.db, held_out)
        gained = difference(
            measure(bench, trained.encoder, asked),
            measure(bench, base_encoder(bench), asked),
            "ndcg@10",
            bench.settings,
        )
        general = packages.measure(trained.encoder, bench.progress)
        found = {each.about: each.difference for each in verdict.findings}.get(GENERAL)
        told: dict[str, Any] = {
            "seed": seed,
            "held out": asdict(gained),
            "general set of the gate": None if found is None else asdict(found),
            "packages": {name: asdict(difference(general, base, name, bench.settings)) for name in SHOWN},
            "decision": verdict.decision,
        }
        bench.progress.note(
            f"Seed {seed}: held out {gained.mean:+.4f}, packages {told['packages']['ndcg@10']['mean']:+.4f}."
        )
        return told


def table(figures: dict[str, Any]) -> Table:
    """A row for each seed, and one with the mean over them and its spread (standard deviation)."""
    made = Table(title=f"nDCG@10 over the base; at least {-GOAL:+.3f} is asked for on the general sets")
    for heading in ("seed", "held-out queries", "general set of the gate", "packages", "gate", "no harm"):
        made.add_column(heading)
    for each in figures["runs"]:
        gate, packages = each["general set of the gate"], each["packages"]["ndcg@10"]
        both = [packages] if gate is None else [packages, gate]
        made.add_row(
            str(each["seed"]),
            shown(each["held out"]),
            "" if gate is None else f"{shown(gate)}, {gate['count']} queries",
            f"{shown(packages)}, {packages['count']} queries",
            each["decision"],
            "yes" if all(one["mean"] >= -GOAL for one in both) else "no",
        )
    gate = [
        each["general set of the gate"]["mean"] for each in figures["runs"] if each["general set of the gate"]
    ]
    made.add_row(
        "mean",
        spread([each["held out"]["mean"] for each in figures["runs"]]),
        spread(gate) if gate else "",
        spread([each["packages"]["ndcg@10"]["mean"] for each in figures["runs"]]),
        "",
        "",
    )
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.add_argument("--functions", type=int, default=1000, help="Of packages.")
    asked = arguments.parse_args()
    data, overrides, figures = begin(asked)
    with TerminalProgress() as progress, kept_home(asked.home) as home:
        indexed = index_judged(data, home, progress)
        packages = package_test(home, progress, functions=asked.functions)
        with indexed.experiment() as bench:
            base = packages.measure(base_encoder(bench), progress)
        figures["base on packages"] = {name: mean(base, name) for name in SHOWN}
        for seed in asked.seeds:
            figures["runs"].append(
                run(indexed, data, seed, overrides=overrides, packages=packages, base=base)
            )
            write_figures(asked.json, figures)
    show(table(figures))


if __name__ == "__main__":
    main()
