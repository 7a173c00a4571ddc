"""What `honeloop run` did, collected from the database: the data behind its final report.

How it looks in a terminal is said in `run_report_view`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Settings
from pipeline.evaluation.compare import Comparison, compare, hashes_in, with_places
from pipeline.evaluation.frozen_sets import GeneralSet, general_in_force
from pipeline.evaluation.interleaving import OnlineOutcome
from pipeline.evaluation.online import online_evidence
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.store import find_evaluation, places_of
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.verdict import Verdict
from pipeline.store.connections import Connection, Database

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ExampleSearch:
    """One search before and after the run: its results, best first, each in one line."""

    query: str
    before: Sequence[str]
    after: Sequence[str]


@dataclass(frozen=True)
class Source:
    """One repository and its last ExtractionReport, as stored."""

    name: str
    kind: str
    location: str
    commit_id: str | None
    report: dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """What is indexed: live snippets by language, and the distinct contents they share."""

    snippets: int
    contents: int
    languages: dict[str, int]


@dataclass(frozen=True)
class TrainingData:
    """A training set: pairs by origin and split, negatives by reason, and its own counts."""

    id: int
    pairs: dict[str, dict[str, int]]
    negatives: dict[str, int]
    counts: dict[str, Any]

    def total(self, split: str) -> int:
        """How many pairs of all origins stand in a split."""
        return sum(splits.get(split, 0) for splits in self.pairs.values())


@dataclass(frozen=True)
class Serving:
    """What answers searches now."""

    model: ModelRecord
    index_version_id: int
    rows: int
    recall_at_10: float | None
    previous_model: str | None  # whose index a rollback would go back to


@dataclass(frozen=True)
class RunReport:
    """Everything the final report says.

    `evaluations` maps base, serving and candidate to their evaluations on the test set of the verdict, where
    "serving" is what served when the gate decided. `general` is the general set in force. `online` is what
    interleaved searches say of candidate and serving model; None without any. `evaluations` is empty, as
    `candidate`, `comparison` and `verdict` are None, when nothing was trained.
    """

    sources: tuple[Source, ...]
    corpus: Corpus
    training: TrainingData | None
    candidate: ModelRecord | None
    evaluations: dict[str, Evaluation]
    comparison: Comparison | None
    verdict: Verdict | None
    general: GeneralSet | None
    online: OnlineOutcome | None
    serving: Serving | None
    examples: tuple[ExampleSearch, ...]
    next_steps: tuple[tuple[str, str], ...]  # command, why

    def to_json(self) -> dict[str, Any]:
        """The JSON of `honeloop run --json`."""
        return {
            "sources": [asdict(source) for source in self.sources],
            "corpus": asdict(self.corpus),
            "training_set": None if self.training is None else asdict(self.training),
            "candidate": None if self.candidate is None else _model_json(self.candidate),
            "evaluation": self._evaluation_json(),
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "general_test_set": None if self.general is None else asdict(self.general),
            "online": None if self.online is None else asdict(self.online),
            "serving": None
            if self.serving is None
            else {
                **_model_json(self.serving.model),
                "index_version": self.serving.index_version_id,
                "rows": self.serving.rows,
                "recall@10": self.serving.recall_at_10,
                "rollback_to": self.serving.previous_model,
            },
            "examples": [
                {"query": e.query, "before": list(e.before), "after": list(e.after)} for e in self.examples
            ],
            "next": [{"command": command, "why": why} for command, why in self.next_steps],
        }

    def _evaluation_json(self) -> dict[str, Any] | None:
        if not self.evaluations:
            return None
        some = next(iter(self.evaluations.values()))
        roles = {
            role: {
                "model_version": e.model_version,
                "overall": _plain(e.overall),
                **{
                    f"by_{dimension}": {name: _plain(means) for name, means in slices.items()}
                    for dimension, slices in e.slices.items()
                },
            }
            for role, e in self.evaluations.items()
        }
        comparison = None
        if self.comparison is not None:
            comparison = self.comparison.to_json()
        return {
            "test_set": some.test_set,
            "queries": some.queries,
            "corpus": some.corpus,
            "ranking": some.ranking._asdict(),
            **roles,
            "candidate - serving": comparison,
        }


def collect_run_report(
    db: Database,
    settings: Settings,
    examples: Sequence[ExampleSearch] = (),
    *,
    judged: str | None = None,
) -> RunReport:
    """Reads what the run left in the database.

    Args:
        db: The database.
        settings: The thresholds, for what to do next.
        examples: Searches before and after, made by the caller.
        judged: The model version that the gate decided about in this run. The registry cannot tell: a
            verdict that says what the last one on its model said is not stored again. None: the report is
            about sources and index alone, whatever an earlier run measured.
    """
    with db.connect() as connection:
        sources = _sources(connection)
        corpus = _corpus(connection)
        candidate = None if judged is None else registry.get_model(connection, judged)
        training = None if candidate is None else _training(connection, candidate)
        serving = _serving(connection)
    verdict = None if candidate is None else Verdict.from_json(candidate.metrics["verdict"])
    evaluations: dict[str, Evaluation] = {}
    if candidate is not None and verdict is not None:
        evaluations = _evaluations(db, candidate, verdict)
    comparison = None
    if {"serving", "candidate"} <= set(evaluations) and verdict and verdict.decision != "already serving":
        comparison = compare(evaluations["candidate"], evaluations["serving"], settings)
        comparison = with_places(comparison, places_of(db, hashes_in(comparison)))
    online = None
    if verdict is not None:
        online = online_evidence(db, verdict.candidate_version, verdict.serving_version, settings)
    return RunReport(
        sources=sources,
        corpus=corpus,
        training=training,
        candidate=candidate,
        evaluations=evaluations,
        comparison=comparison,
        verdict=verdict,
        general=general_in_force(db),
        online=online,
        serving=serving,
        examples=tuple(examples),
        next_steps=tuple(_next_steps(verdict, serving, training, settings)),
    )


def _sources(connection: Connection) -> tuple[Source, ...]:
    rows = connection.execute(
        "SELECT name, kind, location, commit_id, report FROM repositories ORDER BY name"
    ).fetchall()
    return tuple(Source(*row) for row in rows)


def _corpus(connection: Connection) -> Corpus:
    languages: dict[str, int] = dict(
        connection.execute(
            "SELECT language, count(*) FROM snippets WHERE vanished_at IS NULL"
            " GROUP BY language ORDER BY count(*) DESC, language"
        ).fetchall()
    )
    row = connection.execute(
        "SELECT count(DISTINCT content_hash) FROM snippets WHERE vanished_at IS NULL"
    ).fetchone()
    return Corpus(sum(languages.values()), row[0] if row else 0, languages)


def _training(connection: Connection, candidate: ModelRecord) -> TrainingData | None:
    """The training set the candidate learned from, else the newest."""
    row = connection.execute(
        "SELECT id, counts FROM training_sets ORDER BY id IS NOT DISTINCT FROM %s DESC, id DESC LIMIT 1",
        [candidate.training_set_id],
    ).fetchone()
    if row is None:
        return None
    pairs: dict[str, dict[str, int]] = {}
    for origin, split, count in connection.execute(
        "SELECT origin, split, count(*) FROM training_pairs WHERE training_set_id = %s"
        " GROUP BY origin, split ORDER BY origin DESC, split",
        [row[0]],
    ):
        pairs.setdefault(origin, {})[split] = count
    negatives: dict[str, int] = dict(
        connection.execute(
            "SELECT n.reason, count(*) FROM training_negatives n JOIN training_pairs p ON p.id = n.pair_id"
            " WHERE p.training_set_id = %s GROUP BY n.reason ORDER BY count(*) DESC, n.reason",
            [row[0]],
        ).fetchall()
    )
    return TrainingData(row[0], pairs, negatives, row[1])


def _evaluations(db: Database, candidate: ModelRecord, verdict: Verdict) -> dict[str, Evaluation]:
    base = verdict.base_version
    if base is None:  # a verdict of an older release
        models = {model.version: model for model in registry.list_models(db)}
        root = candidate
        while root.base_version is not None:
            root = models[root.base_version]
        base = root.version
    roles = {"base": base, "serving": verdict.serving_version, "candidate": candidate.version}
    found = {role: find_evaluation(db, version, verdict.test_set) for role, version in roles.items()}
    return {role: evaluation for role, evaluation in found.items() if evaluation is not None}


def _serving(connection: Connection) -> Serving | None:
    row = connection.execute(
        "SELECT i.model_version, i.id, i.row_count, i.recall_at_10, p.model_version, p.state"
        " FROM index_versions i LEFT JOIN index_versions p ON p.id = i.previous_id"
        " WHERE i.state = 'serving'"
    ).fetchone()
    if row is None:
        return None
    version, index_id, rows, recall, previous, previous_state = row
    return Serving(
        model=registry.get_model(connection, version),
        index_version_id=index_id,
        rows=rows,
        recall_at_10=recall,
        previous_model=previous if previous_state == "retired" else None,
    )


def _next_steps(
    verdict: Verdict | None, serving: Serving | None, training: TrainingData | None, settings: Settings
) -> list[tuple[str, str]]:
    if serving is None:
        return [("honeloop run", "nothing serves yet")]
    steps = [('honeloop search "…"', "ask the index something")]
    steps.append(
        (
            "honeloop feedback add SEARCH_ID SNIPPET_ID accept",
            "say which answer was right: the next run learns it",
        )
    )
    asked = 0 if training is None else training.pairs.get("feedback", {}).get("test", 0)
    if verdict is not None and asked < settings.gate_min_queries:
        steps.append(
            (
                "honeloop feedback import FILE.jsonl",
                f"with {settings.gate_min_queries - asked} more test queries from feedback, what users asked "
                "decides at the gate, not documentation",
            )
        )
    if verdict is not None and verdict.decision in ("rejected", "not enough evidence"):
        short = verdict.candidate_version[:12]
        steps.append((f"honeloop promote {short} --reason TEXT", "overrule the gate, on the record"))
    if serving.previous_model is not None:
        steps.append(("honeloop rollback", f"let {serving.previous_model[:12]} serve again"))
    steps.append(("honeloop source add NAME LOCATION", "index your own code"))
    steps.append(("honeloop up", "Dagster, and a better model every night"))
    return steps


def _model_json(model: ModelRecord) -> dict[str, Any]:
    return {
        "model_version": model.version,
        "name": model.name,
        "state": model.state,
        "dims": model.dims,
        "base_version": model.base_version,
        "training_set_id": model.training_set_id,
    }


def _plain(means: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in means.items()}
