"""Sentence Transformers' trainer, fed with our batches and watched as it goes.

The one module of this room that imports torch at the top, because its classes are torch's; it is imported
only inside `fine_tune`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from torch import nn
from transformers.trainer_callback import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from pipeline.errors import HoneloopError
from pipeline.training.batches import PairCollator, PlannedBatches
from pipeline.training.history import Row, check_finite
from pipeline.training.losses import Loss, embed_batch, loss_of
from pipeline.training.recipe import Recipe
from pipeline.training.stages import PlannedStage
from pipeline.training.validation import METRIC, METRICS


class BatchLoss(nn.Module):
    """The model with its loss on top: batch in, one number out.

    Args:
        model: what is trained.
        loss: one of `losses`.
        cached: whether the batch's activations are computed twice instead of kept; see `embed_batch`.
    """

    def __init__(self, model: SentenceTransformer, loss: Loss, *, cached: bool) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._cached = cached

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """The loss of a batch as `PairCollator` makes it."""
        queries, documents = embed_batch(self.model, batch, cached=self._cached)
        return self._loss(queries, documents, batch)


class PairTrainer(SentenceTransformerTrainer):
    """Optimiser, schedule, clipping and number formats are Sentence Transformers'; the batches are ours.

    Attributes:
        doubted: how many documents of the last batch the guide took out.
    """

    doubted = 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds to what callbacks are told of a step."""
        if "loss" in logs:
            logs["doubted"] = self.doubted
        super().log(logs, start_time)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The batch's loss. Raises HoneloopError at once if it is NaN or infinite."""
        del model, num_items_in_batch  # self.loss holds the model
        # Sentence Transformers would also take a dict of losses; make_trainer gives it one.
        loss = cast("BatchLoss", self.loss)(inputs)
        self.doubted = int(inputs["doubted"])
        check_finite(float(loss.detach()), "loss", self.state.global_step + 1)
        return (loss, {}) if return_outputs else loss

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: a manifest describes a checkpoint, and the card would embed examples to fill itself."""


class Watcher(TrainerCallback):
    """Keeps the history, validates, remembers the best weights, and stops a run that no longer improves.

    Of a run in stages it watches all: steps are counted through, and the best weights are the best of the
    whole run.

    Args:
        model: what is trained.
        measure: the validation metrics of the model as it is; None if there are no validation pairs.
        steps: optimiser steps planned for the whole run.
        patience: validations without improvement before a stage stops.
        advance: told of each step.
        note: told of each validation.
        guided: whether a guide takes documents out, which are then counted.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        measure: Callable[[], Row] | None,
        *,
        steps: int,
        patience: int,
        advance: Callable[[int], None],
        note: Callable[[str], None],
        guided: bool = False,
    ) -> None:
        self.history: list[Row] = []
        self.best_step = 0
        self._model = model
        self._measure = measure
        self._steps = steps
        self._patience = patience
        self._advance = advance
        self._note = note
        self._guided = guided
        self._best = -1.0
        self._best_weights: dict[str, torch.Tensor] = {}
        self._without_improvement = 0
        self._taken = 0  # steps, in all stages so far
        self._before = 0  # those of them before the present stage
        self._stage: PlannedStage | None = None
        self._validate_at: frozenset[int] = frozenset()

    def measure_base(self) -> None:
        """The first validation: what the base model does before training."""
        if self._measure is None:
            self._note(
                "There are no validation pairs: training runs to its end, and its last weights are kept."
            )
            return
        values = self._measure()
        self.history.append({"step": 0, "epoch": 0.0, **values})
        self._note(f"Before training: {_shown(values)}.")

    def begin(self, stage: PlannedStage, validations_per_epoch: int) -> None:
        """What follows are the steps of this stage, from the first."""
        self._stage = stage
        self._before = self._taken
        self._without_improvement = 0
        steps = len(stage.batches)
        validations = min(validations_per_epoch * stage.stage.epochs, steps)
        self._validate_at = frozenset(round(steps * i / validations) for i in range(1, validations + 1))

    def end(self) -> None:
        """The stage is over, maybe before its last step."""
        assert self._stage is not None
        skipped = self._before + len(self._stage.batches) - self._taken
        self._steps -= skipped
        self._advance(skipped)
        if self._measure is not None and self.best_step <= self._before:
            self._note(
                f"The stage {self._stage.stage.name} never ranked the validation queries better: what was "
                "learned before it is kept."
            )

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called after every step, as the trainer logs each."""
        del args, kwargs
        if logs is None or "loss" not in logs:
            return
        step = self._taken = self._before + state.global_step
        # The step was taken: a gradient that was not finite has already spoilt the weights.
        check_finite(logs["grad_norm"], "gradient", step)
        self.history.append(
            {
                **self._place(step),
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "gradient_norm": logs["grad_norm"],
                **({"doubted": logs["doubted"]} if self._guided else {}),
            }
        )
        self._advance(1)
        if self._measure is None:
            self.best_step = step
        elif state.global_step in self._validate_at and self._validate(step, logs["loss"]) >= self._patience:
            self._note(f"Stopped early at step {step}: no improvement in {self._patience} validations.")
            control.should_training_stop = True

    def restore_best(self) -> None:
        """Gives the model back the weights of the best validation."""
        if self._best_weights:
            self._model.load_state_dict(self._best_weights)

    def _validate(self, step: int, loss: float) -> int:
        """Validates, and gives how many validations ago the best was."""
        assert self._measure is not None
        values = self._measure()
        self.history.append({**self._place(step), **values})
        improved = values[METRIC] > self._best
        # Of equals the later: it has seen more of the data.
        best = values[METRIC] >= self._best
        if best:
            self._best = values[METRIC]
            self.best_step = step
            self._best_weights = {
                name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()
            }
        self._without_improvement = 0 if improved else self._without_improvement + 1
        mark = ", the best so far" if best else ""
        self._note(f"Step {step} of {self._steps}: loss {loss:.4f}, {_shown(values)}{mark}.")
        return self._without_improvement

    def _place(self, step: int) -> Row:
        """Where in the run a step is."""
        assert self._stage is not None
        share = (step - self._before) / len(self._stage.batches)
        return {
            "step": step,
            "stage": self._stage.stage.name,
            "epoch": round(share * self._stage.stage.epochs, 4),
        }


def make_trainer(
    model: SentenceTransformer,
    recipe: Recipe,
    *,
    collator: PairCollator,
    watcher: Watcher,
    arguments: SentenceTransformerTrainingArguments,
) -> PairTrainer:
    """A trainer that takes the planned batches in their order and tells `watcher` of every step."""
    from datasets import Dataset

    trainer = PairTrainer(
        model=model,
        args=arguments,
        # Rows only: the collator has the texts, already tokenised.
        train_dataset=Dataset.from_dict({"row": list(range(collator.rows))}),
        loss=BatchLoss(model, loss_of(recipe), cached=recipe.cached),
        data_collator=collator,  # pyright: ignore[reportArgumentType]  # any callable will do
        callbacks=[watcher],
    )
    # It prints every step on stdout, which `--json` owns.
    trainer.remove_callback(PrinterCallback)
    return trainer


def make_arguments(
    output: str, planned: PlannedStage, recipe: Recipe, *, device: str, bf16: bool
) -> SentenceTransformerTrainingArguments:
    """The trainer's arguments: what is set is the recipe's, everything that writes or reports is off.

    Raises:
        HoneloopError: the trainer would compute on another device than the one asked for.
    """
    wanted = torch.device(device)
    steps = len(planned.batches)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=output,
        # One pass over the batches of all epochs: their number is then exact, and so is the schedule.
        num_train_epochs=1,
        per_device_train_batch_size=planned.stage.batch_size,
        batch_sampler=lambda dataset, **_: PlannedBatches(planned.batches),  # pyright: ignore
        learning_rate=planned.stage.learning_rate,
        lr_scheduler_type="linear",
        # Below 1 it is a share, from 1 on a number of steps.
        warmup_steps=float(round(recipe.warmup_share * steps)) if recipe.warmup_share > 0 else 0.0,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=wanted.type == "cpu",
        bf16=bf16,
        # The trainer's own checkpoints hold pickled optimiser state; the best weights are kept in memory.
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=wanted.type == "cuda",
    )
    if arguments.n_gpu > 1:
        # Otherwise the trainer would split every batch over all GPUs, and with it the in-batch negatives.
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage]
    chosen = arguments.device
    if (chosen.type, chosen.index or 0) != (wanted.type, wanted.index or 0):
        raise HoneloopError(
            f"Fine-tuning would run on {chosen}, and {device} was asked for.",
            hint="Choose a GPU with CUDA_VISIBLE_DEVICES and set HONELOOP_DEVICE=cuda.",
        )
    return arguments


def _shown(values: Row) -> str:
    return ", ".join(f"{name} {values[name]:.4f}" for name in METRICS)
