"""A really different model that can be loaded from a directory: MiniLM with slightly other weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from assets_tests.encoders.conftest import copy_model
from assets_tests.index.click_corpus import Function, build, store_vectors
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database

# So many functions are searched by two models.
COUNT = 100


@dataclass(frozen=True)
class Model:
    """A model, what `load_encoder` takes to load it, and its vectors of some functions, row by row."""

    encoder: Encoder
    location: str
    functions: tuple[Function, ...]
    vectors: NDArray[np.float32]

    @property
    def version(self) -> str:
        return self.encoder.version


def load_perturbed(directory: Path, functions: tuple[Function, ...], seed: int = 17) -> Model:
    """Makes a model in `directory`, loads it, and embeds the functions."""
    from pipeline.encoders.loading import load_encoder

    encoder = load_encoder(str(perturbed_model(directory, seed)), device="cpu")
    return Model(encoder, str(directory), functions, encoder.embed_documents([f.code for f in functions]))


def perturbed_model(directory: Path, seed: int = 17) -> Path:
    """A Sentence Transformers directory: MiniLM, its weights changed at random by a tenth of their spread."""
    copy_model(directory, real=("model.safetensors",))
    weights = load_file(directory / "model.safetensors")
    rng = np.random.default_rng(seed)
    for name, values in weights.items():
        if values.dtype == np.float32:
            noise = rng.standard_normal(values.shape, dtype=np.float32)
            weights[name] = values + 0.1 * float(values.std()) * noise
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def index_of(db: Database, model: Model, settings: Settings) -> int:
    """Registers the model where it lies and builds its index; the id of the index version, ready to serve."""
    store_vectors(db, model.encoder, model.functions, model.vectors)
    ensure_registered(db, model.encoder, model.location)
    return build(db, model.encoder, settings).index_version_id
