"""Fine-tuning: a base encoder and a training set in, a trained model with its history out."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Settings
from pipeline.encoders.quiet import quiet
from pipeline.progress import Progress
from pipeline.training.account import Account
from pipeline.training.averaging import average, shown
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.convergence import convergence_by
from pipeline.training.dropout import set_dropout
from pipeline.training.economy import Economy, economy_of
from pipeline.training.guide import Guide
from pipeline.training.history import Row, check_falling
from pipeline.training.losses import loss_of
from pipeline.training.memory import peak_bytes, reset_peak
from pipeline.training.recipe import Recipe, recipe_of
from pipeline.training.recipe_key import recipe_key
from pipeline.training.stages import PlannedStage, plan_stages
from pipeline.training.training_state import StateStore, Timing
from pipeline.training.validation import EACH, Validation, shown_metrics

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.encoder import Encoder
    from pipeline.training.adapters import Adapters
    from pipeline.training.pairs import Pair, TrainingSet
    from pipeline.training.resuming import StateKeeper
    from pipeline.training.trainer import Watcher


@dataclass(frozen=True)
class FineTuned(Account):
    """A trained model and how it came to be.

    Attributes:
        model: the trained member, in evaluation mode, with the weights of the validation that was chosen (see
            `choosing`), or an average of them with the base's.
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
    store: StateStore | None = None,
) -> FineTuned:
    """Trains a copy of the base encoder's trainable member on the training set's pairs.

    The same base, pairs, settings, library versions and number of threads give the same weights on the CPU,
    bit for bit, even if a killed training was resumed from the state in `work_dir` in between. Of several
    members only the trainable one is trained. `base` itself is not changed.

    Where `parallel` knows of other processes, all of them call this with the same arguments, and each returns
    the same model.

    Args:
        base: what to start from.
        training_set: pairs of split "train" are trained on, those of split "validation" decide when to stop
            and which weights to keep; "test" is not looked at.
        settings: see "Fine-tuning" there.
        work_dir: where the state of the training is saved. It is left there, so that nothing is lost before
            the model is kept elsewhere; then it can be deleted.
        progress: told of every step and validation.
        guide: of a guided recipe; by default `base`.
        earlier: pairs of earlier training sets that `base` has learned from, to be replayed.
        store: keeps the state in `work_dir`, and knows the recipe's key; by default the key on this machine.

    Raises:
        HoneloopError: nothing to train on, the loss or a gradient became NaN or infinite, the loss rose, or
            the base has no trainable member; or this very training is under way in another process.
        BadInputError: an unknown recipe.
    """
    recipe = recipe_of(settings)
    stages = plan_stages(training_set, recipe, progress.note, earlier)
    store = store or StateStore(
        work_dir,
        recipe_key(
            training_set,
            base.version,
            settings,
            guide_version=guide.version if guide is not None and recipe.guided else None,
            earlier=earlier,
        ),
    )
    with quiet(), _reproducible(recipe.seed, base.device), _alone(store):
        from pipeline.training import parallel
        from pipeline.training.adapters import trained_tensors
        from pipeline.training.resuming import StateKeeper
        from pipeline.training.trainer import Watcher

        reset_peak(base.device)
        model = _trainable(base, recipe.dropout)
        apart = recipe.apart and len(stages) > 1
        untrained = _weights_of(model) if recipe.averaging_shares or apart else {}
        economy = _economy(model, recipe, settings, base.device)
        adapters = _with_adapters(model, economy, progress.note)
        member = base.spec.members[base.spec.trainable_member or 0]
        prompts = (member.query_prompt, member.document_prompt)
        validation = Validation(
            training_set.of("validation"),
            recipe.validation_pairs,
            *prompts,
            min_feedback=recipe.validation_min_feedback,
        )
        pairs = [pair for planned in stages for pair in planned.pairs]
        tokens = token_table(
            model,
            [*_texts(pairs, *prompts), *validation.texts],
            min(recipe.max_tokens, member.max_tokens),
        )
        guided_by = Guide(guide or base, pairs, recipe.guide_margin) if recipe.guided else None
        steps = sum(len(planned.batches) for planned in stages)

        def measured() -> Row:
            return validation.measure(model, tokens, loss_of(recipe), stages[-1].stage.batch_size)

        measure = measured if validation.queries else None
        with progress.stage("Fine-tuning", steps) as advance:
            watcher = Watcher(
                model,
                measure,
                steps=steps,
                patience=recipe.patience,
                tolerance=recipe.validation_tolerance,
                advance=advance,
                note=progress.note,
                guided=recipe.guided,
            )
            keeper = StateKeeper(
                store,
                model,
                watcher,
                Timing(settings.state_seconds, settings.state_max_share),
                device=base.device,
                note=progress.note,
            )
            resumed_in = keeper.resume()
            parallel.check_equal(trained_tensors(model))
            if not keeper.resumed_at:
                watcher.measure_base()
            for number, planned in enumerate(stages):
                if number < resumed_in:
                    continue
                if len(stages) > 1:
                    progress.note(planned.announcement)
                _train_stage(
                    model,
                    planned,
                    recipe,
                    collator=PairCollator(planned.pairs, tokens, *prompts, guided_by),
                    watcher=watcher,
                    keeper=keeper,
                    number=number,
                    device=base.device,
                    bf16=economy.bf16,
                    rate_factor=recipe.lora_rate_factor if economy.rank else 1.0,
                    output=work_dir,
                )
                if apart and planned is not stages[-1]:
                    keeper.ended.append(_ended(model, adapters))
                    model.load_state_dict(untrained)
                    adapters = _with_adapters(model, economy, progress.note)
        check_falling(watcher.history, settings.max_loss_rise, apart=recipe.apart)
        _take_out(adapters)
        merging = _merged(model, keeper.ended, stages, measure=measure, progress=progress)
        averaging = _averaged(model, untrained, recipe, measure=measure, progress=progress)
        parallel.check_equal(dict(model.named_parameters()))
        values = validation.measure(model, tokens)[EACH] if validation.queries else []
        model.eval()
    convergence = convergence_by(settings, watcher.history, apart=recipe.apart)
    for finding in convergence.overfitting:
        progress.note(finding.sentence)
    progress.note(
        f"Fine-tuned by {recipe.name} on {len(pairs)} pairs in {keeper.seconds:.0f} s on {base.device}; "
        f"weights of step {watcher.best_step} of {steps}."
    )
    return FineTuned(
        model=model,
        recipe_key=store.identity,
        base_version=base.version,
        history=watcher.history,
        device=base.device,
        seconds=keeper.seconds,
        best_step=watcher.best_step,
        recipe=recipe.to_json(),
        stages=[planned.to_json() for planned in stages],
        validation={"decides": validation.decides, "queries": validation.counts, "values": values},
        merging=merging,
        averaging=averaging,
        peak_memory_bytes=peak_bytes(base.device),
        convergence=convergence.to_json(),
        lora_rank=economy.rank,
        processes=parallel.processes(),
        resumed_at=keeper.resumed_at,
    )


