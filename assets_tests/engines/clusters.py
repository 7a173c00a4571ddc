"""A real Ray cluster on this machine: a head that computes nothing, and nodes with a processor each."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

# What a node's raylet may take to start, and a worker to report, on a machine that does other things, too.
_PATIENT = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_STORE = 150 << 20


class RealCluster:
    """Its address, and nodes that can be added and killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE},
        )
        self.address: str = self._cluster.address

    def add_node(self, cpus: int = 1, **said: Any) -> Callable[[], None]:
        """Starts a node; what is returned kills its processes."""
        node = self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE, **said)
        return lambda: self._cluster.remove_node(node, allow_graceful=False)

    def shut_down(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def real_cluster() -> Generator[RealCluster]:
    """A cluster without nodes; the test is skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    before = {name: os.environ.get(name) for name in _PATIENT}
    os.environ.update(_PATIENT)
    cluster = RealCluster()
    try:
        yield cluster
    finally:
        cluster.shut_down()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
