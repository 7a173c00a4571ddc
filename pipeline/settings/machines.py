"""On which machines files are cut, texts embedded and models trained, and in which processes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class MachineSettings(BaseSettings):
    """On which machines files are cut, texts embedded and models trained, and in which processes."""

    engine: Literal["local", "ray"] = Field(
        default="local",
        description="Where files are cut, texts embedded and models trained: on this machine, or on a Ray "
        "cluster.",
    )
    executor: str = Field(
        default="in-process",
        pattern=r"^(in-process|multiprocess|k8s-job|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="What carries out the steps of a run that Dagster launches: in-process, all of them in "
        "the run's own process; multiprocess, a process for each; k8s-job, a pod for each; or the "
        "module:attribute of another executor.",
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
        description="So long a Ray cluster may have no node that could do the work, and a worker that has "
        "found room may take to start. What others have taken is waited for without an end.",
    )
