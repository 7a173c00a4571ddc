"""Training runs by their recipe's key: what goes into one, whether it was made before, and what came out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.config import Settings
from pipeline.promotion.weights import require_weights
from pipeline.training.account import Account
from pipeline.training.checkpoints import find_checkpoint
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.handover import hand_over, handed_over, read_account
from pipeline.training.launching import Job, launch_for
from pipeline.training.leftovers import clear_abandoned
from pipeline.training.pairs import Pair, TrainingSet
from pipeline.training.recipe import Recipe, recipe_of
from pipeline.training.recipe_key import recipe_key
from pipeline.training.replay import earlier_pairs
from pipeline.training.training_state import SUFFIX

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.progress import Progress
    from pipeline.promotion.registry import ModelRecord
    from pipeline.workbench import Workbench

Made = Literal["trained", "waiting", "checkpoint"]


@dataclass(frozen=True)
class Run:
    """All that goes into one training. Nothing is loaded to ask whether it was made before.

    Attributes:
        training_set: what is trained on.
        base: what is trained from.
        base_location: where other processes load it from, as `load_encoder` takes it.
        settings: they name the recipe.
        guide: of a guided recipe; None for the base.
        guide_location: where other processes load it from.
        earlier: pairs of earlier training sets that may be replayed.
    """

    training_set: TrainingSet
    base: Encoder
    base_location: str
    settings: Settings
    guide: Encoder | None = None
    guide_location: str | None = None
    earlier: tuple[Pair, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return recipe_of(self.settings)

    @cached_property
    def key(self) -> str:
        """What its result goes by."""
        return recipe_key(
            self.training_set,
            self.base.version,
            self.settings,
            guide_version=None if self.guide is None else self.guide.version,
            earlier=self.earlier,
        )

    @property
    def directory(self) -> Path:
        """Where its model waits for its checkpoint to be written."""
        return run_directory(self.settings, self.key)

    @property
    def work_directory(self) -> Path:
        """Where its state is saved while it is under way, to be resumed from if it is killed."""
        return self.directory.with_name(f"{self.key}{SUFFIX}")

    def make(self, progress: Progress) -> Made:
        """Trains, unless the result is there already, and says which it was.

        Raises:
            HoneloopError: as `fine_tune`.
        """
        known = find_checkpoint(self.settings, self.key)
        if known is not None:
            for done_with in (self.directory, self.work_directory):  # of a run that died in between
                shutil.rmtree(done_with, ignore_errors=True)
            progress.note(
                f"Trained before: checkpoint {known.version[:12]} has this data, base and recipe "
                f"({self.recipe.name})."
            )
            return "checkpoint"
        if handed_over(self.directory):
            progress.note(f"Trained before by {self.recipe.name}; its checkpoint was not written yet.")
            return "waiting"
        self._train(progress)
        return "trained"

    def _train(self, progress: Progress) -> None:
        """Trains where and in as many processes as is set, and hands the model over."""
        keep_days = self.settings.state_keep_days
        for name in clear_abandoned(self.directory.parent, keep_days, but=self.work_directory):
            progress.note(
                f"Gave up the training {name[:12]}: it was not taken up again for {keep_days:g} days."
            )
        launch = launch_for(self.settings)
        if launch is None:
            trained = fine_tune(
                self.base,
                self.training_set,
                self.settings,
                self.work_directory,
                progress,
                guide=self.guide,
                earlier=self.earlier,
            )
            hand_over(trained, self.directory)
        else:
            job = Job(
                base=self.base_location,
                guide=self.guide_location,
                training_set=self.training_set,
                earlier=self.earlier,
                settings=self.settings,
                work_dir=self.work_directory,
                directory=self.directory,
            )
            launch(job, progress)
        shutil.rmtree(self.work_directory, ignore_errors=True)


def plan_run(workbench: Workbench, training_set: TrainingSet, base: ModelRecord, settings: Settings) -> Run:
    """A run of the recipe that `settings` name.

    Raises:
        BadInputError: an unknown recipe, or a guide that goes by no such name.
        HoneloopError: the weights of the base were given up.
    """
    require_weights(base)
    recipe = recipe_of(settings)
    guide = None if recipe.guide is None else workbench.named_model(recipe.guide)
    replays = any(stage.replay_share > 0 for stage in recipe.stages)
    return Run(
        training_set,
        workbench.encoder(base),
        base.location,
        settings,
        None if guide is None else workbench.encoder(guide),
        None if guide is None else guide.location,
        earlier_pairs(workbench.db, base, training_set) if replays else (),
    )


def run_directory(settings: Settings, key: str) -> Path:
    """Where the model of the run with this key waits for its checkpoint to be written."""
    return settings.home_path / "training" / key


def account_of(settings: Settings, key: str) -> Account | None:
    """What the run with this key did, by what it handed over or its checkpoint; None if there is neither."""
    waiting = run_directory(settings, key)
    if handed_over(waiting):
        return read_account(waiting)
    checkpoint = find_checkpoint(settings, key)
    return None if checkpoint is None else Account.from_json(checkpoint.manifest["lineage"])
