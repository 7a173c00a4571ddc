"""Fine-tuning: a base encoder and a training set in, a trained model with its history out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Settings
from pipeline.encoders.quiet import quiet
from pipeline.progress import Progress
from pipeline.training.account import Account
from pipeline.training.averaging import average, shown
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.guide import Guide
from pipeline.training.history import Row, check_falling
from pipeline.training.memory import peak_bytes, reset_peak
from pipeline.training.recipe import Recipe, recipe_of
from pipeline.training.recipe_key import recipe_key
from pipeline.training.stages import PlannedStage, plan_stages
from pipeline.training.validation import Validation

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import Pair, TrainingSet
    from pipeline.training.trainer import Watcher


@dataclass(frozen=True)
class FineTuned(Account):
    """A trained model and how it came to be.

    Attributes:
        model: the trained member, in evaluation mode, with the weights of its best validation, or an average
            of them with the base's.
    """

    model: SentenceTransformer


def fine_tune(
    base: Encoder,
    training_set: TrainingSet,
    settings: Settings,
    work_dir: Path,
    progress: Progress,
    *,
    guide: Encoder | None = None,
    earlier: Sequence[Pair] = (),
) -> FineTuned:
    """Trains a copy of the base encoder's trainable member on the training set's pairs.

    The same base, pairs, settings, library versions and number of threads give the same weights on the CPU,
    bit for bit. Of several members only the trainable one is trained. `base` itself is not changed.

    Args:
        base: what to start from.
        training_set: pairs of split "train" are trained on, those of split "validation" decide when to stop
            and which weights to keep; "test" is not looked at.
        settings: see "Fine-tuning" there.
        work_dir: scratch space of the trainer; nothing in it is needed afterwards.
        progress: told of every step and validation.
        guide: of a guided recipe; by default `base`.
        earlier: pairs of earlier training sets that `base` has learned from, to be replayed.

    Raises:
        HoneloopError: nothing to train on, the loss or a gradient became NaN or infinite, the loss rose, or
            the base has no trainable member.
        BadInputError: an unknown recipe.
    """
    recipe = recipe_of(settings)
    stages = plan_stages(training_set, recipe, progress.note, earlier)
    started = time.monotonic()
    with quiet(), _reproducible(recipe.seed, base.device):
        from pipeline.training.trainer import Watcher

        reset_peak(base.device)
        model = base.sentence_transformer()
        model.requires_grad_(True)
        _set_dropout(model, recipe.dropout)
        member = base.spec.members[base.spec.trainable_member or 0]
        prompts = (member.query_prompt, member.document_prompt)
        validation = Validation(
            training_set.of("validation"),
            recipe.validation_pairs,
            *prompts,
            min_feedback=recipe.validation_min_feedback,
        )
        pairs = [pair for planned in stages for pair in planned.pairs]
        limit = min(recipe.max_tokens, member.max_tokens)
        tokens = token_table(model, [*_texts(pairs, *prompts), *validation.texts], limit)
        guided_by = Guide(guide or base, pairs, recipe.guide_margin) if recipe.guided else None
        untrained = _weights_of(model) if recipe.averaging_shares else {}
        steps = sum(len(planned.batches) for planned in stages)
        measure = (lambda: validation.measure(model, tokens)) if validation.queries else None
        with progress.stage("Fine-tuning", steps) as advance:
            watcher = Watcher(
                model,
                measure,
                steps=steps,
                patience=recipe.patience,
                advance=advance,
                note=progress.note,
                guided=recipe.guided,
            )
            watcher.measure_base()
            for planned in stages:
                if len(stages) > 1:
                    progress.note(_announced(planned))
                _train_stage(
                    model,
                    planned,
                    recipe,
                    collator=PairCollator(planned.pairs, tokens, *prompts, guided_by),
                    watcher=watcher,
                    device=base.device,
                    work_dir=work_dir,
                )
        check_falling(watcher.history, settings.max_loss_rise)
        averaging = _averaged(model, untrained, recipe, measure=measure, progress=progress)
        values = validation.values(model, tokens) if validation.queries else []
        model.eval()
        peak = peak_bytes(base.device)
    # The trainer makes its directory and, with nothing to save, leaves it empty.
    with suppress(OSError):
        work_dir.rmdir()
    seconds = time.monotonic() - started
    progress.note(
        f"Fine-tuned by {recipe.name} on {len(pairs)} pairs in {seconds:.0f} s on {base.device}; weights of "
        f"step {watcher.best_step} of {steps}."
    )
    return FineTuned(
        model=model,
        recipe_key=recipe_key(
            training_set,
            base.version,
            settings,
            guide_version=guide.version if guide is not None and recipe.guided else None,
            earlier=earlier,
        ),
        base_version=base.version,
        history=watcher.history,
        device=base.device,
        seconds=seconds,
        best_step=watcher.best_step,
        recipe=recipe.to_json(),
        stages=[planned.to_json() for planned in stages],
        validation={"decides": validation.decides, "queries": validation.counts, "values": values},
        averaging=averaging,
        peak_memory_bytes=peak,
    )


def _train_stage(
    model: SentenceTransformer,
    planned: PlannedStage,
    recipe: Recipe,
    *,
    collator: PairCollator,
    watcher: Watcher,
    device: str,
    work_dir: Path,
) -> None:
    """Trains one stage; the model has the best weights so far afterwards."""
    from pipeline.encoders.devices import supports_bf16
    from pipeline.training.trainer import make_arguments, make_trainer

    arguments = make_arguments(str(work_dir), planned, recipe, device=device, bf16=supports_bf16(device))
    trainer = make_trainer(model, recipe, collator=collator, watcher=watcher, arguments=arguments)
    watcher.begin(planned, recipe.validations_per_epoch)
    trainer.train()
    watcher.end()
    # In bfloat16 the accelerator wraps the model's forward; the model itself is what is wanted back.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    watcher.restore_best()


def _averaged(
    model: SentenceTransformer,
    untrained: Mapping[str, torch.Tensor],
    recipe: Recipe,
    *,
    measure: Callable[[], Row] | None,
    progress: Progress,
) -> dict[str, Any]:
    """Averages the trained model with the base, if the recipe says so; what to tell about it."""
    if not recipe.averaging_shares:
        return {}
    if measure is None:
        progress.note("There are no validation pairs to choose a share by: the weights are not averaged.")
        return {}
    with progress.stage("Averaging weights"):
        share, curve = average(
            model,
            untrained,
            recipe.averaging_shares,
            recipe.averaging_max_loss,
            measure,
        )
    progress.note(f"Share of the trained weights {share:g}; of " + "; ".join(map(shown, curve)) + ".")
    return {"share": share, "curve": curve}


def _weights_of(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _announced(planned: PlannedStage) -> str:
    replayed = f", {planned.replayed} of them replayed" if planned.replayed else ""
    return (
        f"Stage {planned.stage.name}: {len(planned.pairs)} pairs{replayed}, epochs: {planned.stage.epochs}, "
        f"steps: {len(planned.batches)}."
    )


def _texts(pairs: list[Pair], query_prompt: str, document_prompt: str) -> list[str]:
    texts: list[str] = []
    for pair in pairs:
        texts.append(query_prompt + pair.query)
        texts.append(document_prompt + pair.positive_text)
        texts.extend(document_prompt + negative.text for negative in pair.negatives)
    return texts


def _set_dropout(model: SentenceTransformer, share: float) -> None:
    """Lets every dropout layer drop this share of its inputs.

    None is the default: dropout costs a fifth of the time, and with every text seen once or twice there is
    little to overfit. Measured with MiniLM on 480 pairs of documentation, nDCG@10 of 400 functions of other
    packages (base 0.749): with dropout 0.788 and 0.792 (two seeds), without 0.791 (one seed); 76 against 63
    seconds of one processor.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


@contextmanager
def _reproducible(seed: int, device: str) -> Generator[None]:
    """All random numbers come from `seed` inside, and are the caller's own again afterwards.

    On the CPU torch is told to use deterministic algorithms only. On CUDA that would need an environment
    variable set before the process starts; equal fingerprints are promised on the CPU.
    """
    import numpy as np
    import torch
    from transformers import set_seed

    python_state, numpy_state = random.getstate(), np.random.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            set_seed(seed)
            if torch.device(device).type == "cpu":
                torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            random.setstate(python_state)
            np.random.set_state(numpy_state)
