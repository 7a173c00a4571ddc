"""Benchmarks of vectors, searches and screened ideas run to their end at their smallest, and give figures
that can be.

So that a broken one is found here, and not after it was waited for an hour. Timings decide nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from assets_tests.benchmarks import (
    embedding,
    embedding_throughput,
    filtered_search,
    index_build,
    quantised_search,
    screened_ideas,
    search_growth,
    search_latency,
    two_nodes,
)
from assets_tests.benchmarks.big_corpus import near_duplicate_noise
from assets_tests.benchmarks.comparing import Found
from assets_tests.benchmarks.real_vectors import RealVectors

pytestmark = pytest.mark.slow


def ratios(found: Found) -> list[float]:
    """Each a number; all of it can be written down."""
    json.dumps(found.to_json())
    made = [line.ratio for line in found.lines if line.ratio is not None]
    assert all(math.isfinite(ratio) and ratio >= 0 for ratio in made)
    return made


def test_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(embedding_throughput.functions()[:8])
    found = embedding.measured(texts, (4, 8), 1)
    assert len(ratios(found)) == 6
    # Equal texts are computed once, so five times as many take hardly longer.
    assert next(line for line in found.lines if "5 times each" in line.what).ratio > 1  # type: ignore[operator]
    assert found.details["max_abs_difference"] <= embedding_throughput.LARGEST_DIFFERENCE
    monkeypatch.setattr(embedding, "ONNX_LIBRARIES", ("no_such_library",))
    with embedding.exported() as exports:
        assert exports is None
    assert "honeloop[onnx]" in embedding.not_measured()


def test_search_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    search_growth.main(
        ["--rows", "100", "400", "1000", "--embedded", "60", "--searches", "12", "--json", str(file)]
    )
    growth = json.loads(file.read_text("utf-8"))["details"]["growth"]
    assert [each["rows"] for each in growth] == [100, 400, 1000]
    for each in growth:
        assert 0.5 <= each["recall_at_10"] <= 1
        assert sum(each["shares"].values()) == pytest.approx(1)
        assert all(rate > 0 for rate in each["per_second"].values())
        assert each["milliseconds"]["whole"]["p50"] <= each["milliseconds"]["whole"]["p99"]
    shown = capsys.readouterr().out
    assert "1,000" in shown
    assert "p50 / p95 / p99" in shown


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where vectors of a few functions are kept, made once for all tests that take them as `RealVectors`."""
    return tmp_path_factory.mktemp("vectors") / "vectors.npz"


def test_quantised_search(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONELOOP_INDEX_BUILD_WORKERS", "1")
    file = tmp_path / "figures.json"
    quantised_search.main(
        ["--rows", "300", "--embedded", "60", "--candidates", "20", "--cuts", "2", "--cache", str(cache),
         "--json", str(file)]
    )  # fmt: skip
    written = json.loads(file.read_text("utf-8"))
    assert (written["rows"], written["embedded"], written["workers"]) == (300, 60, 1)
    assert written["machine"]["pgvector"]
    whole, half, signs = written["figures"]
    assert [each["way"] for each in written["figures"]] == ["whole vectors", "first 192 dimensions", "signs"]
    assert (whole["index_share"], whole["times_whole"]) == (1, 1)
    assert 1 > half["index_share"] > signs["index_share"] > 0
    assert all(0.5 < each["recall_at_10"] <= 1 for each in written["figures"])
    assert all(each["megabytes"] > 0 for each in written["figures"])
    assert "of whole's" in capsys.readouterr().out


def test_copies_of_vectors_are_near_their_originals_as_near_duplicates_are(cache: Path) -> None:
    real: RealVectors = quantised_search.real_vectors(60, cache)
    hashes, vectors = quantised_search.spread(real, 200)
    assert len(set(hashes)) == 200
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    assert (vectors[:60] == pytest.approx(real.vectors, abs=1e-6)) is True
    cosine = (vectors[60:] * real.vectors[np.arange(60, 200) % 60]).sum(axis=1)
    assert 0.85 < cosine.min() <= cosine.max() < 1
    # Not in all directions: each difference is one that two real vectors have.
    assert np.linalg.matrix_rank(near_duplicate_noise(real.vectors), tol=1e-3) < 60


def test_filtered_search(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filtered_search.main(["--functions", "60", "--cache", str(cache)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (1 + len(filtered_search.SHARES))
    assert all("relaxed_order x4" in line for line in lines)


def test_index_build(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index_build.main(["--functions", "60", "--cache", str(cache)])
    said = capsys.readouterr().out
    assert said.count("recall@10 1.0000") == 3


@pytest.mark.parametrize("corpus", [["--snippets", "120"], ["--rows", "120"]], ids=["snippets", "rows"])
def test_search_latency(corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    search_latency.main([*corpus, "--embedded", "60", "--queries", "8", "--json", str(file)])
    found = json.loads(file.read_text("utf-8"))
    assert found["snippets"] == 120
    alone = found["by meaning alone"]
    assert alone["1 client"]["per_second"] > 0
    assert alone["filter path, none, no encoding"]["least_results"] == 0
    hybrid = [name for name in found if name.startswith("words count")]
    assert len(hybrid) == (1 if corpus[0] == "--snippets" else 0)
    assert ("encode" in alone["parts, 1 client"]) is bool(hybrid)
    assert "p95_ms" in capsys.readouterr().out


@pytest.mark.timeout(3600)
def test_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    monkeypatch.setattr(two_nodes, "CHUNK", 8)
    file = tmp_path / "figures.json"
    two_nodes.main(["--functions", "120", "--json", str(file)])
    alone, both, killed = json.loads(file.read_text("utf-8"))["figures"]
    for each in (alone, both, killed):
        assert (each["texts"], each["missing"], each["twice"]) == (120, 0, 0)
        assert each["largest_difference"] < 1e-5
    assert both["by_second"] > 0
    assert (both["anew"], killed["anew"] > 0) == (0, True)


def test_screened_ideas(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    screened_ideas.main(
        ["--data", str(directory), "--seeds", "17", "--documentation", "5", "--set", "min_pairs=10",
         "--json", str(file)]
    )  # fmt: skip
    [run] = json.loads(file.read_text("utf-8"))["runs"]
    base = run["arms"].pop("base")
    assert len(run["arms"]) == len(screened_ideas.PROMPTS) + 3 + 4 + 7
    assert base["over base"]["mean"] == 0
    for arm, each in run["arms"].items():
        assert 0 < each["ndcg@10"] <= 1
        assert each["over base"]["mean"] == pytest.approx(each["ndcg@10"] - base["ndcg@10"])
        assert (each["searched over base"] is None) == ("prompt" in arm or "teacher" in arm)
    shown = capsys.readouterr().out
    assert all(arm in shown for arm in run["arms"])
