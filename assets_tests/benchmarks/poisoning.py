"""People who accept wrong results: what the caps leave of it, what it does to the model, what the gate says.

    python -m assets_tests.benchmarks.poisoning --data DIRECTORY [--corpus 1500] [--attack pushed] --json FILE

A poisoner accepts wrong results for 5% of all feedback. Scenarios: nobody; one poisoner; twenty who make
those 5% together; twenty who each accept as many wrong results as the one does, about half of all feedback
then. The queries are honest people's own, so that a wrong answer stands beside the right one. Two attacks:

- scattered: for each query another function, drawn from ranks 11 to 100 of the base model: near, and wrong;
- pushed: the same function for every query, to make it the answer to everything.

Each scenario learns with the same settings and seed, and is measured on the same held-out queries, of which
nobody poisoned any. Test pairs of poisoners poison the gate's own test set too, as they would.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    read_overrides,
    train,
    verdict_on,
)
from assets_tests.benchmarks.judged import (
    HeldOut,
    Judged,
    Judgement,
    Metrics,
    contents_of_files,
    corpus_vectors,
    difference,
    held_out_queries,
    honest_user,
    import_judgements,
    judged_corpus,
    mean,
    measure,
    parser,
    read_judged,
)
from assets_tests.benchmarks.provenance import provenance, write_figures
from pipeline.evaluation.store import live_hashes
from pipeline.feedback.confidence import ACCEPT
from pipeline.feedback.grouping import group_key
from pipeline.feedback.pairs import FeedbackPair, feedback_pairs
from pipeline.progress import Progress
from pipeline.terminal import TerminalProgress
from pipeline.training.training_set import build_training_set
from pipeline.workbench import Workbench

SHARE = 0.05
POISONERS = 20
RANKS = slice(10, 100)
SHOWN = ("ndcg@10", "mrr@10", "recall@10")


@dataclass(frozen=True)
class Scenario:
    """How many poison, and whether they share the 5% or give them each."""

    name: str
    poisoners: int
    each: bool


SCENARIOS = (
    Scenario("clean", 0, each=False),
    Scenario("1 poisoner, 5%", 1, each=False),
    Scenario(f"{POISONERS} poisoners, 5% together", POISONERS, each=False),
    Scenario(f"{POISONERS} poisoners, as much each", POISONERS, each=True),
)


def poison(
    scenario: Scenario, honest: Sequence[Judgement], wrong: dict[str, list[int]], attack: str, seed: int
) -> dict[str, list[Judgement]]:
    """What each poisoner accepts: so much that it is `SHARE` of all feedback, theirs included.

    Args:
        scenario: Who.
        honest: What the others said.
        wrong: For each query, functions that do not answer it.
        attack: "scattered" or "pushed".
        seed: Draws queries and functions.
    """
    total = round(len(honest) * SHARE / (1 - SHARE))
    drawn = random.Random(seed)
    queries = sorted(wrong)
    pushed = drawn.choice(sorted({number for numbers in wrong.values() for number in numbers}))
    shared = drawn.sample(queries, total)
    found: dict[str, list[Judgement]] = {}
    for number in range(scenario.poisoners):
        own = drawn.sample(queries, total) if scenario.each else shared[number :: scenario.poisoners]
        found[f"poisoner {number}"] = [
            Judgement(query, pushed if attack == "pushed" else drawn.choice(wrong[query]), "accept")
            for query in own
        ]
    return found


def wrong_answers(bench: Workbench, honest: Sequence[Judgement], data: Judged) -> dict[str, list[int]]:
    """For each honest query the functions at ranks 11 to 100 of the base, without what was judged for it."""
    encoder = base_encoder(bench)
    hashes = live_hashes(bench.db)
    vectors = corpus_vectors(bench, encoder, hashes)
    owner = {
        content: number
        for number, contents in contents_of_files(bench.db, data.functions).items()
        for content in contents
    }
    judged: dict[str, set[int]] = {}
    for each in honest:
        judged.setdefault(each.query, set()).add(each.function)
    queries = sorted(judged)
    order = np.argsort(-(encoder.embed_queries(queries) @ vectors.T), axis=1, kind="stable")[:, RANKS]
    return {
        query: sorted({owner[hashes[row]] for row in rows} - judged[query])
        for query, rows in zip(queries, order, strict=True)
    }


def weights(pairs: Sequence[FeedbackPair], poisoned: frozenset[tuple[bytes, bytes]]) -> dict[str, Any]:
    """How many pairs there are of either kind, and what they weigh after the caps."""
    wrong = [pair for pair in pairs if (pair.group_key, pair.content_hash) in poisoned]
    total, of_wrong = sum(pair.weight for pair in pairs), sum(pair.weight for pair in wrong)
    return {
        "pairs": len(pairs),
        "poisoned pairs": len(wrong),
        "weight": total,
        "poisoned weight": of_wrong,
        "poisoned weight without caps": ACCEPT * len(wrong),
        "poisoned share": of_wrong / total,
    }


def run(
    indexed: Indexed,
    data: Judged,
    scenario: Scenario,
    attack: str,
    *,
    seed: int,
    overrides: dict[str, str],
) -> tuple[dict[str, Any], Metrics, Metrics]:
    """One scenario: the figures, and the metrics of model and base."""
    honest, held_out = data.sides(seed, 0)
    with indexed.experiment(**overrides, seed=seed) as bench:
        said = poison(scenario, honest, wrong_answers(bench, honest, data), attack, seed)
        import_judgements(bench, honest, honest_user)
        for name, judgements in said.items():
            import_judgements(bench, judgements, lambda _, name=name: name)
        contents = contents_of_files(bench.db, data.functions)
        poisoned = frozenset(
            (group_key(each.query), content)
            for judgements in said.values()
            for each in judgements
            for content in contents[each.function]
        )
        settings, base = bench.settings, base_encoder(bench)
        found = weights(feedback_pairs(bench.db, settings).pairs, poisoned)
        training_set = build_training_set(bench.db, base, settings, bench.progress)
        in_set = [p for p in training_set.pairs if p.origin == "feedback"]
        wrong = [p for p in in_set if (p.group_key, p.positive_hash) in poisoned]
        trained = train(bench, training_set)
        verdict = verdict_on(bench, trained)
        asked: HeldOut = held_out_queries(bench.db, held_out)
        before = measure(bench, base, asked)
        after = measure(bench, trained.encoder, asked)
        return (
            {
                "scenario": scenario.name,
                "honest judgements": len(honest),
                "poisoned judgements": sum(map(len, said.values())),
                "feedback": found,
                "training set": {
                    "feedback pairs": dict(Counter(pair.split for pair in in_set)),
                    "poisoned pairs": dict(Counter(pair.split for pair in wrong)),
                },
                "queries": len(asked.queries),
                "corpus": len(asked.hashes),
                "base": {name: mean(before, name) for name in SHOWN},
                "held out": {name: mean(after, name) for name in SHOWN},
                "over base": asdict(difference(after, before, "ndcg@10", settings)),
                "decision": verdict.decision,
                "reasons": list(verdict.reasons),
            },
            after,
            before,
        )


def all_scenarios(
    indexed: Indexed,
    data: Judged,
    names: Sequence[str],
    attack: str,
    *,
    seed: int,
    overrides: dict[str, str],
    progress: Progress,
) -> list[dict[str, Any]]:
    """All scenarios of one seed; each but the first is compared with the first as well."""
    told: list[dict[str, Any]] = []
    clean: Metrics | None = None
    for scenario in SCENARIOS:
        if scenario.name not in names:
            continue
        figures, after, _ = run(indexed, data, scenario, attack, seed=seed, overrides=overrides)
        if clean is None:
            clean = after
        with indexed.experiment() as bench:
            over_clean = difference(after, clean, "ndcg@10", bench.settings)
        told.append({"seed": seed, "attack": attack, **figures, "over clean": asdict(over_clean)})
        progress.note(
            f"{scenario.name}, {attack}, seed {seed}: held-out nDCG@10 {figures['held out']['ndcg@10']:.4f} "
            f"({over_clean.mean:+.4f} against clean); gate: {figures['decision']}."
        )
    return told


def table(runs: Sequence[dict[str, Any]]) -> Table:
    """A row for each scenario and seed."""
    made = Table(title=f"accepting wrong results: {runs[0]['queries']} held-out queries")
    for heading in (
        "scenario",
        "attack",
        "seed",
        "wrong of all feedback",
        "wrong pairs: train / validation / test",
        "weight of wrong pairs: before → after caps",
        "held-out nDCG@10",
        "over base",
        "over clean (95%)",
        "gate",
    ):
        made.add_column(heading)
    for each in runs:
        wrong, feedback = each["training set"]["poisoned pairs"], each["feedback"]
        bad, over = each["poisoned judgements"], each["over clean"]
        made.add_row(
            each["scenario"],
            each["attack"],
            str(each["seed"]),
            f"{bad} of {bad + each['honest judgements']}",
            " / ".join(str(wrong.get(split, 0)) for split in ("train", "validation", "test")),
            f"{feedback['poisoned weight without caps']:.1f} → {feedback['poisoned weight']:.1f} "
            f"({feedback['poisoned share']:.1%} of all)",
            f"{each['held out']['ndcg@10']:.4f}",
            f"{each['over base']['mean']:+.4f}",
            f"{over['mean']:+.4f} ({over['low']:+.4f} to {over['high']:+.4f})",
            each["decision"],
        )
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.set_defaults(seeds=[17])
    names = [each.name for each in SCENARIOS]
    arguments.add_argument("--attack", nargs="+", choices=("scattered", "pushed"), default=["scattered"])
    arguments.add_argument("--scenarios", nargs="+", choices=names, default=names)
    asked = arguments.parse_args()
    overrides = read_overrides(asked.set)
    data = read_judged(asked.data, asked.corpus)
    figures: dict[str, Any] = {
        **provenance(asked.seeds, functions=len(data.functions), settings=overrides),
        "runs": [],
    }
    with TerminalProgress() as progress, judged_corpus(data, asked.home, progress) as indexed:
        for seed in asked.seeds:
            for attack in asked.attack:
                figures["runs"] += all_scenarios(
                    indexed, data, asked.scenarios, attack, seed=seed, overrides=overrides, progress=progress
                )
                write_figures(asked.json, figures)
    Console().print(table(figures["runs"]))


if __name__ == "__main__":
    main()
