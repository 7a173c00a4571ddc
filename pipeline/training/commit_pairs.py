"""Pairs out of commits: what a commit says, and the functions it changed, as they are now.

The content is the one of now, because only that has a vector and can be found by a search. A function that
has become another since (its tokens overlap too little with what the commit left) is no longer what the
message is about, and is left out. One that was moved is recognised by its name and its likeness.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config import Settings
from pipeline.feedback.grouping import group_key
from pipeline.store.connections import Connection
from pipeline.training import commit_store, store
from pipeline.training.commit_store import CommitFunction, LiveFunction
from pipeline.training.near_duplicates import overlap, tokens_of
from pipeline.training.pairs import Candidate
from pipeline.training.splits import split_of_group

# In a function of up to so many lines any change is what the commit is about.
SHORT_LINES = 25
# The same words on this many commits ("Fix the build on Windows") say nothing of any one of them.
REPEATED = 4

Places = Mapping[tuple[int, str], Sequence[LiveFunction]]


def commit_candidates(connection: Connection, settings: Settings) -> tuple[list[Candidate], Counter[str]]:
    """One candidate for each function of each commit, and how many functions were left out, by reason.

    A commit's weight is shared by its candidates: one that changed three functions says less of each.
    """
    dropped: Counter[str] = Counter()
    if settings.max_commits == 0:
        return [], dropped
    places: defaultdict[tuple[int, str], list[LiveFunction]] = defaultdict(list)
    for live in commit_store.live_functions(connection):
        places[live.repository_id, live.symbol].append(live)
    commits: defaultdict[tuple[int, str], list[CommitFunction]] = defaultdict(list)
    for function in commit_store.commit_functions(connection):
        commits[function.repository_id, function.commit_id].append(function)
    keys = {commit: group_key(functions[0].query) for commit, functions in commits.items()}
    # The same commit may have come in by several repositories: other refs, forks.
    sharing = Counter(key for key, _ in {(key, commit_id) for (_, commit_id), key in keys.items()})
    chosen: list[tuple[CommitFunction, LiveFunction, float, int, frozenset[bytes]]] = []
    for commit, functions in commits.items():
        if sharing[keys[commit]] >= REPEATED:
            dropped["a message of many commits"] += sum(not function.aside for function in functions)
            continue
        matched: dict[bytes, tuple[CommitFunction, LiveFunction, float]] = {}
        beside: set[bytes] = set()
        for function in functions:
            live, likeness = _now(function, places)
            if function.aside:
                if live is not None and likeness >= settings.min_commit_likeness:
                    beside.add(live.content_hash)
                continue
            reason = _unfit(function, live, likeness, settings)
            if live is not None and reason is None:
                matched.setdefault(live.content_hash, (function, live, likeness))
                continue
            dropped[reason or "the function is gone"] += 1
            if live is not None:
                beside.add(live.content_hash)  # it is no positive, but it is no negative either
        beside -= matched.keys()
        chosen += [
            (function, live, likeness, len(matched), frozenset(beside))
            for function, live, likeness in matched.values()
        ]
    texts = store.contents(connection, sorted({live.content_hash for _, live, *_ in chosen}))
    candidates: list[Candidate] = []
    for function, live, likeness, count, others in chosen:
        key = keys[function.repository_id, function.commit_id]
        content = texts[live.content_hash]
        candidates.append(
            Candidate(
                origin="commit",
                query=function.query,
                group_key=key,
                split=split_of_group(key, settings),
                content_hash=live.content_hash,
                text=content.text,
                code=content.code,
                weight=settings.commit_weight / count,
                language=live.language,
                unsure=others,
                because=_because(function, live, likeness, count),
            )
        )
    return candidates, dropped


def _now(function: CommitFunction, places: Places) -> tuple[LiveFunction | None, float]:
    """What a function has become, and how like it is: the one at its place, else the likest of its name."""
    tokens = tokens_of(function.code)
    best: tuple[float, LiveFunction] | None = None
    for live in places.get((function.repository_id, function.symbol), ()):
        likeness = overlap(tokens, tokens_of(live.code))[1]
        if live.path == function.path:
            return live, likeness
        if best is None or (likeness, best[1].path) > (best[0], live.path):
            best = likeness, live
    return (None, 0.0) if best is None else (best[1], best[0])


def _unfit(
    function: CommitFunction, live: LiveFunction | None, likeness: float, settings: Settings
) -> str | None:
    """Why a function makes no pair; None if it does."""
    if live is None:
        return "the function is gone"
    if likeness < settings.min_commit_likeness:
        moved = live.path != function.path
        return "the function is gone" if moved else "the function has become another"
    is_long = function.code.count("\n") >= SHORT_LINES
    return "a detail of a long function" if is_long and function.change < settings.min_commit_change else None


def _because(function: CommitFunction, live: LiveFunction, likeness: float, count: int) -> dict[str, Any]:
    return {
        "repository": function.repository,
        "commit": function.commit_id[:12],
        "path": live.path,
        "symbol": live.symbol,
        "functions": count,
        "changed": round(function.change, 3),
        "likeness": round(likeness, 3),
    }
