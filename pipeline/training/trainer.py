"""Sentence Transformers' trainer, fed with our batches and watched as it goes.

The one module of this room that imports torch at the top, because its classes are torch's; it is imported
only inside `fine_tune`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from pipeline.errors import HoneloopError
from pipeline.training.adapters import set_trained_tensors, trained_tensors
from pipeline.training.batches import PairCollator, PlannedBatches
from pipeline.training.choosing import is_clearly_worse
from pipeline.training.history import Row, check_finite
from pipeline.training.losses import Loss, embed_batch, loss_of
from pipeline.training.parallel import sum_gradients
from pipeline.training.recipe import Recipe
from pipeline.training.stages import PlannedStage
from pipeline.training.validation import EACH, shown_metrics


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
        batches: rows of the dataset, in the order in which they are trained on.
        doubted: how many documents of the last batch the guide took out.
    """

    batches: Sequence[list[int]] = ()
    doubted = 0
    _last_loss = 0.0

    def create_accelerator_and_postprocess(self) -> None:
        """Keeps Accelerate from wrapping the model for several processes: `parallel` does what it takes."""
        super().create_accelerator_and_postprocess()
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The planned batches, all of them in every process."""
        return DataLoader(
            cast("Any", self.train_dataset),
            batch_sampler=PlannedBatches(self.batches),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward; afterwards each process has the gradients of the whole batch."""
        loss = super().training_step(*args, **kwargs)
        sum_gradients(self.model.parameters())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Completes what callbacks are told of a step."""
        if "loss" in logs:
            # The trainer's own is a mean over the steps since its last, of which it knows none when resumed.
            logs["loss"] = self._last_loss
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
        self._last_loss = float(loss.detach())
        check_finite(self._last_loss, "loss", self.state.global_step + 1)
        return (loss, {}) if return_outputs else loss

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: a manifest describes a checkpoint, and the card would embed examples to fill itself."""


