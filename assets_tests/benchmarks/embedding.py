"""Embedding, as `make bench` shows it: different texts, the same ones many times, and the first vector.

Beside `SentenceTransformer.encode` at its best batch size stand torch as Honeloop calls it and, where the
`onnx` extra is installed, ONNX Runtime with an export by the project's own code. Details of the first are
`embedding_throughput`'s.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assets_tests.benchmarks.comparing import (
    Comparison,
    Found,
    Goal,
    Rounds,
    Size,
    alone,
    in_turns,
    speed_ratio,
)
from assets_tests.benchmarks.embedding_throughput import (
    LARGEST_DIFFERENCE,
    ONNX,
    PEER,
    SEED,
    TORCH,
    functions,
    measure,
)

if TYPE_CHECKING:
    from pipeline.encoders.onnx_files import OnnxExports

TEXTS: dict[Size, int] = {"quick": 160, "full": 1500}
ROUNDS: dict[Size, int] = {"quick": 3, "full": 5}
# The peer is best at 8 on two processors, and on others it may not be.
BATCH_SIZES: dict[Size, tuple[int, ...]] = {"quick": (8, 16, 32), "full": (8, 16, 32, 64)}
# The share of the texts that stand in the corpus many times, and how many times.
REPEATED_SHARE = 4
TIMES = 5
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
FIRST_QUERY = "read a csv file line by line"


def run(size: Size) -> Found:
    """Against `SentenceTransformer.encode` at its best batch size, and the machine's matmul ceiling."""
    texts = list(functions())
    random.Random(SEED).shuffle(texts)
    return measured(texts[: TEXTS[size]], BATCH_SIZES[size], ROUNDS[size])


