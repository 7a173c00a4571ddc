"""A member as a SentenceTransformer: what fine-tuning trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.encoders.files import TOKENIZER
from pipeline.encoders.quiet import quiet
from pipeline.encoders.spec import MemberSpec
from pipeline.encoders.tokenizing import TextTokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_POOLING_MODES: dict[str, Literal["mean", "cls", "lasttoken"]] = {
    "mean": "mean",
    "cls": "cls",
    "last": "lasttoken",
}
# Where readers of a tokenizer differ: special tokens, case, accents, indentation, digits, scripts.
_PROBES = ("", "def readCSV(path):\n    return  [1, 2.50]\n", "Größe = 名前; // данные 🐝")


def build_sentence_transformer(spec: MemberSpec, directory: Path, device: str) -> SentenceTransformer:
    """A SentenceTransformer made of a member's files: transformer, pooling, unit length.

    The modules follow the spec and not the directory's modules.json, so that its vectors are the encoder's.
    Weights are float32 whatever the encoder computes in: optimisers need the precision.
    Its tokenizer is the one in tokenizer.json: transformers may take another for an architecture it knows,
    and training would then see other tokens than the encoder does.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from torch import nn
    from transformers import PreTrainedTokenizerFast

    from pipeline.encoders.linear import is_faster, quicken_training

    with quiet():
        transformer = Transformer(
            str(directory),
            max_seq_length=spec.max_tokens,
            model_kwargs={
                "local_files_only": True,
                "use_safetensors": True,
                "trust_remote_code": False,
                "dtype": torch.float32,
            },
            processor_kwargs={"local_files_only": True, "trust_remote_code": False},
            config_kwargs={"local_files_only": True, "trust_remote_code": False},
        )
        pooling = Pooling(spec.dims, pooling_mode=_POOLING_MODES[spec.pooling])
        modules: list[nn.Module] = [transformer, pooling, Normalize()]
        prompts = {"query": spec.query_prompt, "document": spec.document_prompt}
        model = SentenceTransformer(modules=modules, device=device, prompts=prompts)
    ours = TextTokenizer(directory / TOKENIZER, spec.max_tokens, f"Copy the model to {directory} again.")
    theirs = model.tokenizer(list(_PROBES), truncation=True, max_length=spec.max_tokens)["input_ids"]
    if theirs != ours.ids(_PROBES):
        transformer.processor = PreTrainedTokenizerFast(
            tokenizer_file=str(directory / TOKENIZER),
            model_max_length=spec.max_tokens,
            padding_side="right",
            pad_token=ours.token(transformer.config.pad_token_id or 0),
        )
    if is_faster(model):
        quicken_training(model)
    return model
