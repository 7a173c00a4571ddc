"""On which machines files are cut, texts embedded and models trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class MachineSettings(BaseSettings):
    """On which machines files are cut, texts embedded and models trained."""

    engine: Literal["local", "ray"] = Field(
        default="local",
        description="Where files are cut, texts embedded and models trained: on this machine, or on a Ray "
        "cluster.",
    )
    ray_address: str = Field(
        default="auto",
        min_length=1,
        description="That cluster: host:port of its head, or ray://host:port of its client server; auto: the "
        "one that this machine is a node of.",
    )
    ray_patience_seconds: float = Field(
        default=300,
        gt=0,
        description="So long Ray may take to give a first worker, another one, or room for all of a "
        "training's processes.",
    )
