"""The whole loop in this process: the same assets and checks, partition by partition, on the persistent
instance.

What does not belong here: what an asset does, and how a result is shown (commands/,
evaluation/run_report.py).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from pipeline.config import Settings
from pipeline.corpus import repositories
from pipeline.defs.instance import open_instance
from pipeline.defs.partitions import synchronise
from pipeline.defs.reporting import plain
from pipeline.defs.resources import WORKBENCH
from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.compare import compare
from pipeline.evaluation.store import find_evaluation
from pipeline.index.serving import serving_index
from pipeline.progress import Progress
from pipeline.search.hybrid.learning import learn_weight
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.training.comparing import Comparison as RecipeComparison
from pipeline.training.comparing import compare_recipes
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

EXAMPLES = 3
LOCK = "honeloop.run_loop"
IN_PROCESS_TAG = "honeloop/in_process"
TRAINING = ("training_set", "fine_tuned_model", "model_checkpoint", "model_evaluation")
# Dagster's own log lines belong to its event log; the terminal shows progress.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Failure:
    """What stopped a run: which asset or check, in which repository, why, and what to do."""

    step: str
    repository: str | None
    message: str
    hint: str
    exit_code: int = 1
    check: bool = False

    def error(self) -> HoneloopError:
        """The same as an exception."""
        kind = BadInputError if self.exit_code == BadInputError.exit_code else HoneloopError
        return kind(self.message, hint=self.hint)


@dataclass
class RunResult:
    """What a run of the loop did: the metadata of what was materialized, as plain values, and what failed.

    Attributes:
        sources: By repository: the metadata of `snippets` and `snippet_embeddings`.
        index: The metadata of `search_index` after the last build; empty if there was none.
        training: By asset, from `training_set` to `promoted_model`.
        problems: Lines about what was left out, which did not stop the run.
        failures: What stopped it, or a part of it.
        examples: Queries whose results a promotion changed: the query, the results before, and after.
        run_ids: The Dagster runs, in order.
    """

    sources: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    index: dict[str, Any] = field(default_factory=dict[str, Any])
    training: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    problems: list[str] = field(default_factory=list[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    examples: list[tuple[str, list[str], list[str]]] = field(
        default_factory=list[tuple[str, list[str], list[str]]]
    )
    run_ids: list[str] = field(default_factory=list[str])

    def raise_for_failure(self) -> None:
        """Raises the first failure as a HoneloopError."""
        if self.failures:
            raise self.failures[0].error()


def run_loop(
    settings: Settings,
    progress: Progress,
    *,
    only_index: bool = False,
    source: str | None = None,
    base: str | None = None,
) -> RunResult:
    """Runs the whole loop once, on every registered source; with none registered, on the default ones.

    What can fail without taking the rest along does: a source that cannot be read leaves the others to be
    indexed, and too few pairs for training leave the index serving. What failed is in the result.

    Args:
        settings: What is in force.
        progress: Told of every stage.
        only_index: Stop when the index is up to date.
        source: Only this one is read anew.
        base: What to fine-tune from: base (the default), serving, or the beginning of a version.

    Raises:
        HoneloopError: another run is under way, or the database cannot be reached.
        BadInputError: `source` is not registered.
    """
    with Loop.running(settings, progress) as loop:
        if loop.index(source) and not only_index and loop.train(base):
            loop.promote()
            loop.finish_promotion()
        return loop.result


class Loop:
    """The steps of the loop, each a Dagster run, collected into one result. Made by `running`."""

    def __init__(self, workbench: Workbench, instance: dg.DagsterInstance) -> None:
        from pipeline.defs.building import build_defs

        self.workbench = workbench
        self.result = RunResult()
        self._instance = instance
        workbench_resource = dg.ResourceDefinition.hardcoded_resource(workbench)
        definitions = build_defs({WORKBENCH: workbench_resource})
        self._job = definitions.resolve_implicit_global_asset_job_def()

    @classmethod
    @contextmanager
    def running(cls, settings: Settings, progress: Progress) -> "Generator[Loop]":
        """A loop that is the only one running on this database.

        Raises:
            HoneloopError: another one is.
        """
        workbench = Workbench(settings, progress)
        with _only_one(workbench), open_instance(settings) as instance:
            _close_abandoned_runs(instance)
            loop = cls(workbench, instance)
            loop.synchronise()
            yield loop

    def synchronise(self) -> list[str]:
        """Makes Dagster's partitions the registered repositories, and returns their names."""
        names = [repository.name for repository in repositories.list_repositories(self.workbench.db)]
        synchronise(self._instance, names)
        return names

    def index(self, source: str | None = None) -> bool:
        """Reads the sources, embeds what is new, brings the index up to date. Returns whether it serves."""
        names = self._names(source)
        for name in names:
            self._index_repository(name)
        failed = [failure for failure in self.result.failures if not failure.check]
        if len(failed) == len(names):
            return False  # nothing could be read: each failure says why
        # A source that cannot be read now keeps the snippets it had; the others' news must not wait for it.
        for failure in failed:
            if failure.step == "snippets":
                self.result.failures.remove(failure)
                self.result.problems.append(f"{failure.message} {failure.hint}".strip())
        if self.result.failures:
            return False
        return self.refresh_index()

    def refresh_index(self) -> bool:
        """Builds, verifies and flips; returns whether it went well."""
        done = self._materialize(["search_index"])
        self.result.index = done.get("search_index", self.result.index)
        return not self.result.failures

    def train(self, base: str | None = None) -> bool:
        """From the training set to the evaluation; returns whether there is a candidate to decide about."""
        config = {"ops": {"fine_tuned_model": {"config": {"base": base or "base"}}}}
        self.result.training |= self._materialize(TRAINING, config=config)
        # What fails a check of the evaluation is for the gate to say, which checks it again.
        own = [failure for failure in self.result.failures if failure.step == "model_evaluation"]
        if "model_evaluation" in self.result.training and all(failure.check for failure in own):
            self.result.failures = [failure for failure in self.result.failures if failure not in own]
            self.result.problems += [failure.message for failure in own]
        return not self.result.failures

    def compare(self, names: Sequence[str], base: str | None = None) -> RecipeComparison:
        """Builds the training set and trains the recipes on it; no model is registered for it.

        Raises:
            HoneloopError: the training set cannot be built, or no recipe could be trained.
        """
        self.result.training |= self._materialize(["training_set"])
        self.result.raise_for_failure()
        bench = self.workbench
        training_set = load_training_set(
            bench.db, int(self.result.training["training_set"]["training_set_id"])
        )
        return compare_recipes(bench, training_set, bench.named_model(base or "base"), names)

    def promote(self) -> bool:
        """The gate's verdict; returns whether it was reached."""
        self.result.training |= self._materialize(["promoted_model"])
        return not self.result.failures

    def finish_promotion(self) -> bool:
        """Embeds everything with an approved model and lets its index serve; nothing to do without one."""
        if self.result.failures:
            return False
        if self.workbench.approved_model() is None:
            self._learn_ranking()
            return True
        queries = self._moved_queries()
        before = {query: self._search(query) for query in queries}
        for name in self.synchronise():
            done = self._materialize(["snippet_embeddings"], name).get("snippet_embeddings", {})
            entry = self.result.sources.setdefault(name, {})
            # What the model before it embedded in this run was work too.
            entry.update(done | {"embedded": entry.get("embedded", 0) + done.get("embedded", 0)})
        if self.result.failures or not self.refresh_index():
            return False
        after = {query: self._search(query) for query in queries}
        changed = [query for query in queries if before[query] != after[query]]
        self.result.examples = [(query, before[query], after[query]) for query in changed[:EXAMPLES]]
        return True

    def _learn_ranking(self) -> None:
        """What serves goes on serving, but the training set may have new judgements to rank by."""
        model = self.workbench.model(serving_index(self.workbench.db).model_version)
        learn_weight(
            self.workbench.db,
            self.workbench.encoder(model),
            self.workbench.settings,
            self.workbench.progress,
            changed=False,
        )

    def _moved_queries(self) -> list[str]:
        """The test queries that the approved candidate moved most, those of people first."""
        evaluated = self.result.training.get("model_evaluation")
        if evaluated is None:
            return []
        db, settings = self.workbench.db, self.workbench.settings
        candidate, serving = (
            find_evaluation(db, evaluated[key], evaluated["test_set"])
            for key in ("model_version", "serving_version")
        )
        if candidate is None or serving is None:
            return []
        comparison = compare(candidate, serving, settings)
        moved = sorted(comparison.improved, key=lambda change: change.origin != "feedback")
        return [change.query for change in moved]

    def _search(self, query: str) -> list[str]:
        """What the serving index answers now, a line each; nobody asked, so nothing is recorded."""
        model = self.workbench.model(serving_index(self.workbench.db).model_version)
        answer = search(self.workbench.db, self.workbench.encoder(model), query, k=3, record=False)
        return [
            f"{result.repository} {result.path}:{result.start_line} {result.symbol}"
            for result in answer.results
        ]

    def _names(self, source: str | None) -> list[str]:
        db = self.workbench.db
        if source is not None:
            return [repositories.get_repository(db, source).name]
        if not repositories.list_repositories(db):
            added = repositories.add_default_repositories(db, self.workbench.settings)
            names = ", ".join(repository.name for repository in added)
            self.workbench.progress.note(f"No source was registered; starting with {names}.")
        return self.synchronise()

    def _index_repository(self, name: str) -> None:
        known = len(self.result.failures)
        done = self._materialize(["snippets", "snippet_embeddings"], name)
        entry = self.result.sources.setdefault(name, {})
        entry.update(done.get("snippets", {}))
        if any(f.step == "snippets" and not f.check for f in self.result.failures[known:]):
            # What it held before may still have to be embedded, by a new model.
            done = self._materialize(["snippet_embeddings"], name)
        entry.update(done.get("snippet_embeddings", {}))

    def _materialize(
        self, assets: Sequence[str], partition: str | None = None, config: dict[str, Any] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Materializes the assets in one run. Returns their metadata; failures go into the result."""
        executed = self._job.execute_in_process(
            instance=self._instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            run_config={**_QUIET, **(config or {})},
            tags={IN_PROCESS_TAG: "true"},
            raise_on_error=False,
        )
        self.result.run_ids.append(executed.run_id)
        if _interrupted(executed):
            raise KeyboardInterrupt
        self.result.failures += _failures(executed, partition)
        return {
            event.asset_key.to_user_string(): plain(event.materialization.metadata)
            for event in executed.get_asset_materialization_events()
            if event.asset_key is not None
        }


def _interrupted(executed: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended the run: Dagster makes a failure of its step out of it."""
    return any(
        event.is_step_failure
        and (error := event.step_failure_data.error) is not None
        and any(
            each is not None and each.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
            for each in (error, error.cause)
        )
        for event in executed.all_events
    )


def _failures(executed: dg.ExecuteInProcessResult, partition: str | None) -> list[Failure]:
    found = [
        Failure(
            step=evaluation.asset_key.to_user_string(),
            repository=partition,
            message=f"The check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}"
            f"{f' ({partition})' if partition else ''} failed: {evaluation.description or ''}",
            hint=str(plain(evaluation.metadata).get("hint", "")),
            check=True,
        )
        for evaluation in executed.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    ]
    for event in executed.all_events:
        if not event.is_step_failure or event.step_key is None:
            continue
        data = event.step_failure_data
        said = plain(data.user_failure_data.metadata) if data.user_failure_data else {}
        if "message" in said:
            found.append(
                Failure(
                    event.step_key,
                    partition,
                    str(said["message"]),
                    str(said["hint"]),
                    int(said["exit_code"]),
                )
            )
        elif data.error is not None and "CheckFailed" not in (data.error.cls_name or ""):
            cause = data.error.cause or data.error
            found.append(
                Failure(
                    event.step_key,
                    partition,
                    f"{event.step_key} failed unexpectedly: {cause.message.strip()}",
                    f"Where is in Dagster's log of run {executed.run_id}: `honeloop up` shows it.",
                )
            )
    return found


def run_under_way(db: Database) -> bool:
    """Whether a run of the loop is under way in any process; what it is doing need not be done beside it."""
    with db.connect() as connection:
        row = connection.execute(
            # A lock on one 64-bit key is listed by its two halves.
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0))",
            [LOCK],
        ).fetchone()
    return bool(row and row[0])


@contextmanager
def _only_one(workbench: Workbench) -> Generator[None]:
    """Holds a lock that the server lets go when this process dies, however it dies."""
    with workbench.db.connect(autocommit=True) as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [LOCK]).fetchone()
        if row is None or not row[0]:
            raise HoneloopError(
                "Another run is under way on this database.",
                hint="Wait until it ends; `honeloop status` shows the runs.",
            )
        yield


def _close_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """Runs of a killed process would be shown as running for ever. The lock says that none is alive."""
    abandoned = instance.get_runs(
        filters=dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, tags={IN_PROCESS_TAG: "true"}), limit=100
    )
    for run in abandoned:
        instance.report_run_canceled(run, message="Its process was killed before it could end.")
