"""The whole loop in this process: the same assets and checks, partition by partition, on the persistent
instance.

What does not belong here: what an asset does, and how a result is shown (commands/,
evaluation/run_report.py).
"""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dagster as dg

from pipeline.config import Settings
from pipeline.corpus import repositories
from pipeline.defs.alone import OnlyOne, only_one
from pipeline.defs.by_command import COMMAND_TAG
from pipeline.defs.dead_runs import IN_PROCESS_TAG, close_dead_runs
from pipeline.defs.failing import failures_in, warnings_in, was_interrupted
from pipeline.defs.instance import open_instance
from pipeline.defs.launcher import HOST_TAG, this_host
from pipeline.defs.partitions import synchronise
from pipeline.defs.reporting import plain
from pipeline.defs.resources import WORKBENCH
from pipeline.defs.results import RunResult
from pipeline.errors import BadInputError, DatabaseAwayError, HoneloopError
from pipeline.evaluation.compare import compare
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.store import find_evaluation
from pipeline.index.serving import serving_index
from pipeline.progress import Progress
from pipeline.search.query import search
from pipeline.store.failures import explained
from pipeline.store.locks import learning
from pipeline.store.server import database_url
from pipeline.training.comparing import Comparison as RecipeComparison
from pipeline.training.comparing import compare_recipes
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

EXAMPLES = 3
# How often a step is done again because the database went away meanwhile.
ATTEMPTS = 3
TRAINING = ("training_set", "fine_tuned_model", "model_checkpoint", "model_evaluation")
# Dagster's own log lines belong to its event log; the terminal shows progress.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


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
    with Loop.running(settings, progress, "index" if only_index else "run") as loop:
        if loop.index(source) and not only_index and loop.train(base):
            loop.promote()
            loop.finish_promotion()
        return loop.result


PARTS = ("run", "index", "train")
FINE_TUNING = ("run", "train")


def run_part(
    settings: Settings,
    progress: Progress,
    part: str,
    *,
    source: str | None = None,
    base: str | None = None,
) -> RunResult:
    """What `honeloop run`, `index` and `train` do; see `run_loop` for the arguments.

    Raises:
        HoneloopError: as `run_loop`.
        BadInputError: there is no such part.
    """
    if part not in PARTS:
        raise BadInputError(f"There is no part {part!r}.", hint=f"Choose one of {', '.join(PARTS)}.")
    if part != "train":
        return run_loop(settings, progress, only_index=part == "index", source=source, base=base)
    with Loop.running(settings, progress, part) as loop:
        loop.train(base)
        return loop.result


class Loop:
    """The steps of the loop, each a Dagster run, collected into one result. Made by `running`."""

    def __init__(
        self, workbench: Workbench, instance: dg.DagsterInstance, alone: OnlyOne, command: str
    ) -> None:
        from pipeline.defs.building import build_defs

        self.workbench = workbench
        self.result = RunResult()
        self._instance = instance
        self._alone = alone
        self._command = command
        workbench_resource = dg.ResourceDefinition.hardcoded_resource(workbench)
        definitions = build_defs({WORKBENCH: workbench_resource})
        self._job = definitions.resolve_implicit_global_asset_job_def()

    @classmethod
    @contextmanager
    def running(cls, settings: Settings, progress: Progress, command: str = "run") -> "Generator[Loop]":
        """A loop that is the only one running on this database.

        Args:
            settings: What is in force.
            progress: Told of every stage.
            command: For which command of `honeloop` it runs.

        Raises:
            HoneloopError: another one is.
        """
        workbench = Workbench(settings, progress)
        alone = only_one(workbench.db, fine_tunes=command in FINE_TUNING)
        with alone as lock, open_instance(settings) as instance:
            close_dead_runs(instance, others_in_process=False)
            loop = cls(workbench, instance, lock, command)
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
        with learning(bench.db):
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
        # Embedding takes hours, in which somebody may have been made forgotten: theirs go into no account.
        with learning(self.workbench.db):
            candidate = self._measured("model_version")
            known = set[str]() if candidate is None else {each.query for each in candidate.per_query}
            after = {query: self._search(query) for query in queries if query in known}
            changed = [query for query in after if before[query] != after[query]]
            self.result.examples = [(query, before[query], after[query]) for query in changed[:EXAMPLES]]
        return True

    def _measured(self, whose: str) -> Evaluation | None:
        """What tonight's evaluation stored of a model; None without one."""
        evaluated = self.result.training.get("model_evaluation")
        if evaluated is None:
            return None
        return find_evaluation(self.workbench.db, evaluated[whose], evaluated["test_set"])

    def _moved_queries(self) -> list[str]:
        """The test queries that the approved candidate moved most, those of people first."""
        candidate, serving = self._measured("model_version"), self._measured("serving_version")
        if candidate is None or serving is None:
            return []
        comparison = compare(candidate, serving, self.workbench.settings)
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
        executed = self._executed(assets, partition, config, ATTEMPTS)
        self.result.failures += failures_in(executed.all_events, executed.run_id, partition)
        self.result.problems += warnings_in(executed.all_events)
        return {
            event.asset_key.to_user_string(): plain(event.materialization.metadata)
            for event in executed.get_asset_materialization_events()
            if event.asset_key is not None
        }

    def _executed(
        self, assets: Sequence[str], partition: str | None, config: dict[str, Any] | None, attempts: int
    ) -> dg.ExecuteInProcessResult:
        """One run of the assets. Should the database go away, it is waited for, and the run is done again.

        Whatever an asset had finished, it then finds done.
        """
        try:
            self._alone.require()
            executed = self._execute(assets, partition, config)
        except Exception as error:  # of Dagster's own storage, or of the lock
            known = error if isinstance(error, HoneloopError) else explained(error)
            if known is None:
                raise
            if attempts == 1 or not isinstance(known, DatabaseAwayError):
                raise known from error
        else:
            failed = failures_in(executed.all_events, executed.run_id, partition)
            away = [failure for failure in failed if failure.database_away]
            if attempts == 1 or not away:
                return executed
            known = away[0].error()
        self._wait_for_database(known)
        return self._executed(assets, partition, config, attempts - 1)

    def _execute(
        self, assets: Sequence[str], partition: str | None, config: dict[str, Any] | None
    ) -> dg.ExecuteInProcessResult:
        run_id = str(uuid4())
        executed = self._job.execute_in_process(
            instance=self._instance,
            run_id=run_id,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            run_config={**_QUIET, **(config or {})},
            tags={IN_PROCESS_TAG: run_id, HOST_TAG: this_host(), COMMAND_TAG: self._command},
            raise_on_error=False,
        )
        self.result.run_ids.append(executed.run_id)
        if was_interrupted(executed.all_events):
            raise KeyboardInterrupt
        return executed

    def _wait_for_database(self, error: HoneloopError) -> None:
        """Waits until it is back; the embedded one is started. Raises what it said last if it stays away."""
        settings, db = self.workbench.settings, self.workbench.db
        self.workbench.progress.note(
            f"{error.message} It is waited for, {settings.database_patience_seconds:g} s at the most."
        )
        deadline = time.monotonic() + settings.database_patience_seconds
        while True:
            try:
                database_url(settings)
                with db.connect():
                    break
            except HoneloopError as still:
                if time.monotonic() > deadline:
                    raise still from error
            time.sleep(min(1.0, settings.database_patience_seconds))
        self._alone.require()
        # Its end could not be written.
        close_dead_runs(self._instance, others_in_process=False)
