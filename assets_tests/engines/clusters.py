"""A real Ray cluster on this machine: its head and its nodes are processes of their own, a processor each."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from assets_tests.training.notes import Notes

# What a node's raylet may take to start, and a worker to report, on a machine that does other things, too.
_PATIENT = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_gcs_server_request_timeout_seconds": "300",
    # Ray's workers let everybody else go first, and on a busy machine never come to anything.
    "RAY_worker_niceness": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_STORE = 150 << 20


@dataclass(frozen=True)
class AddedNode:
    """A node of the cluster.

    Attributes:
        id: By which Ray knows it.
        kill: Ends its processes, without a warning.
    """

    id: str
    kill: Callable[[], None]


class RealCluster:
    """Its address, and nodes that can be added and killed."""

    def __init__(self, head_cpus: int) -> None:
        head = {"num_cpus": head_cpus, "include_dashboard": False, "object_store_memory": _STORE}
        self._cluster: Any = import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args=head | _ports()
        )
        self.address: str = self._cluster.address

    def add_node(self, cpus: int = 1, **said: Any) -> AddedNode:
        """Starts a node."""
        node = self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE, **_ports(), **said)
        return AddedNode(node.node_id, lambda: self._cluster.remove_node(node, allow_graceful=False))

    def shut_down(self) -> None:
        import_module("ray").shutdown()
        self._cluster.shutdown()


def _ports() -> dict[str, int]:
    """Ports of a node's helpers, chosen here: it would wait for those that they choose, and not for long."""
    names = (
        "metrics_agent_port",
        "dashboard_agent_listen_port",
        "runtime_env_agent_port",
        "metrics_export_port",
    )
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


class GivesBack(Notes):
    """Takes all processors of the cluster that this process has joined, and gives them back once others have
    said for so many seconds that they wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.waited: list[str] = []
        self._seconds = seconds
        self._since: float | None = None
        self._ray: Any = import_module("ray")
        processors = self._ray.cluster_resources()["CPU"]
        self._task = self._ray.remote(num_cpus=processors, max_retries=0)(lambda: time.sleep(3600)).remote()
        while self._ray.available_resources().get("CPU", 0):
            time.sleep(0.1)

    def note(self, message: str) -> None:
        super().note(message)
        if "other work has taken" not in message:
            return
        self.waited.append(message)
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > self._seconds:
            self._ray.cancel(self._task, force=True)


@contextmanager
def real_cluster(head_cpus: int = 1) -> Generator[RealCluster]:
    """A cluster that is only its head; the test is skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    before = {name: os.environ.get(name) for name in _PATIENT}
    os.environ.update(_PATIENT)
    cluster = RealCluster(head_cpus)
    try:
        yield cluster
    finally:
        cluster.shut_down()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def install(directory: Path, name: str, version: str) -> None:
    """Has whoever looks for installed distributions in a directory find this one; there is nothing in it."""
    place = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