class Watcher(TrainerCallback):
    """Keeps the history, validates, remembers the best weights, and stops a run that no longer improves.

    Of a run in stages it watches all: steps are counted through, and the best weights are the best of the
    whole run, or of the last stage if each begins anew. Of validations that chance may have put in their
    order the last counts as the best.

    Args:
        model: what is trained.
        measure: the validation metrics of the model as it is; None if there are no validation pairs.
        steps: optimiser steps planned for the whole run.
        patience: validations without improvement before a stage stops.
        tolerance: how far below the best a later validation may be to be taken instead; see `choosing`.
        advance: told of each step.
        note: told of each validation.
        guided: whether a guide takes documents out, which are then counted.

    Attributes:
        history: see `history`.
        steps: optimiser steps planned, without those that early stopping left out.
        taken: those taken so far.
        best_step: the step of the validation chosen so far, of which `best_weights` are; without validation
            pairs the last step.
        validated: whether the last step was followed by a validation.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        measure: Callable[[], Row] | None,
        *,
        steps: int,
        patience: int,
        tolerance: float,
        advance: Callable[[int], None],
        note: Callable[[str], None],
        guided: bool = False,
    ) -> None:
        self.history: list[Row] = []
        self.best_step = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.steps = steps
        self.taken = 0
        self.validated = False
        self._model = model
        self._measure = measure
        self._patience = patience
        self._tolerance = tolerance
        self._advance = advance
        self._note = note
        self._guided = guided
        self._best: list[float] = []  # each query's metric in the best validation
        self._without_improvement = 0
        self._before = 0  # steps before the present stage
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
        del values[EACH]
        self.history.append({"step": 0, "epoch": 0.0, **values})
        self._note(f"Before training: {shown_metrics(values)}.")

    def memory(self) -> dict[str, Any]:
        """What it knows but for the best weights, JSON-able."""
        return {
            "history": self.history,
            "steps": self.steps,
            "taken": self.taken,
            "best_step": self.best_step,
            "best": self._best,
            "without_improvement": self._without_improvement,
        }

    def restore(self, memory: Mapping[str, Any], best_weights: Mapping[str, torch.Tensor] | None) -> None:
        """Takes over what another one knew, of the same training."""
        planned, self.steps = self.steps, int(memory["steps"])
        self.history = list(memory["history"])
        self.taken = int(memory["taken"])
        self.best_step = int(memory["best_step"])
        self.best_weights = dict(best_weights or {})
        self._best = list(memory["best"])
        self._without_improvement = int(memory["without_improvement"])
        self._advance(planned - self.steps + self.taken)

    def begin(
        self, stage: PlannedStage, validations_per_epoch: int, resumed: int = 0, *, apart: bool = False
    ) -> None:
        """What follows are the steps of this stage, after the first `resumed`.

        `apart`: it does not go on with the weights of the stage before, so its best are its own.
        """
        self._stage = stage
        self._before = self.taken - resumed
        if not resumed:
            self._without_improvement = 0
            if apart:
                self._best, self.best_weights = [], {}
        steps = len(stage.batches)
        validations = min(validations_per_epoch * stage.stage.epochs, steps)
        self._validate_at = frozenset(round(steps * i / validations) for i in range(1, validations + 1))

    def end(self) -> None:
        """The stage is over, maybe before its last step."""
        assert self._stage is not None
        skipped = self._before + len(self._stage.batches) - self.taken
        self.steps -= skipped
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
        step = self.taken = self._before + state.global_step
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
        self.validated = self._measure is not None and state.global_step in self._validate_at
        if self._measure is None:
            self.best_step = step
        elif self.validated and self._validate(step, logs["loss"]) >= self._patience:
            self._note(f"Stopped early at step {step}: no improvement in {self._patience} validations.")
            control.should_training_stop = True

    def restore_best(self) -> None:
        """Gives the model back the weights of the validation that was chosen."""
        if self.best_weights:
            set_trained_tensors(self._model, self.best_weights)

    def _validate(self, step: int, loss: float) -> int:
        """Validates, and gives how many validations ago the best was."""
        assert self._measure is not None
        values = self._measure()
        each = values.pop(EACH)
        self.history.append({**self._place(step), **values})
        improved = not self._best or sum(each) > sum(self._best)
        kept = improved or not is_clearly_worse(each, self._best, self._tolerance)
        if improved:
            self._best = each
        if kept:
            self.best_step = step
            self.best_weights = {
                name: tensor.clone() for name, tensor in trained_tensors(self._model).items()
            }
        self._without_improvement = 0 if improved else self._without_improvement + 1
        mark = ", the best so far" if improved else ", as good as the best but for chance" if kept else ""
        self._note(f"Step {step} of {self.steps}: loss {loss:.4f}, {shown_metrics(values)}{mark}.")
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
    cached: bool,
    batches: Sequence[list[int]],
    callbacks: Sequence[TrainerCallback],
    arguments: SentenceTransformerTrainingArguments,
) -> PairTrainer:
    """A trainer that takes the planned batches in their order and tells the callbacks of every step.

    `cached` as for `BatchLoss`.
    """
    from datasets import Dataset

    trainer = PairTrainer(
        model=model,
        args=arguments,
        # Rows only: the collator has the texts, already tokenised.
        train_dataset=Dataset.from_dict({"row": list(range(collator.rows))}),
        loss=BatchLoss(model, loss_of(recipe), cached=cached),
        data_collator=collator,  # pyright: ignore[reportArgumentType]  # any callable will do
        callbacks=list(callbacks),
    )
    trainer.batches = batches
    # It prints every step on stdout, which `--json` owns.
    trainer.remove_callback(PrinterCallback)
    return trainer


def make_arguments(
    output: str,
    planned: PlannedStage,
    recipe: Recipe,
    *,
    device: str,
    bf16: bool,
    rate_factor: float = 1.0,
) -> SentenceTransformerTrainingArguments:
    """The trainer's arguments: what is set is the recipe's, everything that writes or reports is off.

    Raises:
        HoneloopError: the trainer would compute on another device than the one asked for.
    """
    wanted = torch.device(device)
    steps = len(planned.batches)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=output,
        # Of the batches of all epochs, however many of them are behind a training that was resumed: their
        # number is then exact, and so is the schedule.
        max_steps=steps,
        per_device_train_batch_size=planned.stage.batch_size,
        learning_rate=planned.stage.learning_rate * rate_factor,
        lr_scheduler_type="linear",
        # Below 1 it is a share, from 1 on a number of steps.
        warmup_steps=float(round(recipe.warmup_share * steps)) if recipe.warmup_share > 0 else 0.0,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=wanted.type == "cpu",
        bf16=bf16,
        # The trainer's own checkpoints hold pickled optimiser state; `resuming` saves it otherwise.
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
