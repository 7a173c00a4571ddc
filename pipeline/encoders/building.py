"""From verified files to a Member: reads the weights into the model, and the tokenizer beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.encoders.agreement import check_tokenizer
from pipeline.encoders.directories import positions_of
from pipeline.encoders.files import ARCHITECTURE, TOKENIZER, DamagedModelError, weight_files
from pipeline.encoders.member import Member
from pipeline.encoders.sources import Located
from pipeline.encoders.spec import MemberSpec
from pipeline.encoders.tokenizing import TextTokenizer

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from pipeline.encoders.lora import AdapterSwitch


def build_member(spec: MemberSpec, located: Located, device: str) -> Member:
    """A member that torch computes on `device`, made of the files at `located`, which were verified before.

    Raises:
        DamagedModelError: weights, architecture, tokenizer and spec do not fit together.
    """
    from pipeline.encoders.linear import is_faster, pack_linears
    from pipeline.encoders.torch_backend import TorchBackend

    model, switch = build_model(spec, located, device)
    if is_faster(model):
        pack_linears(model)
    tokenizer = TextTokenizer(located.directory / TOKENIZER, spec.max_tokens, located.fix)
    return Member(spec, located.directory, tokenizer, TorchBackend(spec, model, switch))


def build_model(
    spec: MemberSpec, located: Located, device: str
) -> tuple[PreTrainedModel, AdapterSwitch | None]:
    """The transformer itself with its adapters, in evaluation mode; the rest is as for `build_member`."""
    from torch import nn

    from pipeline.encoders.lora import add_adapters

    directory, fix = located.directory, located.fix
    tokenizer = TextTokenizer(directory / TOKENIZER, spec.max_tokens, fix)
    model = _read_model(spec, located, device)
    _check_fit(spec, located, tokenizer, model.config.to_dict())
    switch = add_adapters(model, directory, spec.adapters, fix) if spec.adapters else None
    _own_memory(model)
    # transformers wraps nn.Module.to in a way that loses its signature.
    nn.Module.to(model.eval().requires_grad_(False), device)
    return model, switch


def _read_model(spec: MemberSpec, located: Located, device: str) -> PreTrainedModel:
    from inspect import signature

    from transformers import AutoModel

    from pipeline.encoders.devices import compute_dtype
    from pipeline.encoders.quiet import quiet

    directory = located.directory
    try:
        with quiet():
            model, report = AutoModel.from_pretrained(
                str(directory),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=compute_dtype(device),
                # Tensors of another shape are then listed in the report, and refused below.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DamagedModelError(
            f"The model in {directory} cannot be built from its {ARCHITECTURE} and weights: {reason}",
            hint=located.fix,
        ) from error
    wrong = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    wrong += [str(each[0]) for each in report["mismatched_keys"]]
    if wrong:
        weights = ", ".join(str(path) for path in weight_files(directory, located.fix))
        raise DamagedModelError(
            f"{weights} does not fit {ARCHITECTURE}: {len(wrong)} tensors are missing or have another "
            f"shape, the first is {sorted(wrong)[0]}.",
            hint=located.fix,
        )
    # Decoders would keep keys and values for a next token that is never asked for.
    model.config.use_cache = False
    if "add_pooling_layer" in signature(type(model).__init__).parameters:
        # It makes another vector, for classification, which nobody here asks for.
        model.register_module("pooler", None)
    return model


def _own_memory(model: nn.Module) -> None:
    """Copies what the weights' file still backs: its tensors are pages of that file, mapped and not read.

    A file cut short would end the process that serves from it (SIGBUS), one written over change its vectors.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_fit(spec: MemberSpec, located: Located, tokenizer: TextTokenizer, config: dict[str, Any]) -> None:
    directory = located.directory
    if config.get("hidden_size") != spec.dims:
        raise DamagedModelError(
            f"{directory / ARCHITECTURE} describes vectors of {config.get('hidden_size')} dims, and "
            f"{spec.dims} are expected.",
            hint=located.fix,
        )
    positions = positions_of(config)
    if positions is not None and spec.max_tokens > positions:
        raise DamagedModelError(
            f"{directory / ARCHITECTURE} describes a model of texts up to {positions} tokens, and "
            f"{spec.max_tokens} are expected.",
            hint=located.fix,
        )
    vocabulary = config.get("vocab_size")
    if isinstance(vocabulary, int) and tokenizer.vocabulary_size > vocabulary:
        raise DamagedModelError(
            f"{directory / TOKENIZER} has {tokenizer.vocabulary_size} tokens and the model {vocabulary}: the "
            "tokenizer is another model's.",
            hint=located.fix,
        )
    # A checkpoint's manifest has the hash of its own tokenizer.
    if not spec.source.startswith("checkpoint:"):
        check_tokenizer(directory, tokenizer, config, located.fix)
