"""How many snippets a second: `SentenceTransformer.encode` at several batch sizes against `Encoder`.

    python -m assets_tests.benchmarks.embedding_throughput [--texts N] [--json FILE]

Both embed the same real Python functions of installed distributions with the same MiniLM in float32, in one
process and in turn, so that whatever else the machine does hits both; what counts is the ratio. A large
float32 product takes turns with them: nothing here can compute faster. It fails if the vectors differ by more
than 1e-5.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from assets_tests.benchmarks.machine import machine

if TYPE_CHECKING:
    from pipeline.encoders.onnx_files import OnnxExports

DISTRIBUTIONS = ("networkx", "rich", "click")
LARGEST_DIFFERENCE = 1e-5
SEED = 17
PEER, TORCH, ONNX = "SentenceTransformer.encode", "Encoder.embed_documents", "ONNX, Encoder.embed_documents"


@dataclass(frozen=True)
class Timing:
    """One way of embedding all texts. `seconds`: of each repetition; `ratio` and `share`: see `measure`."""

    name: str
    batch_size: int
    seconds: list[float]
    texts_per_second: float
    tokens_per_second: float
    gigaflops: float
    ratio: float
    share: float


@cache
def functions() -> tuple[str, ...]:
    """The source of every function in the Python files of `DISTRIBUTIONS`, their tests left out; sorted."""
    found: set[str] = set()
    for name in DISTRIBUTIONS:
        for file in importlib.metadata.files(name) or []:
            if file.suffix != ".py" or "tests" in file.parts:
                continue
            source = Path(str(file.locate())).read_text(encoding="utf-8")
            lines = source.splitlines(keepends=True)
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(dedent("".join(lines[node.lineno - 1 : node.end_lineno])))
    return tuple(sorted(found))


def floating_point_operations(config: Any, lengths: Sequence[int]) -> float:
    """Multiplications and additions that a BERT forward pass needs for texts of these lengths, unpadded.

    Per token and layer: four square projections and two of the feed-forward block, and for attention a
    product with every key and every value.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    weights = 4 * hidden * hidden + 2 * hidden * inner
    return config.num_hidden_layers * sum(2.0 * n * weights + 4.0 * n * n * hidden for n in lengths)


def matmul_ceilings() -> dict[str, float]:
    """GFLOP/s of a large float32 product by torch's two libraries, the best of several."""
    import torch

    from pipeline.encoders.linear import PackedLinear

    size = 1024
    layer = torch.nn.Linear(size, size, bias=False)
    inputs = torch.randn(size, size)
    packed = PackedLinear(layer)
    ways: dict[str, Callable[[], object]] = {
        "torch.matmul": lambda: inputs @ layer.weight,
        "oneDNN": lambda: packed(inputs),
    }
    best: dict[str, float] = {}
    with torch.inference_mode():
        for name, way in ways.items():
            way()
            best[name] = 2.0 * size**3 / min(timed(way) for _ in range(10)) / 1e9
    return best


