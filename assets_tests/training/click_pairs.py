"""A tiny real training set: click's functions, each with the first paragraph of its own documentation."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.encoders.encoder import Encoder
from pipeline.feedback.grouping import group_key
from pipeline.training.pairs import Negative, Pair, Split, TrainingSet


def content_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def documented() -> tuple[tuple[str, str], ...]:
    """(documentation, code without it) of click's functions, each documentation and each code once."""
    spec = importlib.util.find_spec("click")
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, str] = {}
    for file in sorted(Path(spec.origin).parent.glob("*.py")):
        source = file.read_text("utf-8")
        lines = source.split("\n")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
                continue
            lead = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            documentation = node.body[0]
            head = lines[node.lineno - 1 : documentation.lineno - 1]
            code = "\n".join([*head, *lines[documentation.end_lineno or 0 : node.end_lineno]])
            if len(lead.split()) >= 4 and code not in found.values():
                found.setdefault(lead, code)
    return tuple(sorted(found.items()))


def plain_pairs(count: int, split: Split, start: int = 0) -> list[Pair]:
    """`count` pairs without negatives."""
    chosen = documented()[start : start + count]
    assert len(chosen) == count
    return [
        Pair(
            id=number,
            split=split,
            origin="docstring",
            query=query,
            positive_hash=content_hash(code),
            positive_text=code,
            weight=1.0,
            language="python",
            group_key=group_key(query),
        )
        for number, (query, code) in enumerate(chosen, start)
    ]


def make_pairs(encoder: Encoder, count: int, split: Split, start: int = 0) -> list[Pair]:
    """`count` pairs, each with the nearest other function as its negative, but for every fourth."""
    pairs = plain_pairs(count, split, start)
    queries = encoder.embed_queries([pair.query for pair in pairs])
    scores = queries @ encoder.embed_documents([pair.positive_text for pair in pairs]).T
    for i in range(count):
        if i % 4:
            j = max((j for j in range(count) if j != i), key=lambda j: float(scores[i, j]))
            own, other = pairs[i], pairs[j]
            negative = Negative(
                other.positive_hash, other.positive_text, "mined", float(scores[i, i]), float(scores[i, j])
            )
            pairs[i] = replace(own, negatives=(negative,))
    return pairs


def make_set(pairs: Sequence[Pair]) -> TrainingSet:
    name = hashlib.sha256(repr(pairs).encode()).hexdigest()
    return TrainingSet(7, name, name, "0" * 64, {}, tuple(pairs))
