"""The final report of a run: what it collects from a database, and how it reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import StringIO

import pytest
from psycopg.types.json import Jsonb
from rich.console import Console
from typer.testing import CliRunner

from assets_tests.evaluation.made import BASE, CANDIDATE, SERVING, Slice, evaluation, measured
from assets_tests.evaluation.small_corpus import add_functions, functions
from assets_tests.feedback.world import show
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.defs.results import RunResult
from pipeline.encoders.sanity import SanityResult
from pipeline.evaluation.online import record_interleaving
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.run_report import ExampleSearch, RunReport, collect_run_report
from pipeline.evaluation.run_report_view import render_run_report
from pipeline.evaluation.store import find_evaluation, latest_evaluation, save_evaluation
from pipeline.feedback.events import add_feedback
from pipeline.promotion import registry
from pipeline.promotion.deciding import apply_verdict
from pipeline.promotion.gate import GateThresholds, Verdict, decide
from pipeline.promotion.registry import State
from pipeline.promotion.verdicts import list_verdicts
from pipeline.store.connections import Database
from pipeline.training.convergence import convergence_of
from pipeline.training.history import Row

SETTINGS = Settings(bootstrap_resamples=300)
OTHER = "d" * 64
SOUND = [SanityResult(name="finite", passed=True, value=0.0, limit=0.0, message="no NaN")]
BEFORE, AFTER = (
    [Slice([3] * 40), Slice([2] * 20, "feedback")],
    [Slice([1, 1, 3] * 13 + [3]), Slice([1] * 20, "feedback")],
)
EXAMPLES = [
    ExampleSearch(
        "open a file lazily",
        ["click/utils.py LazyFile.open", "click/core.py Context"],
        ["click/core.py Context", "click/types.py File.convert", "click/utils.py LazyFile.open"],
    ),
    ExampleSearch("wrap long lines", ["click/_textwrap.py TextWrapper"], ["click/_textwrap.py TextWrapper"]),
]


HISTORY: list[Row] = [
    {"step": 0, "epoch": 0, "ndcg@10": 0.5, "mrr@10": 0.5, "validation_loss": 1.5},
    *(
        {"step": step, "stage": "all pairs", "epoch": 0, "loss": 2.0 if step <= 8 else 1.0}
        for step in range(1, 17)
    ),
    {"step": 8, "stage": "all pairs", "epoch": 0, "ndcg@10": 0.7, "mrr@10": 0.6, "validation_loss": 1.0},
    {"step": 16, "stage": "all pairs", "epoch": 1, "ndcg@10": 0.6, "mrr@10": 0.6, "validation_loss": 1.2},
]
CONVERGENCE = convergence_of(HISTORY, loss_rise=0.05, metric_drop=0.01)

LINEAGE = {
    "base_version": BASE,
    "seconds": 12.3,
    "device": "cpu",
    "best_step": 8,
    "lora_rank": 0,
    "processes": 2,
    "resumed_at": [4],
    "convergence": CONVERGENCE.to_json(),
    "history": HISTORY,
}


def shown(report: RunReport, width: int) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(render_run_report(report))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@dataclass
class Loop:
    """A database as runs of the loop leave it, step by step."""

    db: Database

    def index(self) -> None:
        add_functions(self.db, functions())
        report = {"files_seen": 17, "snippets_live": 40, "snippets_added": 1240, "snippets_vanished": 2}
        failed = {"failed": True, "problems": ["gone cannot be read: no such host"], "snippets_live": 0}
        with self.db.connect() as connection:
            connection.execute(
                "UPDATE repositories SET report = %s, commit_id = '8.3.1' WHERE name = 'click'",
                [Jsonb(report)],
            )
            connection.execute(
                "INSERT INTO repositories (name, kind, location, report)"
                " VALUES ('gone', 'git', 'https://x', %s)",
                [Jsonb(failed)],
            )
        self.model(BASE, "base", "minilm")
        self.serve(BASE)

    def model(self, version: str, state: State, name: str, base: str | None = None) -> None:
        with self.db.connect() as connection:
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state, base_version)"
                " VALUES (%s, %s, '{}', 384, '/nowhere', %s, %s)",
                [version, name, state, base],
            )

    def serve(self, version: str) -> None:
        """As a flip does, without vectors: the report reads none."""
        with self.db.connect() as connection:
            row = connection.execute(
                "UPDATE index_versions SET state = 'retired' WHERE state = 'serving' RETURNING id"
            ).fetchone()
            connection.execute(
                "INSERT INTO index_versions"
                " (model_version, state, dims, row_count, recall_at_10, previous_id)"
                " VALUES (%s, 'serving', 384, 40, 0.9925, %s)",
                [version, row and row[0]],
            )
            registry.set_state(connection, version, "serving", "index", ["it passed"])

    def train(self, test_feedback: int = 20) -> None:
        some = functions()[:3]
        counts = {"dropped": {"feedback": {"contradiction": 4, "too short": 2, "none of these": 0}}}
        with self.db.connect() as connection:
            row = connection.execute(
                "INSERT INTO training_sets (fingerprint, pairs_fingerprint, model_version, counts, settings)"
                " VALUES ('f', 'p', %s, %s, '{}') RETURNING id",
                [BASE, Jsonb(counts)],
            ).fetchone()
            assert row is not None
            for origin, split, number in (
                ("docstring", "train", 3),
                ("docstring", "test", 40),
                ("feedback", "train", 2),
                ("feedback", "test", test_feedback),
            ):
                for _ in range(number):
                    connection.execute(
                        "INSERT INTO training_pairs (training_set_id, split, origin, query, positive_hash,"
                        " positive_text, weight, language, group_key)"
                        " VALUES (%s, %s, %s, 'q', %s, 'text', 1, 'python', '')",
                        [row[0], split, origin, some[0].content_hash],
                    )
            connection.execute(
                "INSERT INTO training_negatives SELECT id, %s, 'text', 'mined' FROM training_pairs"
                " WHERE split = 'train'",
                [some[1].content_hash],
            )
        self.model(CANDIDATE, "candidate", "minilm-cccccccccccc", BASE)
        with self.db.connect() as connection:
            connection.execute(
                "UPDATE model_versions SET lineage = %s WHERE version = %s", [Jsonb(LINEAGE), CANDIDATE]
            )

    def judge(self, candidate: Evaluation, against: Evaluation, base: Evaluation | None = None) -> Verdict:
        evaluations = (candidate, against, base or against)
        for each in {each.model_version: each for each in evaluations}.values():
            save_evaluation(self.db, each)
        thresholds = GateThresholds.from_settings(SETTINGS)
        verdict = decide(measured(candidate, against, base), thresholds, SOUND)
        apply_verdict(self.db, verdict, candidate.model_version)
        return verdict


@pytest.fixture
def loop(db: Database) -> Loop:
    made = Loop(db)
    made.index()
    return made


@pytest.mark.parametrize("width", [80, 120])
def test_an_approved_run_says_all_of_it_within_the_terminal(loop: Loop, width: int) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(BASE, *BEFORE))
    loop.serve(CANDIDATE)
    report = collect_run_report(loop.db, SETTINGS, EXAMPLES, judged=CANDIDATE)
    text = shown(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "……" not in text
    for said in (
        "A better model serves now: minilm-cccccccccccc",
        "click",
        "distribution",
        "+1,240",
        "−2",
        "not read",
        "! gone: gone cannot be read: no such host",
        "python 40",
        "docstring",
        "feedback",
        "5 mined",
        "Left out of feedback: 4 contradiction, 2 too short",
        "16 steps from bbbbbbbbbbbb in 12 s on cpu, 2 processes, resumed at step 4; ",
        "the weights of step 8 are kept",
        "training loss ████████▁▁▁▁▁▁▁▁ 2.000 → 1.000",
        "validation loss █▁▄ 1.500 → 1.200, lowest at step 8",
        "validation ndcg@10 ▁█▅ 0.500 → 0.600, best at step 8",
        "Overfitting since step 8: the validation loss rose from 1.0000 to 1.2000",
        "60 test queries, each ranking all 1,000 texts",
        "base = serving",
        "nDCG@10",
        "Approved",
        "better beyond chance",
        "384 dims",
        "recall@10 0.993",
        "“open a file lazily”",
        "the same results",
        "new",
        "honeloop rollback",
        "honeloop search",
    ):
        assert said in " ".join(text.split()), said
    assert "none of these" not in text


def test_the_json_says_the_same(loop: Loop) -> None:
    loop.train()
    verdict = loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(BASE, *BEFORE))
    loop.serve(CANDIDATE)
    content = json.loads(
        json.dumps(
            collect_run_report(loop.db, SETTINGS, EXAMPLES, judged=CANDIDATE).to_json(), allow_nan=False
        )
    )
    assert content["corpus"] == {"snippets": 40, "contents": 40, "languages": {"python": 40}}
    assert content["training_set"]["pairs"]["feedback"] == {"test": 20, "train": 2}
    assert content["verdict"]["decision"] == "approved"
    found = content["evaluation"]
    assert (found["queries"], found["corpus"]) == (60, 1000)
    assert found["base"]["model_version"] == found["serving"]["model_version"] == BASE
    assert found["candidate"]["overall"]["mrr@10"]["mean"] > found["base"]["overall"]["mrr@10"]["mean"]
    difference = found["candidate - serving"]["overall"]["ndcg@10"]
    assert verdict.difference is not None
    assert difference["mean"] == pytest.approx(verdict.difference.mean)
    assert content["serving"]["model_version"] == CANDIDATE
    assert content["serving"]["rollback_to"] == BASE
    assert content["examples"][0]["after"][0] == "click/core.py Context"
    assert {step["command"] for step in content["next"]} >= {"honeloop rollback", "honeloop up"}


def test_online_evidence_stands_beside_the_verdict(loop: Loop) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(BASE, *BEFORE))
    with loop.db.connect() as connection:
        row = connection.execute("SELECT min(id) FROM snippets").fetchone()
        assert row is not None
    search = show(loop.db, "open a file", [row[0]], "ada")
    with loop.db.connect() as connection:
        record_interleaving(connection, search, BASE, CANDIDATE, {row[0]: "candidate"})
    add_feedback(loop.db, search, row[0], "accept")
    report = collect_run_report(loop.db, SETTINGS, judged=CANDIDATE)
    said = "Online, by interleaved searches: Not enough evidence: 1 won, 0 lost, 0 tied of 1 decided"
    assert said in " ".join(shown(report, 100).split())
    online = json.loads(json.dumps(report.to_json(), allow_nan=False))["online"]
    assert (online["wins"], online["verdict"]) == (1, "not enough evidence")


def test_what_was_looked_at_is_shown_with_what_was_asked_for(loop: Loop) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(BASE, *BEFORE))
    text = " ".join(shown(collect_run_report(loop.db, SETTINGS, judged=CANDIDATE), 100).split())
    assert "✓ gain over serving 60" in text
    assert "≥ +.010" in text
    assert "✓ floor recall@100 1.000 ≥ 0.300" in text
    assert "✓ origin docstring 40" in text
    assert "1 slices are too small to decide anything" in text
    assert "The queries that moved most" in text
    assert "deleted code" in text  # these contents stand nowhere


def test_a_rejected_candidate_leaves_what_served(loop: Loop) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, *BEFORE), evaluation(BASE, *AFTER))
    text = " ".join(shown(collect_run_report(loop.db, SETTINGS, judged=CANDIDATE), 100).split())
    assert "minilm (bbbbbbbb) keeps serving: the candidate did not pass the gate" in text
    assert f"honeloop promote {CANDIDATE[:12]} --reason TEXT" in text
    assert "with 30 more test queries from feedback" in text
    assert "The same searches" not in text


def test_too_little_evidence_is_said(loop: Loop) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, Slice([1] * 10)), evaluation(BASE, Slice([2] * 10)))
    text = " ".join(shown(collect_run_report(loop.db, SETTINGS, judged=CANDIDATE), 100).split())
    assert "there is not enough evidence" in text
    assert "Only 10 test queries can be compared on ndcg@10" in text


def test_a_second_run_with_nothing_new_says_so(loop: Loop) -> None:
    loop.train()
    candidate = evaluation(CANDIDATE, *AFTER)
    loop.judge(candidate, evaluation(BASE, *BEFORE))
    loop.serve(CANDIDATE)
    loop.judge(candidate, candidate)
    report = collect_run_report(loop.db, SETTINGS, judged=CANDIDATE)
    text = shown(report, 100)
    assert "Nothing new to learn: minilm-cccccccccccc, made of this very data, serves already." in text
    assert "serving = candidate" in text
    assert report.comparison is None


def test_serving_is_what_served_when_the_gate_decided(loop: Loop) -> None:
    loop.model(SERVING, "candidate", "minilm-555555555555", BASE)
    loop.serve(SERVING)
    loop.train()
    base = evaluation(BASE, Slice([9] * 40), Slice([9] * 20, "feedback"))
    loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(SERVING, *BEFORE), base)
    loop.serve(CANDIDATE)
    roles = collect_run_report(loop.db, SETTINGS, judged=CANDIDATE).evaluations
    assert {role: each.model_version for role, each in roles.items()} == {
        "base": BASE,
        "serving": SERVING,
        "candidate": CANDIDATE,
    }


def test_a_run_reports_the_verdict_on_its_own_candidate(
    loop: Loop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that says the same again is not stored again: the last one stored is on another model."""
    loop.train()
    loop.model(OTHER, "candidate", "minilm-dddddddddddd", BASE)
    candidate, base = evaluation(CANDIDATE, *BEFORE), evaluation(BASE, *AFTER)
    given = loop.judge(candidate, base)
    loop.judge(evaluation(OTHER, *BEFORE), base)
    assert loop.judge(candidate, base) == given
    assert [each.verdict.candidate_version for each in list_verdicts(loop.db)] == [OTHER, CANDIDATE]

    def ran(*_: object, **__: object) -> RunResult:
        index = {"action": "reused", "index_version": 1, "rows": 40, "recall_at_10": 0.9925}
        return RunResult(index=index, training={"promoted_model": {"model_version": CANDIDATE}})

    monkeypatch.setattr("pipeline.defs.in_process.run_part", ran)
    environment = {"HONELOOP_HOME": str(settings.home), "HONELOOP_DATABASE_URL": str(settings.database_url)}
    told = json.loads(CliRunner(env=environment).invoke(app, ["run", "--json"]).stdout)
    assert told["candidate"]["model_version"] == CANDIDATE
    assert told["verdict"]["candidate_version"] == CANDIDATE


