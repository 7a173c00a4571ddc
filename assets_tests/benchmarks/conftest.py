"""Judgements to try the benchmarks on: written as real ones are, made of click's documented functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets_tests.benchmarks.judged import Judged, read_judged
from assets_tests.evaluation.small_corpus import functions


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Judgements of 40 functions, every fourth of them a rejection of another query's answer."""
    made = tmp_path_factory.mktemp("judged")
    some = functions()
    corpus = [{"id": number, "code": each.undocumented} for number, each in enumerate(some)]
    feedback = [
        {"query": each.documentation, "id": number if number % 4 else (number + 1) % len(some),
         "judgement": "accept" if number % 4 else "reject"}
        for number, each in enumerate(some)
    ]  # fmt: skip
    for name, rows in (("corpus", corpus), ("feedback", feedback)):
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return made


@pytest.fixture(scope="session")
def data(directory: Path) -> Judged:
    return read_judged(directory)