def _economy(model: SentenceTransformer, recipe: Recipe, settings: Settings, device: str) -> Economy:
    from pipeline.encoders.devices import supports_bf16
    from pipeline.training.adapters import parameter_count

    return economy_of(
        large=parameter_count(model) >= recipe.large_parameters,
        device=device,
        bf16_hardware=supports_bf16(device),
        checkpointing=settings.gradient_checkpointing,
        rank=recipe.lora_rank,
    )


def _with_adapters(
    model: SentenceTransformer, economy: Economy, note: Callable[[str], None]
) -> Adapters | None:
    """What a large model needs to be trained: adapters, and less memory for activations."""
    from pipeline.training.adapters import Adapters, checkpoint_gradients, parameter_count

    count = parameter_count(model)
    if economy.checkpointing:
        checkpoint_gradients(model)
    if not economy.rank:
        return None
    adapters = Adapters(model, economy.rank)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    note(f"LoRA of rank {economy.rank}: {trained:,} numbers are trained beside the {count:,} of the encoder.")
    return adapters


def _train_stage(
    model: SentenceTransformer,
    planned: PlannedStage,
    recipe: Recipe,
    *,
    collator: PairCollator,
    watcher: Watcher,
    keeper: StateKeeper,
    number: int,
    device: str,
    bf16: bool,
    rate_factor: float,
    output: Path,
) -> None:
    """Trains one stage; the model has the best weights so far afterwards."""
    from pipeline.training.trainer import make_arguments, make_trainer

    taken = keeper.enter(number)
    trainer = make_trainer(
        model,
        recipe,
        collator=collator,
        cached=planned.stage.cached,
        batches=planned.batches[taken:],
        # In this order: what is saved holds what was validated.
        callbacks=[watcher, keeper],
        arguments=make_arguments(
            str(output), planned, recipe, device=device, bf16=bf16, rate_factor=rate_factor
        ),
    )
    watcher.begin(planned, recipe.validations_per_epoch, taken, apart=recipe.apart)
    trainer.train()
    watcher.end()
    # In bfloat16 the accelerator wraps the model's forward; the model itself is what is wanted back.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    watcher.restore_best()


def _trainable(base: Encoder, dropout: float) -> SentenceTransformer:
    model = base.sentence_transformer()
    model.requires_grad_(True)
    set_dropout(model, dropout)
    return model


def _take_out(adapters: Adapters | None) -> None:
    """Adds what adapters learned to the weights, if there are any."""
    if adapters is not None:
        adapters.merge()


def _ended(model: SentenceTransformer, adapters: Adapters | None) -> dict[str, torch.Tensor]:
    """What a part came to that the next one does not go on from."""
    from pipeline.training.merging import weights_in_memory

    _take_out(adapters)
    return weights_in_memory(model)


def _merged(
    model: SentenceTransformer,
    ended: Sequence[Mapping[str, torch.Tensor]],
    stages: Sequence[PlannedStage],
    *,
    measure: Callable[[], Row] | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Merges the model with what the stages before came to, if each began at the base; `Account.merging`."""
    if not ended:
        return []
    from pipeline.training.merging import merge

    with progress.stage("Merging weights"):
        rows = merge(model, ended, [planned.stage.name for planned in stages], measure)
    if measure is not None:
        told = "; ".join(f"{row['part']}: {shown_metrics(row)}" for row in rows)
        progress.note(f"Learned apart, and merged: {told}.")
    return rows


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


def _texts(pairs: list[Pair], query_prompt: str, document_prompt: str) -> list[str]:
    texts: list[str] = []
    for pair in pairs:
        texts.append(query_prompt + pair.query)
        texts.append(document_prompt + pair.positive_text)
        texts.extend(document_prompt + negative.text for negative in pair.negatives)
    return texts


@contextmanager
def _alone(store: StateStore) -> Generator[None]:
    """Holds the lock on a training's state, in the one process that writes it."""
    from pipeline.training.parallel import rank

    with store.alone() if rank() == 0 else nullcontext():
        yield


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
