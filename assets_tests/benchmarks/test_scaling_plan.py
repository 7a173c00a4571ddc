"""The plan: its page says what it prints, and its sizes are those of a real Postgres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assets_tests.benchmarks.scaling_plan import (
    MODELS,
    Model,
    assumptions,
    bits,
    gpu_hours,
    halfvec,
    heap_row,
    hnsw_row,
    key_row,
    page,
    plan,
)
from pipeline.store.connections import Database

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
ROWS = 1500


def test_the_page_holds_what_the_script_prints() -> None:
    assert page(assumptions([])) in PAGE.read_text(encoding="utf-8")


def test_what_is_multiplied_with_is_assumed() -> None:
    """Each of these was a number in the code once, which nobody could assume otherwise."""
    usual = assumptions([])

    def column(model: Model, *changes: str) -> dict[str, str]:
        return plan(100_000_000, model, assumptions(changes))

    for model in MODELS:
        doubled = f"{model.name}_parameters={2 * usual[f'{model.name}_parameters']}"
        assert gpu_hours(1e8, model, assumptions([doubled])) == pytest.approx(
            2 * gpu_hours(1e8, model, usual)
        )
    minilm, qodo = MODELS
    assert column(minilm)["that memory"] == "$871 a month; signs $265"
    assert column(minilm, "hours_a_month=365")["that memory"] == "$436 a month; signs $133"
    assert column(minilm, "generations=3")["disk in all"] == "1.0 TB, $83 a month"
    # 848 bytes of an element, 398 of neighbours: six to a page.
    assert column(minilm, "hnsw_m=32")["HNSW of halfvec: memory to serve from"] == "136.5 GB"
    assert column(minilm, "hnsw_m=32")["HNSW build, 32 cores a server"] == "5.7 h"
    # 119.7 hours of one.
    assert column(qodo)["GPUs to re-embed in 8 h"] == "15"
    assert column(qodo, "reembed_hours=24")["GPUs to re-embed in 24 h"] == "5"
    assert column(minilm)["GPUs to re-embed in 8 h"] == "1"


def test_another_assumption_changes_what_rests_on_it() -> None:
    usual, slower = page(assumptions([])), page(assumptions(["gpu_share_of_peak=0.15", "gpu=H100"]))
    assert "| H100 |" in slower
    assert [line for line in usual.splitlines() if "full re-embed" in line] != [
        line for line in slower.splitlines() if "full re-embed" in line
    ]
    assert [line for line in usual.splitlines() if "HNSW of" in line] == [
        line for line in slower.splitlines() if "HNSW of" in line
    ]


@pytest.mark.parametrize("change", ["gpus=2", "gpu=abacus", "text_bytes=many", "text_bytes=-1", "text_bytes"])
def test_what_cannot_be_assumed_is_refused(change: str) -> None:
    with pytest.raises(SystemExit, match=r"assumption|none of|needs a number|above 0"):
        assumptions([change])


@pytest.mark.parametrize("dims", [384, 1536, 2560])
def test_rows_take_what_the_formulas_say(db: Database, dims: int) -> None:
    """Random vectors: what a row takes does not depend on what is in it."""
    vectors = np.random.default_rng(17).standard_normal((ROWS, dims), dtype=np.float32)
    with db.connect(autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE t (content_hash bytea NOT NULL,"
            f" embedding halfvec({dims}) STORAGE PLAIN NOT NULL)".encode()
        )
        with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for number, vector in enumerate(vectors):
                digits = ",".join(f"{value:.3f}" for value in vector)
                copy.write_row((f"\\x{number:064x}", f"[{digits}]"))
        connection.execute("VACUUM t")  # pages that COPY has in reserve
        connection.execute("ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY (content_hash)")
        connection.execute("CREATE INDEX h ON t USING hnsw (embedding halfvec_cosine_ops)")
        connection.execute(
            "CREATE INDEX b ON t USING hnsw ((binary_quantize(embedding)::bit("
            f"{dims})) bit_hamming_ops)".encode()
        )
        row = connection.execute(
            "SELECT pg_relation_size('t'), pg_relation_size('k'), pg_relation_size('h'),"
            " pg_relation_size('b')"
        ).fetchone()
    assert row is not None
    expected = (heap_row(dims), key_row(), hnsw_row(halfvec(dims)), hnsw_row(bits(dims)))
    for measured, formula in zip(row, expected, strict=True):
        # A few pages are there however few the rows are.
        assert measured / ROWS == pytest.approx(formula, rel=0.06, abs=3 * 8192 / ROWS)
