"""Every benchmark of vectors and searches runs to its end at its smallest, and gives figures that can be.

So that a broken one is found here, and not after it was waited for an hour. Timings decide nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from assets_tests.benchmarks import embedding, embedding_throughput, search_growth
from assets_tests.benchmarks.comparing import Found

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
