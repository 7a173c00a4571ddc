"""Extraction: MB/s and snippets/s against bare parsing, and against cocoindex's splitter, of the same files.

What is measured is everything between a file's bytes and its snippets: decoding, secrets, parsing within its
limits in as many processes as there are processors, splitting, counting tokens. Bare parsing makes a tree and
drops it, in one thread. The splitter, too, works in one thread.

Files are those of the installed distributions and of the directories that `--root` names. A language of which
there is too little is listed as not measured.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import psutil
import tree_sitter

from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Peer, Size, in_turns, speed_ratio
from assets_tests.benchmarks.installed_files import LEAST_BYTES, files_by_language, named_roots
from pipeline.config import Settings
from pipeline.corpus.bounded.pool import CutterPool
from pipeline.corpus.decoding import decode
from pipeline.corpus.languages import LANGUAGES, get_language
from pipeline.corpus.secrets import Detector
from pipeline.encoders.loading import token_budget

MOST_BYTES: dict[Size, int] = {"quick": 2_000_000, "full": 15_000_000}
ROUNDS: dict[Size, int] = {"quick": 3, "full": 5}
GOAL = Goal(0.5)


def run(size: Size) -> Found:
    """Every language of which there is enough here."""
    return measure(files_by_language(MOST_BYTES[size], more=named_roots()), ROUNDS[size])


def measure(files: dict[str, list[Path]], rounds: int) -> Found:
    """Compares the ways language by language."""
    found = Found()
    absence = Peer.absence()
    with CutterPool(Settings(), token_budget("minilm")) as pool:
        for language, paths in files.items():
            figures = _language(pool, language, paths, rounds, peer=absence is None)
            found.details[language] = figures
            megabytes = figures["megabytes"]
            for name, title in (("bare", "bare tree-sitter"), ("cocoindex", "cocoindex's splitter")):
                if name in figures["seconds"]:
                    found.lines.append(
                        Comparison(
                            f"extraction of {language}: {megabytes:.1f} MB in {len(paths)} files",
                            f"{figures['rates']['honeloop']:.1f} MB/s,"
                            f" {figures['snippets_per_second']:,.0f} snippets/s",
                            f"{title} {figures['rates'][name]:.1f} MB/s",
                            figures["ratios"][name],
                            GOAL if name == "bare" else None,
                        )
                    )
            found.lines.append(
                Comparison(
                    f"the same in processor time, {language}",
                    f"{figures['processor_seconds']['honeloop'] / megabytes:.2f} s/MB",
                    f"bare tree-sitter {figures['processor_seconds']['bare'] / megabytes:.2f} s/MB",
                    figures["ratios"]["processor"],
                )
            )
    if missing := [each.name for each in LANGUAGES if each.name not in files]:
        least = f"{LEAST_BYTES // 1000} kB"
        found.lines.append(
            Comparison(
                f"extraction of {', '.join(missing)}",
                "",
                f"not measured: less than {least} of each here; name directories that hold some by --root",
            )
        )
        found.details["not measured"] = missing
    if absence is not None:
        found.lines.append(Comparison("extraction", "", absence))
    return found


def _language(pool: CutterPool, name: str, paths: list[Path], rounds: int, *, peer: bool) -> dict[str, Any]:
    language, detector = get_language(name), Detector(Settings())
    sources = [path.read_bytes() for path in paths]
    megabytes = sum(map(len, sources)) / 1e6
    counted: dict[str, int] = {}
    processor: dict[str, list[float]] = {"honeloop": [], "bare": []}

    def honeloop() -> None:
        before = _processor_seconds()
        asked = (
            pool.cut(path.name, detector.clean(decode(source).text.encode()).text, language)
            for path, source in zip(paths, sources, strict=True)
        )
        counted["snippets"] = sum(len(each.result().snippets) for each in pool.ahead(asked))
        processor["honeloop"].append(_processor_seconds() - before)

    def bare() -> None:
        before = _processor_seconds()
        parser = tree_sitter.Parser(language.load())
        for source in sources:
            parser.parse(source)
        processor["bare"].append(_processor_seconds() - before)

    ways = {"honeloop": honeloop, "bare": bare}
    splitting = Peer("cocoindex_splitting.py") if peer else None
    if splitting is not None:
        splitting.ask([str(path) for path in paths])

        def cocoindex() -> None:
            counted["chunks"] = splitting.ask("round")[1]

        ways["cocoindex"] = cocoindex
    try:
        seconds = in_turns(ways, rounds)
    finally:
        if splitting is not None:
            splitting.close()
    ours = seconds["honeloop"]
    return {
        "files": len(paths),
        "megabytes": megabytes,
        **counted,
        "seconds": seconds,
        "rates": {way: megabytes / statistics.median(each) for way, each in seconds.items()},
        "snippets_per_second": counted["snippets"] / statistics.median(ours),
        "processor_seconds": {way: statistics.median(each) for way, each in processor.items()},
        "ratios": {way: speed_ratio(ours, each) for way, each in seconds.items() if way != "honeloop"}
        | {"processor": speed_ratio(processor["honeloop"], processor["bare"])},
    }


def _processor_seconds() -> float:
    """Of this process and those that it has started."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)
