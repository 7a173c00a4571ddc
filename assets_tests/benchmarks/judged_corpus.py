"""A home made of judged queries: code, indexed, one half of the judgements imported, the other held out.

`DIRECTORY/corpus.jsonl` has `{"id", "code"}`, `DIRECTORY/feedback.jsonl` `{"query", "id", "judgement"}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository
from pipeline.feedback.importing import import_feedback
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip
from pipeline.training.training_set import build_training_set
from pipeline.workbench import Workbench

SOURCE = "judged"


def prepare(bench: Workbench, directory: Path) -> Path:
    """Indexes the corpus and imports one half of the judgements; goes on where it was interrupted.

    Which half a query is in, its own hash says.

    Returns:
        The file of held-out queries, as `honeloop evaluate` reads it.
    """
    home = bench.settings.home_path
    code = home / SOURCE
    for line in _lines(directory / "corpus.jsonl"):
        file = code / _path(line["id"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line["code"] + "\n")
    repository = add_repository(bench.db, SOURCE, str(code), "directory")
    extract_repository(bench.db, repository, bench.settings, bench.token_budget(), bench.progress)
    encoder = bench.encoder(bench.base_model())
    embed_missing(bench.db, encoder, bench.settings, bench.progress)
    index = build_index(bench.db, encoder.version, bench.settings, bench.progress)
    flip(bench.db, index.index_version_id, actor="index", reasons=["benchmark"], settings=bench.settings)
    imported, held_out = home / "imported.jsonl", home / "held_out.jsonl"
    _write(imported, _judgements(directory, held_out=False))
    _write(held_out, _relevant(directory))
    import_feedback(bench.db, imported, bench.progress)
    build_training_set(bench.db, encoder, bench.settings, bench.progress)
    return held_out


def _judgements(directory: Path, *, held_out: bool) -> Iterator[dict[str, Any]]:
    for line in _lines(directory / "feedback.jsonl"):
        if (hashlib.sha256(line["query"].encode()).digest()[0] % 2 == 1) == held_out:
            yield {
                "query": line["query"],
                "repository": SOURCE,
                "path": _path(line["id"]),
                "judgement": line["judgement"],
            }


def _relevant(directory: Path) -> Iterator[dict[str, Any]]:
    accepted: dict[str, list[dict[str, str]]] = {}
    for line in _judgements(directory, held_out=True):
        if line["judgement"] == "accept":
            accepted.setdefault(line["query"], []).append({"repository": SOURCE, "path": line["path"]})
    for query, relevant in accepted.items():
        yield {"query": query, "relevant": relevant}


def _path(number: int) -> str:
    return f"part_{number // 100}/f{number}.py"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        yield from map(json.loads, lines)


def _write(file: Path, lines: Iterator[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
