"""The base encoder, and how texts are embedded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class EncoderSettings(BaseSettings):
    """The base encoder, and how texts are embedded."""

    encoder: str = Field(
        default="minilm", description="Base encoder: a preset, a directory, or hub-name@revision."
    )
    device: str | None = Field(default=None, description="cuda, mps or cpu; unset: the best that torch has.")
    backend: Literal["auto", "onnx", "torch"] = Field(
        default="auto",
        description="auto: on the CPU, models that were exported (`honeloop models export`) are computed by "
        "ONNX Runtime; onnx: and frozen members are exported when they are first loaded; torch: all are "
        "computed by torch.",
    )
    onnx_min_cosine: float = Field(
        default=0.9999,
        ge=0.9999,
        le=1,
        description="An export whose vectors are further from torch's is another model, and is refused.",
    )
    embed_batch_size: int = Field(default=16, ge=1, description="Texts per forward pass when embedding.")
    embed_chunk_size: int = Field(
        default=2048, ge=1, description="Texts held in memory at once while embedding."
    )
