"""LoRA: small trainable matrices beside frozen linear layers, by PEFT, merged into them in the end.

Of a large encoder, the optimiser's two moments and the gradients take three times the memory of the weights
themselves. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), train a change B·A of low
rank of each weight matrix instead. Merged, W + s·B·A is a plain weight matrix again: a checkpoint needs no
PEFT, and serving it costs nothing more.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from pipeline.encoders.linear import is_faster, quicken_training
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# s = alpha / r. Twice the rank is what the method's authors and most users since have taken.
_ALPHA = 2


def parameter_count(model: nn.Module) -> int:
    """How many numbers a model's weights are."""
    return sum(parameter.numel() for parameter in model.parameters())


class Adapters:
    """LoRA adapters on all linear layers of a model. The base weights are frozen from here on.

    Args:
        model: changed in place; its adapters are all that trains.
        rank: r.

    Raises:
        HoneloopError: the model has no linear layer.
    """

    def __init__(self, model: SentenceTransformer, rank: int) -> None:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        transformer = _transformer(model)
        if not any(isinstance(module, nn.Linear) for module in transformer.modules()):
            raise HoneloopError(
                "The encoder has no linear layers, which LoRA would adapt.", hint="Set HONELOOP_LORA_RANK=0."
            )
        model.requires_grad_(False)
        config = LoraConfig(
            r=rank, lora_alpha=_ALPHA * rank, lora_dropout=0.0, bias="none", target_modules="all-linear"
        )
        # It puts its layers into the transformer itself, which the Sentence Transformer goes on using.
        self._tuner = LoraModel(transformer, config, "default")
        if is_faster(model):
            quicken_training(model)

    def merge(self) -> None:
        """Adds the adapters to the weights, and takes them out: the model is as if it had none.

        Raises:
            HoneloopError: a merged weight is not finite.
        """
        try:
            self._tuner.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise HoneloopError(
                f"The LoRA adapters cannot be merged: {error}", hint="Lower HONELOOP_LORA_RATE_FACTOR."
            ) from error


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes of a model, by name: the parameters that need gradients. Not copied."""
    return {
        name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def set_trained_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives a model the values that `trained_tensors` gave of it.

    Raises:
        HoneloopError: they are of a model with other parameters.
    """
    own = trained_tensors(model)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise HoneloopError("The saved weights are not those of this model.", hint="Train anew.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def checkpoint_gradients(model: SentenceTransformer) -> None:
    """Keeps the inputs of each layer only, and computes what is inside again when gradients need it.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): about a third more time for a
    fraction of the memory. The gradients are the same.

    Raises:
        HoneloopError: the architecture does not offer it.
    """
    transformer = _transformer(model)
    try:
        # Not the re-entrant variant: it gives no gradients to adapters beside frozen inputs.
        transformer.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise HoneloopError(
            f"This encoder cannot trade time for memory: {error}",
            hint="Set HONELOOP_GRADIENT_CHECKPOINTING=off.",
        ) from error


def _transformer(model: SentenceTransformer) -> PreTrainedModel:
    from transformers import PreTrainedModel

    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))
