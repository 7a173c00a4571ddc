"""Ten nights on real judgements that arrive in ten portions: what serves each night, on held-out queries.

    python -m assets_tests.benchmarks.nights --data DIRECTORY [--corpus 1500] --json FILE

Each night imports the next portion of the judgements of one side and runs the whole loop as `honeloop run`
does: training set, fine-tuning, checkpoint, evaluation, gate and, only if the gate approves, promotion and
index. What then serves is measured on the held-out queries, of which neither the training nor the gate knows
anything: the model over the whole corpus, exactly, and "as searched", by the index that serves and with the
weight that words have in the ranking, which is learned each night as well. `notebooks/nights.ipynb` draws the
file.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from assets_tests.benchmarks.experiments import Indexed, base_encoder
from assets_tests.benchmarks.judged import (
    HeldOut,
    Judged,
    Judgement,
    Metrics,
    begin,
    corpus_vectors,
    difference,
    held_out_queries,
    import_judgements,
    judged_corpus,
    mean,
    measure,
    measure_searches,
    parser,
    shown,
    spread,
)
from assets_tests.benchmarks.provenance import show, write_figures
from pipeline.defs.in_process import run_loop
from pipeline.defs.results import RunResult
from pipeline.index.serving import serving_index
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.verdict import Verdict
from pipeline.terminal import TerminalProgress
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

NIGHTS = 10
SHOWN = ("ndcg@10", "mrr@10", "recall@10")
GENERAL = "general set over base"


def portions(judgements: Sequence[Judgement], seed: int, count: int) -> list[list[Judgement]]:
    """The judgements in an order drawn by the seed, dealt into `count` equal portions."""
    mixed = list(judgements)
    random.Random(seed).shuffle(mixed)
    return [mixed[len(mixed) * i // count : len(mixed) * (i + 1) // count] for i in range(count)]


def one_night(bench: Workbench, portion: Sequence[Judgement]) -> RunResult:
    """Imports the portion and runs the loop."""
    import_judgements(bench, portion)
    return run_loop(bench.settings, bench.progress)


def candidate_of(bench: Workbench, result: RunResult) -> tuple[ModelRecord, Verdict] | None:
    """The night's candidate and the gate's verdict on it, if it came so far."""
    decided = result.training.get("promoted_model")
    if decided is None:
        return None
    record = bench.model(str(decided["model_version"]))
    return record, Verdict.from_json(record.metrics["verdict"])


def on_held_out(bench: Workbench, metrics: Metrics, base: Metrics) -> dict[str, Any]:
    """Means, and the difference of nDCG@10 to the base."""
    return {
        **{name: mean(metrics, name) for name in SHOWN},
        "over base": asdict(difference(metrics, base, "ndcg@10", bench.settings)),
    }


def account(
    bench: Workbench, result: RunResult, held_out: HeldOut, base: Metrics, *, night: int
) -> dict[str, Any]:
    """What the night was, in figures only."""
    model, serving = bench.serving_model(), serving_index(bench.db)
    found: dict[str, Any] = {
        "night": night,
        "problems": [*result.problems, *(failure.message for failure in result.failures)],
        "serving": model.version[:12],
        "words": serving.lexical_weight,
        "crowding": serving.crowding_weight,
        "held out": on_held_out(bench, measured(bench, model, held_out), base),
    }
    decided = candidate_of(bench, result)
    if decided is None:
        return found
    record, verdict = decided
    assert record.training_set_id is not None
    training_set = load_training_set(bench.db, record.training_set_id)
    general = [each.difference for each in verdict.findings if each.about == GENERAL]
    return {
        **found,
        "pairs": dict(Counter(pair.origin for pair in training_set.of("train"))),
        "test pairs": dict(Counter(pair.origin for pair in training_set.of("test"))),
        "candidate": record.version[:12],
        "candidate held out": on_held_out(bench, measured(bench, record, held_out), base),
        "decision": verdict.decision,
        "reasons": list(verdict.reasons),
        "decided on": verdict.primary,
        "gain over serving": None if verdict.difference is None else asdict(verdict.difference),
        GENERAL: asdict(general[0]) if general and general[0] is not None else None,
    }


def measured(bench: Workbench, model: ModelRecord, held_out: HeldOut) -> Metrics:
    """A registered model on the held-out queries; its vectors are stored where it was evaluated or serves."""
    encoder = bench.encoder(model)
    return measure(bench, encoder, held_out, corpus_vectors(bench, encoder, held_out.hashes))


def simulate(
    indexed: Indexed,
    data: Judged,
    seed: int,
    *,
    nights: int,
    overrides: dict[str, str],
    told: Callable[[dict[str, Any]], None],
) -> None:
    """All nights of one seed, on fold 0; `told` is given the run as it grows, after each night."""
    learning, held_out = data.sides(seed, 0)
    with indexed.experiment(**overrides, seed=seed) as bench:
        asked = held_out_queries(bench.db, held_out)
        base = measure(bench, base_encoder(bench), asked)
        searched = measure_searches(bench, base_encoder(bench), held_out)
        run: dict[str, Any] = {
            "seed": seed,
            "queries": len(asked.queries),
            "corpus": len(asked.hashes),
            "base": {name: mean(base, name) for name in SHOWN},
            "base as searched": {name: mean(searched, name) for name in SHOWN},
            "nights": [],
        }
        known = accepted = 0
        for night, portion in enumerate(portions(learning, seed, nights), start=1):
            started = time.monotonic()
            result = one_night(bench, portion)
            known += len(portion)
            accepted += sum(each.judgement == "accept" for each in portion)
            found = measure_searches(bench, bench.encoder(bench.serving_model()), held_out)
            run["nights"].append(
                {
                    **account(bench, result, asked, base, night=night),
                    "as searched": on_held_out(bench, found, searched),
                    "judgements": known,
                    "accepted": accepted,
                    "seconds": round(time.monotonic() - started, 1),
                }
            )
            bench.progress.note(sentence(run["nights"][-1]))
            told(run)


def sentence(night: dict[str, Any]) -> str:
    """A night in a line."""
    held_out = night["held out"]
    return (
        f"Night {night['night']}: {night['judgements']} judgements, gate: "
        f"{night.get('decision', 'not reached')}; {night['serving']} serves, held-out nDCG@10 "
        f"{held_out['ndcg@10']:.4f} ({held_out['over base']['mean']:+.4f}), {night['seconds']:.0f} s."
    )


def table(run: dict[str, Any]) -> Table:
    """A row a night."""
    made = Table(
        title=f"seed {run['seed']}: {run['queries']} held-out queries over {run['corpus']:,} texts; "
        f"base nDCG@10 {run['base']['ndcg@10']:.4f}"
    )
    headings = ("night", "judgements", "pairs", "gate", "serves", "held-out nDCG@10", "over base (95%)")
    for heading in (*headings, "as searched", "candidate", "general set"):
        made.add_column(heading)
    for night in run["nights"]:
        over, general = night["held out"]["over base"], night.get(GENERAL)
        candidate = night.get("candidate held out")
        made.add_row(
            str(night["night"]),
            str(night["judgements"]),
            " + ".join(f"{count} {origin}" for origin, count in sorted(night.get("pairs", {}).items())),
            night.get("decision", "not reached"),
            night["serving"],
            f"{night['held out']['ndcg@10']:.4f}",
            shown(over),
            f"{night['as searched']['over base']['mean']:+.4f} (words {night['words']:g})",
            "" if candidate is None else f"{candidate['ndcg@10']:.4f}",
            "" if general is None else f"{general['mean']:+.4f}",
        )
    return made


def over_seeds(runs: Sequence[dict[str, Any]]) -> Table:
    """A row a night: what serves over the base, mean over the seeds and its spread (standard deviation)."""
    made = Table(title=f"over the base, mean of {len(runs)} seeds")
    for heading in ("night", "by meaning", "least of them", "as searched", "least of them", "approved"):
        made.add_column(heading)
    for night in zip(*(run["nights"] for run in runs), strict=True):
        means, searched = (
            [each[where]["over base"]["mean"] for each in night] for where in ("held out", "as searched")
        )
        made.add_row(
            str(night[0]["night"]),
            *(spread(means), f"{min(means):+.4f}", spread(searched), f"{min(searched):+.4f}"),
            str(sum(each.get("decision") == "approved" for each in night)),
        )
    return made


def main() -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.add_argument("--nights", type=int, default=NIGHTS)
    asked = arguments.parse_args()
    data, overrides, figures = begin(asked)
    with TerminalProgress() as progress, judged_corpus(data, asked.home, progress) as indexed:
        for seed in asked.seeds:
            done = list(figures["runs"])

            def keep(run: dict[str, Any], done: list[dict[str, Any]] = done) -> None:
                figures["runs"] = [*done, run]
                write_figures(asked.json, figures)

            simulate(indexed, data, seed, nights=asked.nights, overrides=overrides, told=keep)
    for run in figures["runs"]:
        show(table(run))
    if len(figures["runs"]) > 1:
        show(over_seeds(figures["runs"]))


if __name__ == "__main__":
    main()