def test_a_run_that_trains_nothing_reports_on_the_index_alone(loop: Loop) -> None:
    loop.train()
    loop.judge(evaluation(CANDIDATE, *AFTER), evaluation(BASE, *BEFORE))
    text = shown(collect_run_report(loop.db, SETTINGS), 80)
    assert "40 snippets are indexed; minilm (bbbbbbbb) serves." in text
    assert "gate" not in text


def test_secrets_that_were_left_out_are_told(loop: Loop) -> None:
    assert "left out" not in shown(collect_run_report(loop.db, SETTINGS), 100)
    with loop.db.connect() as connection:
        connection.execute("UPDATE repositories SET report = report || '{\"secrets\": 2}'")
    report = collect_run_report(loop.db, SETTINGS)
    assert "4 secrets (keys, tokens …) were recognised in the code and left out" in shown(report, 100)
    assert {source["report"]["secrets"] for source in report.to_json()["sources"]} == {2}


def test_an_empty_database_says_what_to_do(db: Database) -> None:
    text = shown(collect_run_report(db, SETTINGS), 80)
    assert "Nothing serves yet." in text
    assert "honeloop run" in text


def test_evaluations_are_stored_whole_and_once(loop: Loop) -> None:
    made = evaluation(BASE, *BEFORE, triplets=[0.25, -0.5])
    saved = save_evaluation(loop.db, made)
    found = find_evaluation(loop.db, BASE, made.test_set)
    assert found is not None
    assert found.reused
    assert found.per_query == made.per_query
    assert (found.overall, found.slices) == (made.overall, made.slices)
    assert (found.id, found.margins) == (saved.id, made.margins)
    again = save_evaluation(loop.db, evaluation(BASE, Slice([1] * 60)))
    assert again.per_query == made.per_query
    assert latest_evaluation(loop.db, BASE).id == saved.id
    assert find_evaluation(loop.db, BASE, "ef" * 32) is None
