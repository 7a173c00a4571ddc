"""What learning from judgements gains on queries held out: base, the plain recipe, and Honeloop's settings.

    python -m assets_tests.benchmarks.judged_learning --data DIRECTORY [--arms plain default …] [--json FILE]

For each seed the judgements are parted by the judged function (`judged.Judged.sides`): two thirds to learn
from, one third held out. The whole corpus is indexed and ranked. The plain recipe (`plain_recipe`) sees every
accepted judgement of its side; the other arms take the project's own way from import to checkpoint, with the
settings that `ARMS` gives. As what tests them stands outside, they hold back 1% for a test split of their
own instead of 20%; a tenth validates. Each model is ranked by meaning alone, and as searches rank: with what
words and crowds count for the base model, learned from the same judgements.

`--arm "NAME: SETTING=VALUE SETTING=VALUE"` tries others, with the settings' names in pipeline/settings.

What it said on CoSQA, with three seeds, stands in docs/learning.md.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    kept_home,
    named_arm,
    read_overrides,
    train,
)
from assets_tests.benchmarks.judged import (
    OUTSIDE,
    Judged,
    Metrics,
    corpus_vectors,
    difference,
    held_out_queries,
    import_judgements,
    index_judged,
    learned_weights,
    mean,
    measure,
    parser,
    read_judged,
    spread,
)
from assets_tests.benchmarks.plain_recipe import train_plainly
from assets_tests.benchmarks.provenance import provenance, write_figures
from pipeline.search.hybrid.fusion import Weights
from pipeline.terminal import TerminalProgress

SHOWN = ("ndcg@10", "mrr@10", "recall@10")
GOAL = 3.0
FOLD = 0
ONCE = {"recipe": "multiple-negatives"}
FEEDBACK_ONLY = {"max_documentation_pairs": "0"}
UNMINED = {"hard_negatives": "0"}
LARGE = {**UNMINED, "learning_rate": "1e-4", "train_epochs": "4"}
ARMS: dict[str, dict[str, str]] = {
    "default": {},
    "all pairs alone": ONCE,
    "no mined negatives": {**ONCE, **UNMINED},
    "feedback only": {**ONCE, **FEEDBACK_ONLY},
    "feedback only, no mined negatives": {**ONCE, **FEEDBACK_ONLY, **UNMINED},
    "feedback only, averaged, 3 epochs": {
        **FEEDBACK_ONLY,
        **UNMINED,
        "recipe": "averaged",
        "train_epochs": "3",
    },
    "feedback only, cached 256": {**FEEDBACK_ONLY, **LARGE, "recipe": "cached"},
    "feedback only, guided": {**FEEDBACK_ONLY, **UNMINED, "recipe": "guided"},
    "two stages": {**UNMINED, "recipe": "two-stage"},
    "two stages, cached 256": {**LARGE, "recipe": "cached+two-stage", "first_stage_epochs": "1"},
    "two stages, averaged": {**UNMINED, "recipe": "two-stage+averaged"},
}


@dataclass(frozen=True)
class Arm:
    """What an arm gave.

    Attributes:
        by_meaning: The metrics of every held-out query, ranked by the cosine alone.
        searched: The same, ranked as searches rank with what the base's index learned from the same side.
        told: How they came to be.
    """

    by_meaning: Metrics
    searched: Metrics
    told: dict[str, Any]


def run_arm(
    indexed: Indexed, data: Judged, arm: str, overrides: dict[str, str], *, weights: Weights, seed: int
) -> Arm:
    """Trains the arm's model on one side, and measures it on the other."""
    started = time.monotonic()
    learning, held_out = data.sides(seed, FOLD)
    with indexed.experiment(**{**OUTSIDE, **overrides}, seed=seed) as bench:
        asked = held_out_queries(bench.db, held_out)
        told: dict[str, Any] = {}
        if arm == "base":
            encoder = base_encoder(bench)
        elif arm == "plain":
            accepted = [
                (each.query, data.functions[each.function]) for each in learning if each.judgement == "accept"
            ]
            with tempfile.TemporaryDirectory(prefix="honeloop-plain-") as directory:
                encoder = train_plainly(base_encoder(bench), accepted, seed, Path(directory) / "m")
            told["pairs"] = len(accepted)
        else:
            import_judgements(bench, learning)
            trained = train(bench)
            told = {
                "stages": list(trained.account.stages),
                "best step": trained.account.best_step,
                "averaging": trained.account.averaging,
                "validation": trained.account.validation,
            }
            encoder = trained.encoder
        vectors = corpus_vectors(bench, encoder, asked.hashes)
        by_meaning = measure(bench, encoder, asked, vectors)
        searched = measure(bench, encoder, asked, vectors, weights)
    return Arm(by_meaning, searched, {**told, "seconds": round(time.monotonic() - started, 1)})


