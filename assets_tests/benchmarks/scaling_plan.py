"""What 10 million, 100 million and a billion snippets take: computed, with the assumption behind each number.

Run: `python -m assets_tests.benchmarks.scaling_plan`, and with other assumptions
`python -m assets_tests.benchmarks.scaling_plan --set tokens_per_snippet=100 --set gpu=H100`.
`docs/scaling.md` holds what it prints, and a test compares the two. Sizes of rows follow from the layout of
Postgres' and pgvector's pages; `test_scaling_plan.py` measures them against a real server.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIGA, TERA = 1e9, 1e12
SIZES = (10_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Model:
    """An encoder; its parameters are assumed by its name."""

    name: str
    dims: int


MODELS = (Model("minilm", 384), Model("qodo", 1536))
# Dense bfloat16 peak in TFLOPS, and dollars an hour on demand at the large clouds, the middle of the range.
GPUS = {"A100": (312.0, 2.25), "H100": (989.0, 4.25)}

# Value and what it rests on. Measured: DESIGN section 7, or where named.
ASSUMPTIONS: dict[str, tuple[Any, str]] = {
    "gpu": ("A100", "or H100: dense bf16 peaks of 312 and 989 TFLOPS by NVIDIA's data sheets; published"
            " rates of May 2026 at the large clouds: $1.50–3.00 and $3.50–5.00 an hour, the middle taken"),
    "gpu_share_of_peak": (0.3, "assumed: on the CPU 0.65 of the matmul ceiling is measured; a GPU never ran"),
    "minilm_parameters": (10_600_000, "its layers': 6 × (4 × 384² + 2 × 384 × 1,536). A token is"
            " multiplied by those, and looked up in the others; the products within attention, 7% more, are"
            " left out"),
    "qodo_parameters": (1_310_000_000, "its layers', likewise: 28 × (2 × 1,536² + 2 × 1,536 × 256"
            " + 3 × 1,536 × 8,960)"),
    "text_bytes": (828, "measured: mean of 3,000 functions of 12 installed packages"),
    "tokens_per_snippet": (154, "measured: the same functions by MiniLM's tokenizer, cut at its 256. Qodo's"
            " preset reads up to 2,048 of its own tokenizer's: what its GPUs take here is a lower bound"),
    "tokenised_per_second": (3600, "measured, per core: the same functions"),
    "copied_per_second": (77_000, "measured: binary COPY of 384 dimensions by one connection"),
    "row_overhead_bytes": (200, "assumed: paths, symbols, words and their indexes for each snippet"),
    "generations": (4, "the default: the index version that serves, two retired ones kept"
            " (HONELOOP_KEEP_RETIRED_INDEXES), and the next one while it is built; each is a graph, its rows"
            " and all vectors of its model"),
    "hnsw_m": (16, "the default of HONELOOP_HNSW_M: links of a row, twice as many in the lowest layer"),
    "hnsw_core_seconds": (
        41,
        "HNSW over 100,000 × 384 on one core, ef_construction 100, m 16; measured: 19.8 s over 50,887 texts",
    ),
    "core_efficiency": (0.8, "assumed: what each further core adds to a build; measured, a second: 0.91"),
    "build_cores": (32, "chosen: cores of the database's machine that a build may use"),
    "memory_gb_hour": (0.0102, "published: m7g.large, 8 GB, $0.0816 an hour, June 2026"),
    "disk_gb_month": (0.08, "published: general-purpose cloud disks, a month"),
    "hours_a_month": (730, "365 days of 24 hours in 12 months"),
    "reembed_hours": (8, "chosen: a night, in which a new model's vectors are to be there"),
    "changed_a_day": (0.01, "assumed: share of snippets that are new or other ones each day"),
    "training_pairs": (10_000, "assumed: pairs of a night; they follow the feedback, not the corpus"),
    "training_passes": (3, "forward and backward: three times the work of embedding"),
    "texts_per_pair": (3, "the design: query, positive, one mined negative"),
    "server_memory_gb": (512, "chosen: the largest machine one would rent for a database"),
}  # fmt: skip


def heap_row(dims: int) -> float:
    """Bytes of one row (content_hash, embedding): the tuples that fit a page share it."""
    hash_bytes, vector = 33, 8 + 2 * dims
    tuple_bytes = _aligned(24 + _aligned(hash_bytes, 4) + vector) + 4
    return 8192 / ((8192 - 24) // tuple_bytes)


def key_row() -> float:
    """Bytes of the content hash in its unique B-tree, whose pages are filled to 90%."""
    return (_aligned(8 + 33) + 4) / 0.9


def hnsw_row(payload: int, m: int = 16) -> float:
    """Bytes of one row in pgvector's HNSW: its element and its neighbours, packed into pages.

    Args:
        payload: Of the value: 8 + 2·dims for halfvec, 8 + dims/8 for bit.
        m: Links.
    """
    element = _aligned(72 + payload)
    # One row in m rises a layer and has m more links there.
    neighbours = _aligned(4 + 6 * m * 2) + 6 * m / m
    return 8192 / max(1, (8192 - 24 - 8) // (element + neighbours + 8))


def halfvec(dims: int) -> int:
    """Bytes of a halfvec."""
    return 8 + 2 * dims


def bits(dims: int) -> int:
    """Bytes of its signs."""
    return 8 + dims // 8


def build_hours(rows: int, dims: int, a: Mapping[str, Any]) -> float:
    """HNSW: rows × candidates × path through the graph (log n) × links × the length of a comparison."""
    candidates = 100 * (1 + max(0, math.ceil(math.log10(rows / 1e5))))
    work = (rows / 1e5) * (candidates / 100) * (math.log(rows) / math.log(1e5)) * (dims / 384)
    work *= a["hnsw_m"] / 16
    cores = 1 + (a["build_cores"] - 1) * a["core_efficiency"]
    return a["hnsw_core_seconds"] * work / cores / 3600


def gpu_hours(texts: float, model: Model, a: Mapping[str, Any]) -> float:
    """Two operations for each parameter and token."""
    peak, _ = GPUS[a["gpu"]]
    work = texts * a["tokens_per_snippet"] * 2 * a[f"{model.name}_parameters"]
    return work / (peak * TERA * a["gpu_share_of_peak"]) / 3600


def plan(rows: int, model: Model, a: Mapping[str, Any]) -> dict[str, str]:
    """One column of the page."""
    _, rate = GPUS[a["gpu"]]
    text = rows * (a["text_bytes"] + a["row_overhead_bytes"])
    # Each generation has its rows in the index version, and the model's in a table of their own.
    vectors = rows * 2 * a["generations"] * (heap_row(model.dims) + key_row())
    graph = rows * hnsw_row(halfvec(model.dims), a["hnsw_m"])
    quantised = rows * hnsw_row(bits(model.dims), a["hnsw_m"])
    disk = text + vectors + a["generations"] * graph
    memory_rate = a["memory_gb_hour"] * a["hours_a_month"]
    hours = gpu_hours(rows, model, a)
    night = gpu_hours(a["training_pairs"] * a["texts_per_pair"] * a["training_passes"], model, a)
    # The servers share the rows; each holds its part of the graph in memory.
    servers = math.ceil(graph / GIGA / a["server_memory_gb"])
    quantised_servers = math.ceil(quantised / GIGA / a["server_memory_gb"])
    return {
        "text and its tables": _size(text),
        f"vectors, {a['generations']} generations": _size(vectors),
        "HNSW of halfvec: memory to serve from": _size(graph),
        "HNSW of signs: memory to serve from": _size(quantised),
        "disk in all": f"{_size(disk)}, ${disk / GIGA * a['disk_gb_month']:,.0f} a month",
        "that memory": f"${graph / GIGA * memory_rate:,.0f} a month;"
        f" signs ${quantised / GIGA * memory_rate:,.0f}",
        f"servers of {a['server_memory_gb']} GB": f"{servers}; signs {quantised_servers}",
        f"HNSW build, {a['build_cores']} cores a server": _time(build_hours(rows // servers, model.dims, a)),
        "full re-embed": f"{_time(hours)} of one {a['gpu']}, ${hours * rate:,.2f}",
        f"GPUs to re-embed in {a['reembed_hours']} h": f"{math.ceil(hours / a['reembed_hours']):,}",
        "tokenising for it, one core": _time(rows / a["tokenised_per_second"] / 3600),
        "writing it, one driver": _time(rows / a["copied_per_second"] * model.dims / 384 / 3600),
        "a day's changes": f"{_time(hours * a['changed_a_day'])}, ${hours * a['changed_a_day'] * rate:,.2f}",
        "nightly fine-tune": f"{_time(night)}, ${night * rate:,.2f}",
        "exact mining of negatives: memory": _size(rows * model.dims * 4),
    }


def page(a: Mapping[str, Any]) -> str:
    """All tables, as Markdown."""
    lines = ["| assumption | value | it rests on |", "|---|---|---|"]
    lines += [f"| `{name}` | {a[name]} | {why} |" for name, (_, why) in ASSUMPTIONS.items()]
    lines += ["", "| bytes of one row | " + " | ".join(f"{m.name}, {m.dims}" for m in MODELS) + " |"]
    lines += ["|---|" + "---|" * len(MODELS)]
    for what, each in {
        "table of vectors": lambda m: heap_row(m.dims),
        "its key": lambda _: key_row(),
        "HNSW of halfvec": lambda m: hnsw_row(halfvec(m.dims), a["hnsw_m"]),
        "HNSW of the first quarter of the dimensions": lambda m: hnsw_row(halfvec(m.dims // 4), a["hnsw_m"]),
        "HNSW of signs": lambda m: hnsw_row(bits(m.dims), a["hnsw_m"]),
    }.items():
        lines.append(f"| {what} | " + " | ".join(f"{each(model):,.0f}" for model in MODELS) + " |")
    for model in MODELS:
        columns = [plan(rows, model, a) for rows in SIZES]
        lines += ["", f"| {model.name} | " + " | ".join(f"{rows:,}" for rows in SIZES) + " |"]
        lines += ["|---|" + "---|" * len(SIZES)]
        lines += [f"| {row} | " + " | ".join(column[row] for column in columns) + " |" for row in columns[0]]
    return "\n".join(lines) + "\n"


def assumptions(changes: Sequence[str]) -> dict[str, Any]:
    """The assumptions, some replaced by `name=value`. Raises SystemExit saying what is wrong."""
    values = {name: value for name, (value, _) in ASSUMPTIONS.items()}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in values:
            raise SystemExit(f"There is no assumption {name!r}. There are: {', '.join(values)}.")
        if name == "gpu":
            if value not in GPUS:
                raise SystemExit(f"{value!r} is none of {', '.join(GPUS)}.")
            values[name] = value
            continue
        try:
            number = float(value)
        except ValueError:
            raise SystemExit(f"{name} needs a number, not {value!r}.") from None
        if not 0 < number < math.inf:
            raise SystemExit(f"{name} must be above 0.")
        values[name] = int(number) if number == int(number) else number
    return values


def _aligned(size: int, to: int = 8) -> int:
    return -(-size // to) * to


def _size(size: float) -> str:
    return f"{size / TERA:,.1f} TB" if size >= TERA else f"{size / GIGA:,.1f} GB"


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} d"
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:,.1f} min" if hours >= 1 / 60 else f"{hours * 3600:,.1f} s"


def main() -> None:
    """Prints the page's tables."""
    parser = argparse.ArgumentParser(description="Plans 10 million, 100 million and a billion snippets.")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="Assume otherwise.")
    print(page(assumptions(parser.parse_args().set)), end="")


if __name__ == "__main__":
    main()
