"""Extraction: MB/s and snippets/s against bare parsing, and against cocoindex's splitter, of the same files.

What is measured is everything between a file's bytes and its snippets: decoding, secrets, parsing within its
limits in as many processes as there are processors, splitting, counting tokens. Bare parsing makes a tree and
drops it, in one thread. The splitter, too, works in one thread.

The processes remember how many tokens a word has. What counts is measured cold, as a first indexing is: in
processes that have started and loaded the grammar, but cut nothing yet. Warm are those that have cut the same
files before; a long run is somewhere between the two.

Files are those of the installed distributions and of the directories that `--root` names, none of them larger
than a twentieth of what is measured. A language of which there is too little is listed as not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import tree_sitter

from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Peer, Size, in_turns, speed_ratio
from assets_tests.benchmarks.installed_files import LEAST_BYTES, files_by_language, named_roots
from pipeline.config import Settings
from pipeline.corpus.bounded.pool import CutterPool
from pipeline.corpus.decoding import decode
from pipeline.corpus.languages import LANGUAGES, Language, get_language
from pipeline.corpus.secrets import Detector
from pipeline.encoders.loading import token_budget

MOST_BYTES: dict[Size, int] = {"quick": 2_000_000, "full": 15_000_000}
# Of all bytes: with a larger file at the end, all processes but one would have nothing to do.
MOST_OF_ONE_FILE = 0.05
ROUNDS: dict[Size, int] = {"quick": 3, "full": 5}
GOAL = Goal(0.5)
OURS = ("cold", "warm")


def run(size: Size) -> Found:
    """Every language of which there is enough here."""
    most = MOST_BYTES[size]
    return measure(
        files_by_language(most, more=named_roots(), largest=int(MOST_OF_ONE_FILE * most)), ROUNDS[size]
    )


def measure(files: dict[str, list[Path]], rounds: int) -> Found:
    """Compares the ways language by language."""
    found = Found()
    absence = Peer.absence()
    for language, paths in files.items():
        figures = _language(language, paths, rounds, peer=absence is None)
        found.details[language] = figures
        found.lines += _lines(language, figures)
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


def _lines(language: str, figures: dict[str, Any]) -> list[Comparison]:
    """Cold beside each of the others; then warm, and what both take of the processors."""
    megabytes, rates, ratios = figures["megabytes"], figures["rates"], figures["ratios"]
    processor = {
        way: statistics.median(seconds) / megabytes for way, seconds in figures["processor_seconds"].items()
    }
    bare = f"bare tree-sitter {rates['bare']:.1f} MB/s"
    others: list[tuple[str, float, Goal | None]] = [(bare, ratios["bare"], GOAL)]
    if "cocoindex" in rates:
        others.append((f"cocoindex's splitter {rates['cocoindex']:.1f} MB/s", ratios["cocoindex"], None))
    return [
        *(
            Comparison(
                f"extraction of {language}: {megabytes:.1f} MB in {figures['files']} files",
                f"{rates['cold']:.1f} MB/s, {figures['snippets_per_second']:,.0f} snippets/s",
                other,
                ratio,
                goal,
            )
            for other, ratio, goal in others
        ),
        Comparison(
            f"the same by processes that have cut these files before, {language}",
            f"{rates['warm']:.1f} MB/s",
            bare,
            ratios["warm"],
        ),
        Comparison(
            f"the same in processor time, {language}",
            f"{processor['cold']:.2f} s/MB, warm {processor['warm']:.2f} s/MB",
            f"bare tree-sitter {processor['bare']:.2f} s/MB",
            ratios["processor"],
        ),
    ]


def ready(language: Language) -> CutterPool:
    """A pool whose processes have started and loaded the grammar, and know no word yet."""
    pool = CutterPool(Settings(), token_budget("minilm"))
    for cutter in pool._cutters:  # the pool itself would ask whichever is free
        cutter.cut("empty", b"", language)
    return pool


def _language(name: str, paths: list[Path], rounds: int, *, peer: bool) -> dict[str, Any]:
    language, detector = get_language(name), Detector(Settings())
    sources = [path.read_bytes() for path in paths]
    counted: dict[str, int] = {}
    processor: dict[str, list[float]] = {}
    pools: dict[str, CutterPool] = {}

    def cut(way: str) -> None:
        pool = pools[way]
        asked = (
            pool.cut(path.name, detector.clean(decode(source).text.encode()).text, language)
            for path, source in zip(paths, sources, strict=True)
        )
        counted["snippets"] = sum(len(each.result().snippets) for each in pool.ahead(asked))

    def bare() -> None:
        parser = tree_sitter.Parser(language.load())
        for source in sources:
            parser.parse(source)

    def watched(way: str, work: Callable[[], None]) -> Callable[[], None]:
        def once() -> None:
            before = _processor_seconds()
            work()
            processor.setdefault(way, []).append(_processor_seconds() - before)

        return once

    ways = {
        "cold": watched("cold", lambda: cut("cold")),
        "warm": watched("warm", lambda: cut("warm")),
        "bare": watched("bare", bare),
    }
    with ExitStack() as last, ExitStack() as until_the_end:
        pools["warm"] = until_the_end.enter_context(ready(language))
        if peer:
            splitting = Peer("cocoindex_splitting.py")
            until_the_end.callback(splitting.close)
            splitting.ask([str(path) for path in paths])

            def cocoindex() -> None:
                counted["chunks"] = splitting.ask("round")[1]

            ways["cocoindex"] = cocoindex

        def anew() -> None:
            last.close()  # the pool of the round before
            pools["cold"] = last.enter_context(ready(language))

        seconds = in_turns(ways, rounds, before={"cold": anew})
    processor = {way: each[1:] for way, each in processor.items()}  # the first was of the warm-up
    megabytes = sum(map(len, sources)) / 1e6
    cold, warm = seconds["cold"], seconds["warm"]
    return {
        "files": len(paths),
        "megabytes": megabytes,
        **counted,
        "seconds": seconds,
        "rates": {way: megabytes / statistics.median(each) for way, each in seconds.items()},
        "snippets_per_second": counted["snippets"] / statistics.median(cold),
        "processor_seconds": processor,
        "ratios": {way: speed_ratio(cold, each) for way, each in seconds.items() if way not in OURS}
        | {
            "warm": speed_ratio(warm, seconds["bare"]),
            "processor": speed_ratio(processor["cold"], processor["bare"]),
        },
    }


def _processor_seconds() -> float:
    """Of this process and those that it has started."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)
