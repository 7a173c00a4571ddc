"""The throughput benchmark runs, and what it compares is equal. Its timings decide nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets_tests.benchmarks import embedding_throughput


@pytest.mark.slow
def test_it_compares_equal_vectors_and_writes_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    status = embedding_throughput.main(
        ["--texts", "10", "--repetitions", "1", "--batch-sizes", "4,16", "--json", str(file)]
    )
    report = json.loads(file.read_text(encoding="utf-8"))
    assert status == 0
    assert report["max_abs_difference"] <= embedding_throughput.LARGEST_DIFFERENCE
    assert [(each["name"], each["batch_size"]) for each in report["timings"]] == [
        ("SentenceTransformer.encode", 4),
        ("Encoder.embed_documents", 4),
        ("SentenceTransformer.encode", 16),
        ("Encoder.embed_documents", 16),
    ]
    assert report["texts"] == 10
    (ceilings,) = report["matmul_gigaflops_of_rounds"]  # in turn with the others, once in each repetition
    assert report["matmul_gigaflops"] == ceilings
    for each in report["timings"]:
        assert each["share"] == pytest.approx(each["gigaflops"] / max(ceilings.values()))
    assert report["machine"]["torch"]
    assert "10 functions" in capsys.readouterr().out


def test_operations_are_counted_as_the_formula_says() -> None:
    class Config:
        hidden_size = 2
        intermediate_size = 8
        num_hidden_layers = 3

    # Per layer and token: 2·(4·4 + 2·16) for the weights, 4·length·2 for attention.
    assert embedding_throughput.floating_point_operations(Config(), [1, 5]) == 3 * (96 + 8 + 5 * 96 + 200)


def test_the_texts_are_real_and_always_the_same() -> None:
    found = embedding_throughput.functions()
    assert len(found) > 1000
    assert list(found) == sorted(set(found))
    assert all("def " in text for text in found)
