"""An index from nothing, after 1% of the files changed, and with nothing changed; against cocoindex.

All of it for a corpus and for one of ten times its size. Each run is a process of its own, as `honeloop
index` is: start, extraction, embedding, HNSW, its recall. The peer (`peers/cocoindex_indexing.py`) does with
the same files, weights and Postgres what its example does. The two cut code differently, so beside the time
stands how much each embedded.

A run in which little changed has a fixed start that no corpus shrinks: a process, torch, the model. It is
measured on its own, in turn with the runs.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from assets_tests.benchmarks.comparing import Alone, Comparison, Found, Goal, Peer, Size, alone
from assets_tests.benchmarks.index_runs import change, copied, index, indexed_by_peer, registered, start

# Bytes of Python; a snippet takes some 600. The larger corpus has ten times as many.
BYTES: dict[Size, int] = {"quick": 120_000, "full": 3_000_000}
REPEATED: dict[Size, int] = {"quick": 1, "full": 3}  # the runs in which little or nothing changed
TIMES = 10
LEAST_SHARE = 0.02  # of the time, for a stage to have a line
CHANGED_GOAL = Goal(0.02, "at most")
NOTHING_GOAL = Goal(2.0, "at most")
MEMORY_GOAL = Goal(1.3, "at most")


@dataclass
class Runs:
    """All runs over one corpus: ours, the peer's if there is one, and of what each begins with.

    Args:
        files: Of the corpus.
        ours: By what had changed; one or several of each.
        peers: Likewise; empty without a peer.
        starts: Of `start`.
        changed: How many files were changed each time.
    """

    files: int
    ours: dict[str, list[Alone]] = field(default_factory=dict[str, list[Alone]])
    peers: dict[str, list[Alone]] = field(default_factory=dict[str, list[Alone]])
    starts: list[Alone] = field(default_factory=list[Alone])
    changed: int = 0

    def ran(self, name: str, ways: Mapping[str, Callable[[], Alone]], turn: int) -> None:
        """Runs each way once, every second time backwards."""
        for who in ways if turn % 2 == 0 else reversed(list(ways)):
            runs = self.ours if who == "ours" else self.peers
            runs.setdefault(name, []).append(ways[who]())

    @property
    def snippets(self) -> int:
        """Of the corpus, when it was indexed from nothing."""
        return self.ours["from nothing"][0].result["snippets"]

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        named = {"honeloop": self.ours, "cocoindex": self.peers, "start": {"": self.starts}}
        return {
            who: {name: [vars(each) for each in some] for name, some in runs.items()}
            for who, runs in named.items()
        }


def run(size: Size) -> Found:
    """All of it."""
    return measure(BYTES[size], REPEATED[size])


def measure(most_bytes: int, repeated: int = 1) -> Found:
    """See the module."""
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as scratch:
        absence = Peer.absence()
        small, large = (
            _corpus(Path(scratch) / name, most, repeated, peer=absence is None)
            for name, most in (("small", most_bytes), ("large", TIMES * most_bytes))
        )
    found = Found([*_lines(small), *_lines(large), *_growth(small, large)])
    if absence is not None:
        found.lines.append(Comparison("index", "", absence))
    found.details = {"small": small.to_json(), "large": large.to_json()}
    return found


def _corpus(place: Path, most_bytes: int, repeated: int, *, peer: bool) -> Runs:
    """Indexed from nothing, then again and again with nothing and with 1% of its files changed."""
    files = copied(most_bytes, place / "code")
    runs = Runs(len(files))
    with registered(place / "home", place / "code") as home:

        def ways(*, anew: bool) -> dict[str, Callable[[], Alone]]:
            own: dict[str, Callable[[], Alone]] = {"ours": partial(alone, index, str(home), watched=True)}
            if peer:
                own["peer"] = partial(indexed_by_peer, home, place / "code", anew=anew)
            return own

        runs.ran("from nothing", ways(anew=True), 0)
        for turn in range(repeated):
            runs.ran("nothing changed", ways(anew=False), turn + 1)
            runs.changed = change(files, turn)
            runs.ran("1% changed", ways(anew=False), turn)
            runs.starts.append(alone(start))
    return runs


def _seconds(runs: Sequence[Alone]) -> float:
    return statistics.median(each.whole_seconds for each in runs)


def _inside(runs: Sequence[Alone]) -> float:
    """Seconds after the process had started and imported what it needs."""
    return statistics.median(each.result["seconds"] for each in runs)


def _lines(runs: Runs) -> list[Comparison]:
    """Of one corpus."""
    whole, nothing, some = (runs.ours[name] for name in ("from nothing", "nothing changed", "1% changed"))
    corpus = f"{runs.files} files, {runs.snippets:,} snippets"
    changed = f"{runs.changed} file{'' if runs.changed == 1 else 's'}"
    fixed = _seconds(runs.starts)
    beyond = _seconds(some) - fixed
    embedded = max(each.result["embedded"] for each in some)
    texts = whole[0].result["embedded"]
    return [
        Comparison(
            f"index from nothing: {corpus}",
            f"{_seconds(whole):.1f} s, {texts:,} texts embedded",
            *_beside(runs, "from nothing", chunks=True),
        ),
        *_stages(whole[0], corpus),
        Comparison(
            f"nothing changed: {corpus}", f"{_seconds(nothing):.1f} s", *_beside(runs, "nothing changed")
        ),
        Comparison(
            "the same: seconds after the start",
            f"{_inside(nothing):.1f} s",
            f"start {_seconds(nothing) - _inside(nothing):.1f} s",
            _inside(nothing),
            NOTHING_GOAL,
        ),
        Comparison(
            f"{changed} changed: {corpus}",
            f"{_seconds(some):.1f} s, {embedded} texts embedded",
            *_beside(runs, "1% changed"),
        ),
        Comparison("the fixed start: a process, torch, the model, one vector", f"{fixed:.1f} s"),
        Comparison(
            f"{changed} changed, beyond the fixed start, as a share of the whole",
            f"{beyond:.1f} s",
            f"{_seconds(whole):.1f} s",
            max(beyond, 0.0) / _seconds(whole),
            CHANGED_GOAL,
        ),
        Comparison(
            f"{changed} changed: texts embedded, as a share of all",
            f"{embedded}",
            f"{texts:,}",
            embedded / texts,
            CHANGED_GOAL,
        ),
        *_memory_beside(runs, corpus),
    ]


def _stages(whole: Alone, corpus: str) -> list[Comparison]:
    """Where the time goes; "start" is the process and its imports."""
    stages = {**whole.result["stages"], "start": whole.whole_seconds - whole.result["seconds"]}
    stages["everything else"] = whole.whole_seconds - sum(stages.values())
    return [
        Comparison(
            f"{corpus}: {stage}", f"{took:.1f} s", "share of the whole", max(took, 0.0) / whole.whole_seconds
        )
        for stage, took in sorted(stages.items(), key=lambda each: -each[1])
        if took >= LEAST_SHARE * whole.whole_seconds
    ]


def _beside(runs: Runs, name: str, *, chunks: bool = False) -> tuple[str, float | None]:
    """What the peer took, and how many times as long as Honeloop that is: the median of the turns."""
    if name not in runs.peers:
        return "", None
    peers = runs.peers[name]
    said = f"cocoindex {_seconds(peers):.1f} s"
    if chunks:
        said += f", {peers[0].result['chunks']:,} chunks"
    ratios = (
        theirs.whole_seconds / own.whole_seconds for theirs, own in zip(peers, runs.ours[name], strict=True)
    )
    return said, statistics.median(ratios)


def _peaks(
    about: str, one: Alone, other: Alone, *, beside: str, goal: Goal | None = None
) -> list[Comparison]:
    return [
        Comparison(
            f"peak memory of {whose}{about}",
            f"{its:,.0f} MB",
            f"{beside}{others:,.0f} MB",
            its / others,
            goal,
        )
        for whose, its, others in (
            ("the main process", one.peak_mb, other.peak_mb),
            ("all its processes", one.tree_peak_mb, other.tree_peak_mb),
        )
    ]


def _memory_beside(runs: Runs, corpus: str) -> list[Comparison]:
    if not runs.peers:
        return []
    own, theirs = runs.ours["from nothing"][0], runs.peers["from nothing"][0]
    return _peaks(f": {corpus}", own, theirs, beside="cocoindex ")


def _growth(small: Runs, large: Runs) -> list[Comparison]:
    few, many = small.ours["from nothing"][0], large.ours["from nothing"][0]
    return _peaks(
        f" at {large.snippets:,} snippets over {small.snippets:,}", many, few, beside="", goal=MEMORY_GOAL
    )
