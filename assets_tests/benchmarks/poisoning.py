"""People who accept wrong results: what the caps leave of it, what it does to the model, what the gate says.

    python -m assets_tests.benchmarks.poisoning --data DIRECTORY [--corpus 1500] [--attack pushed] --json FILE

A poisoner accepts wrong results for 5% of all feedback. Scenarios: nobody; one poisoner; twenty who make
those 5% together; twenty who each accept as many wrong results as the one does, about half of all feedback
then. The queries are honest people's own, so that a wrong answer stands beside the right one. Two attacks:

- scattered: for each query another function, drawn from ranks 11 to 100 of the base model: near, and wrong;
- pushed: the same function for every query, to make it the answer to everything.

Each scenario learns with the same settings and seed, and is measured on the same held-out queries, of which
nobody poisoned any. Test pairs of poisoners poison the gate's own test set too, as they would.

What came of it stands in docs/learning.md: 5% does no harm that could be measured, half of everything does,
and the gate lets none of those models serve. Scattered wrong accepts pass the caps, as each is within a
person's own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    train,
    verdict_on,
)
from assets_tests.benchmarks.judged import (
    Judged,
    Judgement,
    Metrics,
    begin,
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
    shown,
    spread,
)
from assets_tests.benchmarks.provenance import show, write_figures
from pipeline.evaluation.store import live_hashes
from pipeline.feedback.confidence import ACCEPT
from pipeline.feedback.grouping import group_key
from pipeline.feedback.pairs import FeedbackPair, feedback_pairs
from pipeline.terminal import TerminalProgress
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
    bench: Workbench,
    data: Judged,
    said: Mapping[str, Sequence[Judgement]],
    honest: Sequence[Judgement],
    held_out: Sequence[Judgement] | None,
) -> tuple[dict[str, Any], Metrics]:
    """The figures of one scenario, and its model's metrics; without `held_out` no model is trained."""
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
    settings = bench.settings
    told: dict[str, Any] = {
        "honest judgements": len(honest),
        "poisoned judgements": sum(map(len, said.values())),
        "feedback": weights(feedback_pairs(bench.db, settings).pairs, poisoned),
    }
    if held_out is None:
        return told, []
    base = base_encoder(bench)
    trained = train(bench)
    verdict = verdict_on(bench, trained)
    in_set = [pair for pair in trained.training_set.pairs if pair.origin == "feedback"]
    wrong = [pair for pair in in_set if (pair.group_key, pair.positive_hash) in poisoned]
    asked = held_out_queries(bench.db, held_out)
    before, after = (measure(bench, encoder, asked) for encoder in (base, trained.encoder))
    return told | {
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
    }, after


def all_scenarios(
    indexed: Indexed,
    data: Judged,
    scenarios: Sequence[Scenario],
    attack: str,
    *,
    seed: int,
    overrides: dict[str, str],
    training: bool,
) -> Iterator[dict[str, Any]]:
    """The scenarios of one seed; each but the first is compared with the first as well."""
    honest, held_out = data.sides(seed, 0)
    with indexed.experiment() as bench:
        wrong = wrong_answers(bench, honest, data)
    first: Metrics | None = None
    for scenario in scenarios:
        said = poison(scenario, honest, wrong, attack, seed)
        with indexed.experiment(**overrides, seed=seed) as bench:
            figures, metrics = run(bench, data, said, honest, held_out if training else None)
            told = {"scenario": scenario.name, "seed": seed, "attack": attack, **figures}
            if training:
                first = first or metrics
                over_first = difference(metrics, first, "ndcg@10", bench.settings)
                told["over first"] = asdict(over_first)
                bench.progress.note(
                    f"{scenario.name}, {attack}, seed {seed}: held-out nDCG@10 "
                    f"{figures['held out']['ndcg@10']:.4f}; gate: {figures['decision']}."
                )
        yield told


def table(runs: Sequence[dict[str, Any]]) -> Table:
    """A row for each scenario and seed; of those without training the first half.

    After the training of several seeds, a row for each scenario with the mean over them and its spread
    (standard deviation).
    """
    made = Table(title="accepting wrong results")
    for heading in (
        "scenario",
        "attack",
        "seed",
        "wrong of all feedback",
        "weight of wrong pairs, uncapped → capped",
    ):
        made.add_column(heading)
    learned = (
        "wrong pairs: train / validation / test",
        "held-out nDCG@10",
        "over base",
        f"over {runs[0]['scenario']} (95%)",
        "gate",
    )
    for heading in learned if "held out" in runs[0] else ():
        made.add_column(heading)
    for each in runs:
        feedback, bad = each["feedback"], each["poisoned judgements"]
        row = [
            each["scenario"],
            each["attack"],
            str(each["seed"]),
            f"{bad} of {bad + each['honest judgements']}",
            f"{feedback['poisoned weight without caps']:.1f} → {feedback['poisoned weight']:.1f}, "
            f"{feedback['poisoned share']:.1%} of all",
        ]
        if "held out" in each:
            wrong, over = each["training set"]["poisoned pairs"], each["over first"]
            row += [
                " / ".join(str(wrong.get(split, 0)) for split in ("train", "validation", "test")),
                f"{each['held out']['ndcg@10']:.4f}",
                f"{each['over base']['mean']:+.4f}",
                shown(over),
                each["decision"],
            ]
        made.add_row(*row)
    by_scenario: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in runs:
        if "held out" in each:
            by_scenario.setdefault((each["scenario"], each["attack"]), []).append(each)
    for (scenario, attack), some in by_scenario.items():
        if len(some) > 1:
            held_out, base, first = (
                [each[where][what] for each in some]
                for where, what in (("held out", "ndcg@10"), ("over base", "mean"), ("over first", "mean"))
            )
            means = (spread(held_out, sign=""), spread(base), spread(first))
            approved = sum(each["decision"] == "approved" for each in some)
            made.add_row(scenario, attack, "mean", "", "", "", *means, f"{approved} of {len(some)} approved")
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    names = [each.name for each in SCENARIOS]
    arguments.add_argument("--attack", nargs="+", choices=("scattered", "pushed"), default=["scattered"])
    arguments.add_argument("--scenarios", nargs="+", choices=names, default=names)
    arguments.add_argument(
        "--weights-only", action="store_true", help="What the caps leave, and nothing that takes training."
    )
    asked = arguments.parse_args()
    data, overrides, figures = begin(asked)
    with TerminalProgress() as progress, judged_corpus(data, asked.home, progress) as indexed:
        for seed in asked.seeds:
            for attack in asked.attack:
                for told in all_scenarios(
                    indexed,
                    data,
                    [each for each in SCENARIOS if each.name in asked.scenarios],
                    attack,
                    seed=seed,
                    overrides=overrides,
                    training=not asked.weights_only,
                ):
                    figures["runs"].append(told)
                    write_figures(asked.json, figures)
    show(table(figures["runs"]))


if __name__ == "__main__":
    main()
