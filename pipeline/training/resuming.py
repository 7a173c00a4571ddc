"""A killed training goes on from its last saved step, and ends with the very same model.

What decides the steps still to come is saved: the trained weights and the best of them, the optimiser's
moments, the schedule, where the random number generators are, and what the watcher remembers. The batches
need not be: they are planned, all of them, before the first step.

This module imports torch at the top, because its classes are torch's; it is imported only inside `fine_tune`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from pipeline.errors import HoneloopError
from pipeline.training.adapters import set_trained_tensors, trained_tensors
from pipeline.training.parallel import rank
from pipeline.training.trainer import Watcher
from pipeline.training.training_state import (
    Part,
    SavedState,
    StateStore,
    Timing,
    flattened,
    random_states,
    set_random_states,
    unflattened,
)


class StateKeeper(TrainerCallback):
    """Saves the state of a training as it goes, and puts back what a killed one had saved.

    Of several processes the first saves, and all put back.

    Args:
        store: where the state is.
        model: what is trained.
        watcher: whose memory belongs to the state; it has to be called before this.
        timing: says when to save.
        device: what is trained on.
        note: told of what is resumed, and of what cannot be.

    Attributes:
        seconds: how long the training took so far, before and after it was killed.
        resumed_at: the steps at which it was resumed.
        ended: the weights that the stages before came to, if each begins at the base; added to from outside.
    """

    def __init__(
        self,
        store: StateStore,
        model: nn.Module,
        watcher: Watcher,
        timing: Timing,
        *,
        device: str,
        note: Callable[[str], None],
    ) -> None:
        self.resumed_at: list[int] = []
        self.ended: list[Mapping[str, torch.Tensor]] = []
        self._store = store
        self._model = model
        self._watcher = watcher
        self._timing = timing
        self._device = device
        self._note = note
        self._stage = 0
        self._before = 0.0
        self._started = time.monotonic()
        self._pending: SavedState | None = None
        self._random: SavedState | None = None

    @property
    def seconds(self) -> float:
        """How long the training took so far."""
        return self._before + time.monotonic() - self._started

    def resume(self) -> int:
        """Takes up what was saved, and returns in which stage that was; 0 if there is nothing.

        What is damaged, or of another training, is named and left aside.
        """
        try:
            saved = self._store.load()
            if saved is None:
                return 0
            set_trained_tensors(self._model, saved.parts["weights"])
            self._watcher.restore(saved.account["watcher"], saved.parts.get("best"))
        except HoneloopError as error:
            self._note(f"A killed training cannot be resumed, and begins anew: {error.message}")
            return 0
        self.ended = [
            saved.parts[role]
            for role in map(_ended, range(int(saved.account["stage"])))
            if role in saved.parts
        ]
        self._pending = saved
        self._before = saved.account["seconds"]
        self.resumed_at = [*saved.account["resumed_at"], self._watcher.taken]
        self._note(
            f"Resumed at step {self._watcher.taken} of {self._watcher.steps}, which an earlier process had "
            f"reached after {self._before:.0f} s."
        )
        return int(saved.account["stage"])

    def enter(self, stage: int) -> int:
        """A stage begins, the how manieth is `stage`. Returns how many of its steps are taken already."""
        self._stage = stage
        return 0 if self._pending is None else int(self._pending.account["stage_steps"])

    def on_train_begin(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Called once for each stage, before its first step."""
        del args, control
        if self._pending is None:
            return
        optimizer: torch.optim.Optimizer = kwargs["optimizer"]
        schedule: torch.optim.lr_scheduler.LRScheduler = kwargs["lr_scheduler"]
        saved, self._pending = self._pending, None
        account = saved.account
        state.global_step = int(account["stage_steps"])
        moments = unflattened(account["optimizer"], saved.parts["optimizer"], optimizer.state_dict())
        optimizer.load_state_dict(moments)
        schedule.load_state_dict(account["schedule"])
        self._random = saved

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called before each step."""
        del args, state, control, kwargs
        # Only here: to begin with the batches draws a random number, which the killed training drew before.
        if self._random is not None:
            set_random_states(self._random.account["random"], self._random.parts["random"], self._device)
            self._random = None

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called after every step, when the watcher has validated."""
        del args
        # A stage's last step, at which the trainer stops, is not saved: resumed there, the stage would take
        # no step at which its random numbers are put back, and the next one begins with some of its own.
        if logs is None or "loss" not in logs or rank() != 0 or control.should_training_stop:
            return
        if not self._timing.due(validated=self._watcher.validated):
            return
        began = time.monotonic()
        try:
            self._save(state.global_step, kwargs["optimizer"], kwargs["lr_scheduler"])
        except (OSError, SafetensorError) as error:
            self._note(f"The training goes on, but its state could not be saved: {error}")
        self._timing.saved(time.monotonic() - began)

    def _save(
        self,
        stage_steps: int,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        watcher, step = self._watcher, self._watcher.taken
        moments, moment_tensors = flattened(optimizer.state_dict())
        generators, generator_tensors = random_states(self._device)
        parts = {
            "weights": Part(_weights(step), trained_tensors(self._model)),
            "optimizer": Part(f"optimizer-{step}", moment_tensors),
            "random": Part(f"random-{step}", generator_tensors),
        }
        if watcher.best_weights:
            parts["best"] = Part(_weights(watcher.best_step), watcher.best_weights)
        for number, weights in enumerate(self.ended):
            parts[_ended(number)] = Part(_ended(number), weights)
        account = {
            "stage": self._stage,
            "stage_steps": stage_steps,
            "seconds": self.seconds,
            "resumed_at": self.resumed_at,
            "watcher": watcher.memory(),
            "optimizer": moments,
            "schedule": schedule.state_dict(),
            "random": generators,
        }
        self._store.save(account, parts)


def _ended(stage: int) -> str:
    """They do not change any more, so they are written once."""
    return f"ended-{stage}"


def _weights(step: int) -> str:
    """Best weights that are the present ones stand in one file with them."""
    return f"weights-{step}"
