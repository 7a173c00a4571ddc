"""The benchmarks of `make bench` run, compute ratios and write them down. Timings decide nothing here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from assets_tests.benchmarks import (
    __main__,
    comparing,
    dagster_overhead,
    environment,
    extraction,
    fine_tuning,
    index_runs,
    indexing,
    installed_files,
    machine,
    reindexing,
)
from assets_tests.benchmarks.comparing import Comparison, Found, Goal
from assets_tests.benchmarks.installed_files import files_by_language
from pipeline.config import Settings
from pipeline.corpus.languages import Language, get_language


def said(found: Found) -> dict[str, float]:
    """The ratios by what they are of, each a number."""
    ratios = {line.what: line.ratio for line in found.lines if line.ratio is not None}
    assert all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios.values())
    json.dumps(found.to_json())  # all of it can be written down
    return ratios


def test_ways_take_turns_and_a_ratio_is_the_median_of_the_rounds() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = comparing.in_turns(ways, 3)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert comparing.speed_ratio([1.0, 2.0, 4.0], [2.0, 2.0, 40.0]) == 2.0


def test_what_is_done_before_a_way_is_not_timed() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}

    def before() -> None:
        calls.append("-")
        time.sleep(0.05)

    seconds = comparing.in_turns(ways, 2, before={"b": before})
    assert "".join(calls) == "a-b" + "a-b" + "-ba"
    assert max(seconds["b"]) < 0.05


def test_goals_are_met_or_missed() -> None:
    assert Goal(0.5).met(0.5)
    assert not Goal(0.5).met(0.49)
    assert Goal(1.3, "at most").met(1.3)
    assert not Goal(1.3, "at most").met(1.31)
    assert Comparison("a", "1", "2", 0.5, Goal(1.0)).to_json()["met"] is False
    assert Comparison("a", "1").to_json()["met"] is None


def test_a_process_of_its_own_gives_its_result_and_its_memory() -> None:
    done = comparing.alone(math.hypot, 3.0, 4.0)
    assert done.result == 5.0
    assert 0 < done.peak_mb < 500
    assert done.whole_seconds > 0
    assert done.tree_peak_mb == 0  # nobody watched


def test_the_memory_of_processes_that_were_started_counts() -> None:
    code = "import time; held = b'x' * 150_000_000; time.sleep(2)"
    done = comparing.alone(subprocess.call, [sys.executable, "-c", code], watched=True)
    assert done.result == 0
    assert done.tree_peak_mb > 150
    assert done.tree_peak_mb > done.peak_mb + 100


def test_seconds_of_a_stage_within_another_count_once() -> None:
    watch = index_runs.Stopwatch()
    with watch.stage("Embedding with minilm"):
        with watch.stage("Loading minilm"):
            time.sleep(0.05)
        time.sleep(0.02)
    assert watch.seconds["Loading"] >= 0.05
    assert watch.seconds["Embedding"] >= 0.02
    assert watch._within == []


def test_an_absent_peer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HONELOOP_COCOINDEX_PYTHON", raising=False)
    assert "names no interpreter" in (comparing.Peer.absence() or "")
    monkeypatch.setenv("HONELOOP_COCOINDEX_PYTHON", str(tmp_path / "python"))
    assert "not there" in (comparing.Peer.absence() or "")


@pytest.mark.slow
def test_the_files_are_real_and_always_the_same() -> None:
    files = files_by_language(100_000, only="python")["python"]
    assert files == files_by_language(100_000, only="python")["python"]
    assert sum(path.stat().st_size for path in files) >= 100_000
    small = files_by_language(100_000, only="python", largest=5_000)["python"]
    assert max(path.stat().st_size for path in small) <= 5_000 < max(path.stat().st_size for path in files)


def test_machine_and_versions_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HONELOOP_COCOINDEX_PYTHON", raising=False)
    said = machine.machine()
    assert all(value not in {"", None} for value in said.values())
    assert 0.5 < said["memory_gb"] < 100_000
    assert json.dumps(said)
    for name in ("postgres", "pgvector", "dagster", "tree-sitter", "sentence-transformers", "onnxruntime"):
        assert said[name][0].isdigit()
    assert said["cocoindex"] == "not measured"
    assert said["commit"] == "not a checkout" or len(said["commit"].removesuffix("+dirty")) == 40
    monkeypatch.setattr(machine, "PROJECT_ROOT", tmp_path)
    assert machine.commit() == "not a checkout"


def test_directories_of_other_languages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / ".git").mkdir()
    function = "func Add(a int, b int) int {\n\treturn a + b\n}\n\n"
    for name in ("add.go", "tests/add_test.go", ".git/hidden.go"):
        (tmp_path / name).write_text("package add\n\n" + function * 1000, "utf-8")
    header = "namespace one {\nclass Two;\n}\n"
    (tmp_path / "two.h").write_text(header * 4000, "utf-8")
    monkeypatch.setenv(environment.ROOTS, str(tmp_path))
    found = files_by_language(100_000, tmp_path / "tests", more=installed_files.named_roots())
    assert {path.name for path in found["go"]} == {"add.go", "add_test.go"}
    assert [path.name for path in found["cpp"]] == ["two.h"]
    assert found.keys() == {"cpp", "go"}
    monkeypatch.setenv(environment.ROOTS, str(tmp_path / "nothing"))
    with pytest.raises(NotADirectoryError, match="nothing"):
        installed_files.named_roots()


def test_extraction_and_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {"python": files_by_language(60_000, only="python")["python"]}
    monkeypatch.setattr(extraction, "files_by_language", lambda *_, **__: some)
    monkeypatch.setitem(extraction.ROUNDS, "quick", 1)
    made: list[Language] = []
    ready = extraction.ready
    monkeypatch.setattr(extraction, "ready", lambda language: made.append(language) or ready(language))
    assert __main__.main(["--only", "extraction", "--results", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.json")
    written = json.loads(file.read_text("utf-8"))
    assert written["machine"]["torch"]
    assert written["load_average"]
    assert written["size"] == "quick"
    found: dict[str, Any] = written["benchmarks"]["extraction"]
    figures = found["details"]["python"]
    assert figures["ratios"].keys() == {"bare", "warm", "processor"}
    # The warm-up is in no figure, and cold is a pool of each round: one is warm, two were cold.
    for seconds in (figures["seconds"], figures["processor_seconds"]):
        assert {way: len(each) for way, each in seconds.items()} == {"cold": 1, "warm": 1, "bare": 1}
    assert len(made) == 3
    assert figures["snippets"] > 50
    bare = found["lines"][0]
    assert bare["ratio"] == figures["ratios"]["bare"]
    assert bare["goal"] == "≥ 0.5"
    assert bare["met"] is (bare["ratio"] >= 0.5)
    shown = capsys.readouterr().out
    assert "extraction of python" in shown
    assert "cocoindex: not measured" in shown
    assert "rust" in found["details"]["not measured"]
    assert "not measured: less than 500 kB" in shown
    assert file.name in shown


def test_a_benchmark_that_fails_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: str) -> Found:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(extraction, "run", broken)
    monkeypatch.setattr(reindexing, "run", lambda _: Found([Comparison("reindexed", "1 s", "2 s", 2.0)]))
    asked = ["--only", "extraction", "reindexing", "--results", str(tmp_path)]
    assert __main__.main(asked) == 1
    (file,) = tmp_path.glob("*.json")
    written = json.loads(file.read_text("utf-8"))["benchmarks"]
    assert written["extraction"]["details"]["failed"] == "RuntimeError: the disk is full"
    assert written["reindexing"]["lines"][0]["ratio"] == 2.0
    shown = capsys.readouterr().out
    assert "failed: RuntimeError: the disk is full" in shown
    assert "reindexed" in shown


def test_the_processes_of_a_cold_pool_have_started() -> None:
    with extraction.ready(get_language("python")) as pool:
        assert len({cutter._process.pid for cutter in pool._cutters if cutter._process}) == pool._count


def test_the_plain_model_has_nothing_of_honeloops_and_as_little_dropout() -> None:
    model = fine_tuning.plain_model()
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert {type(module) for module in linears} == {nn.Linear}
    assert len(linears) >= 36  # six for each of MiniLM's six layers
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0}
    assert Settings().dropout == fine_tuning.DROPOUT == 0.0


@pytest.mark.slow
def test_both_trainers_are_watched_and_learn_from_the_same_pairs() -> None:
    ours, plain = (fine_tuning.train(who, 8) for who in ("honeloop", "plain"))
    assert ours["pairs"] == plain["pairs"] == 8
    assert ours["steps"] == plain["steps"] == 1
    # Texts that stand in a batch twice are embedded once here, so there may be fewer.
    assert 0.9 * plain["useful"] <= ours["useful"] <= plain["useful"]
    assert ours["useful"] <= ours["computed"] < plain["computed"]
    assert ours["start_seconds"] > 0
    assert ours["step_seconds"] > 0


@pytest.mark.slow
def test_fine_tuning() -> None:
    ratios = said(fine_tuning.measure(40, 1))
    assert len(ratios) == 4


@pytest.mark.slow
def test_indexing() -> None:
    found = indexing.measure(20_000)
    said(found)
    for corpus in ("small", "large"):
        runs = {name: only["result"] for name, (only,) in found.details[corpus]["honeloop"].items() if only}
        assert runs["from nothing"]["embedded"] > 10
        assert runs["nothing changed"]["embedded"] == 0
        assert runs["nothing changed"]["action"] == "reused"
        changed = runs["1% changed"]
        assert 1 <= changed["files_parsed"] <= 3
        assert 1 <= changed["embedded"] <= 3 * changed["files_parsed"]
    small, large = (found.details[corpus]["honeloop"]["from nothing"][0] for corpus in ("small", "large"))
    assert large["result"]["snippets"] > 5 * small["result"]["snippets"]
    for each in (small, large):
        # Of the one process alone, mapped files count whole; together, what is shared counts once.
        assert 0.3 * each["peak_mb"] < each["tree_peak_mb"] < 10 * each["peak_mb"]
    assert any(line.what.startswith("the fixed start") for line in found.lines)


@pytest.mark.slow
def test_reindexing() -> None:
    ratios = said(reindexing.measure(600, 40, 2))
    assert len(ratios) == 5


@pytest.mark.slow
def test_dagster_overhead() -> None:
    found = dagster_overhead.measure(20_000, 1)
    assert len(said(found)) == 2
    # Three assets, and seven checks of them.
    assert found.details["steps"] == {"in process": 10, "multiprocess": 10}