def timed(way: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def measure(
    texts: Sequence[str], batch_sizes: Sequence[int], repetitions: int, exports: OnnxExports | None = None
) -> dict[str, Any]:
    """Times every way of embedding, the ways taking turns; with an export of the encoder, ONNX Runtime too.

    A way's ratio is the median over the repetitions of (seconds of SentenceTransformer at its best batch
    size) / (seconds of the way), both of the same repetition. Its share is that of (GFLOP/s of the way) /
    (GFLOP/s of the faster of `matmul_ceilings`), likewise.
    """
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.loading import load_encoder
    from pipeline.encoders.presets import PRESETS
    from pipeline.encoders.quiet import quiet
    from pipeline.encoders.sources import locate

    directory = locate(PRESETS["minilm"].members[0]).directory
    with quiet():
        # From the directory, with nothing of Honeloop's in it.
        peer = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    encoders = {size: load_encoder("minilm", device="cpu", batch_size=size) for size in batch_sizes}
    lengths = [
        min(n, encoders[batch_sizes[0]].max_tokens) for n in encoders[batch_sizes[0]].count_tokens(texts)
    ]
    transformer: Any = peer[0]
    work = floating_point_operations(transformer.auto_model.config, lengths)

    def encode(size: int) -> np.ndarray:
        return peer.encode(list(texts), batch_size=size, normalize_embeddings=True, show_progress_bar=False)

    ways: dict[tuple[str, int], Callable[[], np.ndarray]] = {}
    for size in batch_sizes:
        ways[PEER, size] = lambda size=size: encode(size)
        ways[TORCH, size] = lambda size=size: encoders[size].embed_documents(texts)
        if exports is not None:
            exported = load_encoder("minilm", device="cpu", batch_size=size, exports=exports)
            assert exported.backends == ("onnx",)
            ways[ONNX, size] = lambda exported=exported: exported.embed_documents(texts)
    vectors = {way: call() for way, call in ways.items()}  # also warms everything up
    expected = next(iter(vectors.values()))
    difference = max(float(np.abs(found - expected).max()) for found in vectors.values())

    seconds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    ceilings: list[dict[str, float]] = []
    turns: list[Callable[[], None]] = [
        *(lambda way=way: seconds[way].append(timed(ways[way])) for way in ways),
        lambda: ceilings.append(matmul_ceilings()),
    ]
    for repetition in range(repetitions):
        for turn in turns if repetition % 2 == 0 else reversed(turns):
            turn()
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    best_peer = min((way for way in ways if way[0] == PEER), key=medians.__getitem__)
    timings = [
        Timing(
            name=way[0],
            batch_size=way[1],
            seconds=seconds[way],
            texts_per_second=len(texts) / medians[way],
            tokens_per_second=sum(lengths) / medians[way],
            gigaflops=work / medians[way] / 1e9,
            ratio=statistics.median(
                theirs / ours for theirs, ours in zip(seconds[best_peer], seconds[way], strict=True)
            ),
            share=statistics.median(
                work / took / 1e9 / max(of.values()) for took, of in zip(seconds[way], ceilings, strict=True)
            ),
        )
        for way in ways
    ]
    return {
        "texts": len(texts),
        "tokens": sum(lengths),
        "max_abs_difference": difference,
        "matmul_gigaflops": {name: statistics.median(of[name] for of in ceilings) for name in ceilings[0]},
        "matmul_gigaflops_of_rounds": ceilings,
        "timings": [asdict(timing) for timing in timings],
        "best_ratio": max(t.ratio for t in timings if t.name == TORCH),
        "default_ratio": next((t.ratio for t in timings if t.name == TORCH and t.batch_size == 16), None),
        "machine": machine(),
    }


def show(report: dict[str, Any]) -> None:
    """Prints the report as a table."""
    ceilings: dict[str, float] = report["matmul_gigaflops"]
    table = Table(title=f"{report['texts']} functions, {report['tokens']:,} tokens")
    for column in ("", "batch", "texts/s", "tokens/s", "GFLOP/s", "of the ceiling", "ratio"):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for timing in report["timings"]:
        table.add_row(
            timing["name"].rpartition(".")[0],
            str(timing["batch_size"]),
            f"{timing['texts_per_second']:.1f}",
            f"{timing['tokens_per_second']:,.0f}",
            f"{timing['gigaflops']:.0f}",
            f"{timing['share']:.0%}",
            f"{timing['ratio']:.2f}",
        )
    console = Console()
    console.print(table)
    listed = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in ceilings.items())
    console.print(f"Float32 matmul ceilings: {listed}")
    console.print(f"Largest difference between any two vectors' numbers: {report['max_abs_difference']:.1e}")
    console.print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 if vectors differ by more than `LARGEST_DIFFERENCE`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=400, help="how many functions (default 400)")
    parser.add_argument("--repetitions", type=int, default=5, help="of every way (default 5)")
    parser.add_argument(
        "--batch-sizes", default="8,16,32,64", help="texts per batch, with commas (default 8,16,32,64)"
    )
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    given = parser.parse_args(arguments)
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    texts = list(functions())
    random.Random(SEED).shuffle(texts)
    report = measure(
        texts[: given.texts], [int(size) for size in given.batch_sizes.split(",")], given.repetitions
    )
    show(report)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["max_abs_difference"] <= LARGEST_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
