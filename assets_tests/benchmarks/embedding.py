"""Embedding, as `make bench` shows it: what `embedding_throughput` measures, in two lines of the table."""

from __future__ import annotations

import random

from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Size
from assets_tests.benchmarks.embedding_throughput import LARGEST_DIFFERENCE, SEED, functions, measure

TEXTS: dict[Size, int] = {"quick": 160, "full": 1500}
ROUNDS: dict[Size, int] = {"quick": 3, "full": 5}
BATCH_SIZES: dict[Size, tuple[int, ...]] = {"quick": (16, 32), "full": (8, 16, 32, 64)}


def run(size: Size) -> Found:
    """Against `SentenceTransformer.encode` at its best batch size, and the machine's matmul ceiling."""
    texts = list(functions())
    random.Random(SEED).shuffle(texts)
    return measured(texts[: TEXTS[size]], BATCH_SIZES[size], ROUNDS[size])


def measured(texts: list[str], batch_sizes: tuple[int, ...], rounds: int) -> Found:
    """The two lines, and the whole report. Raises if the vectors differ: then nothing is comparable."""
    report = measure(texts, batch_sizes, rounds)
    if report["max_abs_difference"] > LARGEST_DIFFERENCE:
        raise ValueError(f"The vectors differ by {report['max_abs_difference']:.1e}.")
    timings = report["timings"]
    ours = max((each for each in timings if each["name"].startswith("Encoder")), key=lambda t: t["ratio"])
    theirs = max((each for each in timings if each["name"].startswith("Sent")), key=lambda t: t["ratio"])
    ceiling = max(report["matmul_gigaflops"].values())
    return Found(
        [
            Comparison(
                f"embedding of {len(texts)} functions",
                f"{ours['texts_per_second']:.1f} texts/s (batch {ours['batch_size']})",
                f"SentenceTransformer.encode {theirs['texts_per_second']:.1f} texts/s"
                f" (batch {theirs['batch_size']})",
                report["best_ratio"],
                Goal(1.25),
            ),
            Comparison(
                "share of the machine's float32 matmul ceiling",
                f"{ours['gigaflops']:.0f} GFLOP/s",
                f"ceiling {ceiling:.0f} GFLOP/s",
                ours["gigaflops"] / ceiling,
                Goal(0.6),
            ),
        ],
        report,
    )