def table(figures: dict[str, Any]) -> Table:
    """A row for each arm: means over the seeds, their spread, and the gain against the plain recipe's."""
    made = Table(
        title=f"Held-out queries, mean over seeds ± standard deviation; goal: {GOAL:g} times plain's gain"
    )
    for heading in ("arm", *SHOWN, "nDCG@10 over base", "over plain's gain", "as searched", "seeds"):
        made.add_column(heading)
    gains = {arm: [run["over base"]["mean"] for run in runs] for arm, runs in figures["arms"].items()}
    plain = statistics.mean(gains["plain"]) if gains.get("plain") else None
    for arm, runs in figures["arms"].items():
        gain = statistics.mean(gains[arm])
        made.add_row(
            arm,
            *(spread([run[name] for run in runs], sign="") for name in SHOWN),
            "" if arm == "base" else spread(gains[arm]),
            f"{gain / plain:.2f}" if plain and arm != "base" else "",
            spread([run["searched over base"]["mean"] for run in runs]),
            str(len(runs)),
        )
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.add_argument("--arms", nargs="+", help=f"Of: plain, {', '.join(ARMS)}; by default all.")
    arguments.add_argument("--arm", action="append", default=[], help="Another one; see above.")
    asked = arguments.parse_args()
    shared, known = read_overrides(asked.set), {"plain": dict[str, str](), **ARMS}
    unknown = [name for name in asked.arms or () if name not in known]
    if unknown:
        arguments.error(f"{unknown[0]!r} is no arm; there are {', '.join(known)}.")
    chosen = {"base": dict[str, str]()} | {name: known[name] for name in asked.arms or known}
    chosen |= dict(map(named_arm, asked.arm))
    data = read_judged(asked.data, asked.corpus)
    figures: dict[str, Any] = {
        **provenance(
            asked.seeds, functions=len(data.functions), judgements=len(data.judgements), settings=shared
        ),
        "settings of arms": chosen,
        "arms": {},
    }
    with TerminalProgress() as progress, kept_home(asked.home) as home:
        indexed = index_judged(data, home, progress)
        for seed in asked.seeds:
            base: Metrics = []
            weights = learned_weights(indexed, data.sides(seed, FOLD)[0], seed)
            for arm, overrides in chosen.items():
                found = run_arm(indexed, data, arm, {**shared, **overrides}, weights=weights, seed=seed)
                base = base or found.by_meaning
                with indexed.experiment() as bench:
                    over, searched = (
                        difference(metrics, base, "ndcg@10", bench.settings)
                        for metrics in (found.by_meaning, found.searched)
                    )
                means = {name: mean(found.by_meaning, name) for name in SHOWN}
                figures["arms"].setdefault(arm, []).append(
                    {
                        "seed": seed,
                        "queries": len(base),
                        "weights": weights._asdict(),
                        **means,
                        "over base": asdict(over),
                        "searched over base": asdict(searched),
                        **found.told,
                    }
                )
                progress.note(
                    f"Seed {seed}, {arm}: nDCG@10 {means['ndcg@10']:.4f}, {over.mean:+.4f};"
                    f" as searched {searched.mean:+.4f}."
                )
                write_figures(asked.json, figures)
    Console().print(table(figures))


if __name__ == "__main__":
    main()