def measured(texts: list[str], batch_sizes: tuple[int, ...], rounds: int) -> Found:
    """All lines, and the whole report. Raises if the vectors differ: then nothing is comparable."""
    with exported() as exports:
        report = measure(texts, batch_sizes, rounds, exports)
        if report["max_abs_difference"] > LARGEST_DIFFERENCE:
            raise ValueError(f"The vectors differ by {report['max_abs_difference']:.1e}.")
        best = {
            name: max((each for each in report["timings"] if each["name"] == name), key=lambda t: t["ratio"])
            for name in dict.fromkeys(each["name"] for each in report["timings"])
        }
        repeated = texts[: max(1, len(texts) // REPEATED_SHARE)]
        duplicates = with_duplicates(
            repeated, best[PEER]["batch_size"], best[TORCH]["batch_size"], rounds=rounds
        )
        first = first_vectors(rounds, exports)
    lines = [
        *_throughput(report, best, len(texts)),
        *_duplicates(duplicates, len(repeated)),
        *_first(first),
    ]
    return Found(lines, {**report, "duplicates_seconds": duplicates, "first_vector_seconds": first})


@contextmanager
def exported() -> Generator[OnnxExports | None]:
    """The default encoder's export, made anew; None where the libraries are missing that make one."""
    if not all(find_spec(name) for name in ONNX_LIBRARIES):
        yield None
        return
    from pipeline.config import Settings
    from pipeline.encoders.loading import located_members
    from pipeline.encoders.onnx_export import export_member
    from pipeline.encoders.onnx_files import OnnxExports
    from pipeline.progress import Silent

    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as directory:
        exports = OnnxExports(Path(directory), Settings().onnx_min_cosine)
        for member in located_members("minilm")[1]:
            export_member(member, exports, Silent())
        yield exports


def with_duplicates(texts: list[str], peers_size: int, own_size: int, *, rounds: int) -> Rounds:
    """Seconds for the same texts `TIMES` times each, shuffled, each way at its best batch size."""
    from pipeline.encoders.loading import load_encoder

    many = texts * TIMES
    random.Random(SEED).shuffle(many)
    peer, encoder = _peer(_directory()), load_encoder("minilm", device="cpu", batch_size=own_size)
    encode: Callable[[], np.ndarray] = partial(
        peer.encode, many, batch_size=peers_size, normalize_embeddings=True, show_progress_bar=False
    )
    return in_turns({PEER: encode, TORCH: partial(encoder.embed_documents, many)}, rounds)


def first_vectors(rounds: int, exports: OnnxExports | None) -> Rounds:
    """Seconds from the start of a new process to its first vector, the ways taking turns.

    The first process of each way only brings files into memory, which whoever searches twice has there.
    """
    ways: dict[str, Callable[[], float]] = {
        PEER: partial(_first_seconds, "peer", _directory()),
        TORCH: partial(_first_seconds, "torch", ""),
    }
    if exports is not None:
        ways[ONNX] = partial(_first_seconds, "onnx", str(exports.directory))
    seconds: Rounds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items() if number % 2 else reversed(ways.items()):
            took = way()
            if number:
                seconds[name].append(took)
    return seconds


def _first_seconds(who: str, place: str) -> float:
    done = alone(first_vector, who, place)
    return done.result - done.started_at


def first_vector(who: str, place: str) -> float:
    """When there was a vector: loads what it needs, and embeds one query; runs in a process of its own.

    `place` is that of the peer's model, or of our exports. The peer's process loads nothing of ours.
    """
    if who == "peer":
        _peer(place).encode([FIRST_QUERY], normalize_embeddings=True, show_progress_bar=False)
        return time.time()
    from pipeline.encoders.loading import load_encoder
    from pipeline.encoders.onnx_files import OnnxExports

    made = OnnxExports(Path(place), 0.9999) if place else None
    load_encoder("minilm", device="cpu", exports=made).embed_queries([FIRST_QUERY])
    return time.time()


def _directory() -> str:
    from pipeline.encoders.presets import PRESETS
    from pipeline.encoders.sources import locate

    return str(locate(PRESETS["minilm"].members[0]).directory)


def _peer(directory: str) -> Any:
    """MiniLM as anybody has it."""
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.quiet import quiet

    with quiet():
        return SentenceTransformer(directory, device="cpu", local_files_only=True)


def _throughput(report: dict[str, Any], best: dict[str, dict[str, Any]], texts: int) -> list[Comparison]:
    ours, theirs = best[TORCH], best[PEER]
    ceiling = max(report["matmul_gigaflops"].values())
    said = f"{PEER} {theirs['texts_per_second']:.1f} texts/s (batch {theirs['batch_size']})"
    lines = [
        Comparison(
            f"embedding of {texts} functions",
            f"{ours['texts_per_second']:.1f} texts/s (batch {ours['batch_size']})",
            said,
            report["best_ratio"],
            Goal(1.25),
        ),
        Comparison(
            "share of the machine's float32 matmul ceiling",
            f"{ours['gigaflops']:.0f} GFLOP/s",
            f"ceiling {ceiling:.0f} GFLOP/s",
            ours["share"],
            Goal(0.6),
        ),
    ]
    if exported_best := best.get(ONNX):
        lines.append(
            Comparison(
                f"embedding of {texts} functions with ONNX Runtime",
                f"{exported_best['texts_per_second']:.1f} texts/s (batch {exported_best['batch_size']})",
                said,
                exported_best["ratio"],
            )
        )
    else:
        lines.append(Comparison("embedding with ONNX Runtime", "", not_measured()))
    return lines


def not_measured() -> str:
    """What the table says where nothing can be exported."""
    return "not measured: install 'honeloop[onnx]'"


def _duplicates(seconds: Rounds, texts: int) -> list[Comparison]:
    rate = {name: TIMES * texts / statistics.median(each) for name, each in seconds.items()}
    return [
        Comparison(
            f"embedding of {texts} functions, {TIMES} times each",
            f"{rate[TORCH]:.1f} texts/s",
            f"{PEER} {rate[PEER]:.1f} texts/s",
            speed_ratio(seconds[TORCH], seconds[PEER]),
        )
    ]


def _first(seconds: Rounds) -> list[Comparison]:
    titles = {TORCH: "", ONNX: " with ONNX Runtime"}
    return [
        Comparison(
            f"from the start of a process to its first vector{title}",
            f"{statistics.median(seconds[name]):.1f} s",
            f"{PEER} {statistics.median(seconds[PEER]):.1f} s",
            speed_ratio(seconds[name], seconds[PEER]),
        )
        for name, title in titles.items()
        if name in seconds
    ]
