"""A few real texts with a model's vectors for them: they tell whether its checkpoint is the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.spec import EncoderSpec
from pipeline.training.batches import token_table
from pipeline.training.validation import embed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import TrainingSet

PROBE = "probe.json"
_PAIRS = 8
_TOLERANCE = 1e-5


def take_probe(model: SentenceTransformer, spec: EncoderSpec, training_set: TrainingSet) -> dict[str, Any]:
    """Queries and snippets of the training set with the trained member's vectors for them.

    The vectors are computed in float32 on the CPU, whatever the model was trained on, so that they can be
    compared anywhere; the model is moved back.
    """
    number = spec.trainable_member or 0
    member = spec.members[number]
    pairs = training_set.pairs[:_PAIRS]
    queries = [pair.query for pair in pairs]
    documents = [pair.positive_text for pair in pairs]
    device = model.device
    model.to("cpu")
    try:
        vectors: list[NDArray[np.float32]] = []
        for texts, prompt in ((queries, member.query_prompt), (documents, member.document_prompt)):
            prompted = [prompt + text for text in texts]
            vectors.append(embed(model, prompted, token_table(model, prompted, member.max_tokens)))
    finally:
        model.to(device)
    return {
        "member": number,
        "queries": queries,
        "documents": documents,
        "query_vectors": vectors[0].tolist(),
        "document_vectors": vectors[1].tolist(),
    }


def probe_differences(path: Path, encoder: Encoder) -> list[str]:
    """In what an encoder's vectors are not those of the probe; nothing if they are, up to 1e-5.

    Args:
        path: a file with what `take_probe` gave.
        encoder: loaded from the checkpoint, on the CPU.
    """
    try:
        probe = json.loads(path.read_text(encoding="utf-8"))
        expected = {
            "queries": np.array(probe["query_vectors"], dtype=np.float32),
            "documents": np.array(probe["document_vectors"], dtype=np.float32),
        }
        number = int(probe["member"])
        texts = {name: list[str](probe[name]) for name in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{path} cannot be read: {error}."]
    found = {
        "queries": encoder.embed_queries(texts["queries"]),
        "documents": encoder.embed_documents(texts["documents"]),
    }
    problems: list[str] = []
    for name, vectors in expected.items():
        own = _of_member(found[name], encoder.spec, number)
        if own.shape != vectors.shape:
            problems.append(f"The {name} of {path} have vectors of shape {vectors.shape}, not {own.shape}.")
        elif not (difference := float(np.abs(own - vectors).max())) <= _TOLERANCE:
            problems.append(
                f"The vectors of the {name} in {path} differ by {difference:.1e} from those of the model "
                f"that was trained; {_TOLERANCE:.0e} is allowed."
            )
    return problems


def _of_member(vectors: NDArray[np.float32], spec: EncoderSpec, number: int) -> NDArray[np.float32]:
    """The part of an encoder's vectors that one member makes, at unit length again."""
    dims: Sequence[int] = [member.dims for member in spec.members]
    part = vectors[:, sum(dims[:number]) : sum(dims[: number + 1])]
    return part / np.linalg.norm(part, axis=1, keepdims=True)
