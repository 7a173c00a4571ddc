"""The account of a training set as tables, for a terminal and for Dagster alike: text, but no layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.training.pairs import TrainingSet
from pipeline.training.splits import ORIGINS

SPLITS = ("train", "validation", "test")
BAR_WIDTH = 30


@dataclass(frozen=True)
class Table:
    """One table: what it is about, its headings and its rows, all text."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(training_set: TrainingSet) -> list[Table]:
    """All there is to say of a training set, those without rows left out."""
    counts = training_set.counts
    found = [
        pairs_table(training_set),
        left_out_table(counts),
        commits_table(counts),
        mining_table(counts),
        thresholds_table(counts),
        margins_table(counts),
        histogram_table(counts),
    ]
    return [table for table in found if table.rows]


def pairs_table(training_set: TrainingSet) -> Table:
    """How many pairs of each origin stand on each side, and how many of them have negatives."""
    counted = Counter((pair.origin, pair.split) for pair in training_set.pairs)
    having = Counter(pair.origin for pair in training_set.pairs if pair.negatives)
    weight: Counter[str] = Counter()
    for pair in training_set.of("train"):
        weight[pair.origin] += pair.weight  # pyright: ignore[reportArgumentType]  (a Counter of floats)
    return Table(
        "pairs",
        ("origin", *SPLITS, "with negatives", "weight in training"),
        tuple(
            (
                origin,
                *(f"{counted[origin, split]:,}" for split in SPLITS),
                f"{having[origin]:,}",
                f"{weight[origin]:,.1f}",
            )
            for origin in ORIGINS
            if any(counted[origin, split] for split in SPLITS)
        ),
    )


def left_out_table(counts: Mapping[str, Any]) -> Table:
    """What did not become a pair, and why."""
    return Table(
        "did not become a pair",
        ("origin", "why", "how many"),
        tuple(
            (origin, reason, f"{count:,}")
            for origin, reasons in counts.get("dropped", {}).items()
            for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
        ),
    )


def commits_table(counts: Mapping[str, Any]) -> Table:
    """The commits looked at: how many are used, and why the others are not."""
    total: Counter[str] = Counter()
    for reasons in counts.get("commits", {}).values():
        total.update(reasons)
    ordered = sorted(total.items(), key=lambda item: (item[0] != "used", -item[1], item[0]))
    return Table(
        "commits",
        ("commits", "how many", "share"),
        tuple((reason, f"{count:,}", _share(count, total.total())) for reason, count in ordered),
    )


def mining_table(counts: Mapping[str, Any]) -> Table:
    """What mining looked at, what it rejected and why, and what it left without."""
    mining = counts.get("mining", {})
    if "candidates" not in mining:  # a set from before they were counted
        return Table("hard negatives", (), ())
    candidates = mining["candidates"]
    told = {"near-duplicate of an answer", "same code as the positive", "same name as the positive"}
    lines = [
        ("looked at", candidates),
        (f"too near: over {mining['max_ratio']:g} of the positive's score", mining["over_threshold"]),
        ("near-duplicate of the answer", mining["near_duplicates"]),
        ("same symbol as the answer", mining["same_name"]),
        *((reason, count) for reason, count in mining["passed"].items() if reason not in told),
        ("taken", mining["taken"]),
    ]
    asking = sum(mining["asking"].values())
    rows = [(reason, f"{count:,}", _share(count, candidates)) for reason, count in lines]
    without = mining["nothing_found"]
    rows.append(("pairs left without a negative", f"{without:,}", f"{_share(without, asking)} of {asking:,}"))
    rows += [
        (
            f"  of origin {origin}",
            f"{count:,}",
            f"{_share(count, mining['asking'][origin])} of {mining['asking'][origin]:,}",
        )
        for origin, count in mining["nothing_found_by_origin"].items()
    ]
    return Table("hard negatives", ("candidates", "how many", "share"), tuple(rows))


def thresholds_table(counts: Mapping[str, Any]) -> Table:
    """What other thresholds would reject, by the scores of contents as they are indexed."""
    rows: list[tuple[str, ...]] = []
    in_force = counts.get("mining", {}).get("max_ratio")
    for origin, at in counts.get("mining", {}).get("at_thresholds", {}).items():
        pairs = counts["mining"]["asking"].get(origin, 0)
        for ratio, rejected in sorted(at["rejected"].items(), key=lambda item: float(item[0])):
            rows.append(
                (
                    origin,
                    f"{ratio}{' (in force)' if in_force is not None and float(ratio) == in_force else ''}",
                    f"{rejected:,} of {at['candidates']:,}",
                    _share(rejected, at["candidates"]),
                    f"{at['pairs_without'][ratio]:,} of {pairs:,}",
                )
            )
    return Table(
        "what thresholds reject (shares of the positive's score)",
        ("origin", "threshold", "neighbours rejected", "share", "pairs left without"),
        tuple(rows),
    )


def margins_table(counts: Mapping[str, Any]) -> Table:
    """Quantiles of the margins before training, by why the negative is one."""
    by_reason = counts.get("margins", {}).get("by_reason", {})
    names = list(next(iter(by_reason.values()))["quantiles"]) if by_reason else []
    return Table(
        "margins before training (cosine of the positive less that of the negative)",
        ("negatives", "triplets", "nearer", *names),
        tuple(
            (
                reason,
                f"{each['triplets']:,}",
                f"{each['negative_above_positive']:,}",
                *(f"{each['quantiles'][name]:+.3f}" for name in names),
            )
            for reason, each in by_reason.items()
        ),
    )


def histogram_table(counts: Mapping[str, Any]) -> Table:
    """The same as bars."""
    bars = counts.get("margins", {}).get("histogram", [])
    most = max((count for *_, count in bars), default=0)
    return Table(
        "histogram of the margins",
        ("margin", "triplets", ""),
        tuple(
            (f"{low:+.2f} to {high:+.2f}", f"{int(count):,}", "█" * -int(-BAR_WIDTH * count // most))
            for low, high, count in bars
        ),
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "–"
