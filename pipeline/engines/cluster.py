"""A Ray cluster: joined once by each process, its nodes looked at, those that do not fit named."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pipeline.config import Settings
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.versions import versions_here
from pipeline.errors import BadInputError, HoneloopError, UnavailableError

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}")
_CONNECT_SECONDS = 5.0
_joining = threading.Lock()


@dataclass(frozen=True)
class Node:
    """A living node of the cluster: its id, its address for people, and what it has of each resource."""

    id: str
    address: str
    resources: Mapping[str, float]

    @property
    def cpus(self) -> int:
        """Processors it gives to the cluster."""
        return int(self.resources.get("CPU", 0))

    @property
    def gpus(self) -> int:
        """GPUs it gives to the cluster."""
        return int(self.resources.get("GPU", 0))


class Cluster:
    """The cluster that the settings name, which this process has joined when this is made.

    Args:
        settings: `ray_address`, `ray_patience_seconds`.

    Raises:
        BadInputError: Ray is not installed here, or the address is none.
        UnavailableError: nothing answers there.
    """

    def __init__(self, settings: Settings) -> None:
        _join(settings.ray_address)
        self.patience = settings.ray_patience_seconds
        self._fits: dict[str, bool] = {}
        self._asked: dict[Any, Node] = {}

    def nodes(self) -> list[Node]:
        """Those that are alive, fit, and give something.

        Raises:
            HoneloopError: one of the first nodes seen has another version of what decides results. Later
                ones are left out, with a line in the log: work that goes well is not ended for them.
        """
        ray = ray_module()
        alive = nodes_in(ray.nodes())
        self._ask_new(alive)
        return [node for node in alive if self._fits.get(node.id)]

    def first_nodes(self) -> list[Node]:
        """The same, waited for until there is one: what they give decides what the work is like.

        Raises:
            HoneloopError: as `nodes`.
            UnavailableError: for `ray_patience_seconds` there was none.
        """
        until = time.monotonic() + self.patience
        while not (nodes := self.nodes()):
            if time.monotonic() >= until:
                raise UnavailableError(
                    f"For {self.patience:g} s no node of the Ray cluster gave a processor or a GPU.",
                    hint="`ray status` says which nodes are alive.",
                )
            time.sleep(min(1.0, self.patience))
        return nodes

    def _ask_new(self, alive: Sequence[Node]) -> None:
        """Asks nodes for their versions. The first ones are waited for, later ones answer when they do."""
        ray = ray_module()
        here, first = versions_here(), not self._fits
        known = {*self._fits, *(node.id for node in self._asked.values())}
        self._asked |= {self.run_on(node, _what_it_has()): node for node in alive if node.id not in known}
        if not self._asked:
            return
        everybody = len(self._asked) if first else 1
        done, _ = ray.wait(list(self._asked), num_returns=everybody, timeout=self.patience if first else 0)
        for reference in done:
            node = self._asked.pop(reference)
            try:
                there: dict[str, str] = ray.get(reference)
            except ray.exceptions.RayError as error:  # lost again already, or asked again with the next look
                logger.warning("The Ray node %s does not answer: %s", node.address, _first_line(error))
                continue
            if there != here:
                error = _misfit(node, here, there)
                if first:
                    raise error
                logger.warning("%s", error)
            self._fits[node.id] = there == here

    def run_on(self, node: Node, function: Callable[[], Any]) -> Any:
        """Runs a function on this node and no other, whatever else is going on there. A reference."""
        ray = ray_module()
        task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
        return task.options(scheduling_strategy=only_on(node)).remote()


def nodes_in(listed: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Those of Ray's list of nodes that are alive and give something."""
    return [
        Node(each["NodeID"], f"{each['NodeManagerAddress']}:{each['NodeManagerPort']}", each["Resources"])
        for each in listed
        if each["Alive"] and (each["Resources"].get("CPU") or each["Resources"].get("GPU"))
    ]


def only_on(node: Node) -> Any:
    """Ray's word for: on this node or not at all."""
    strategies = ray_module().util.scheduling_strategies
    return strategies.NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)


def _join(address: str) -> None:
    if find_spec("ray") is None:
        raise BadInputError(
            "HONELOOP_ENGINE=ray needs Ray, and it is not installed.",
            hint="Run: pip install -c constraints.txt -e '.[ray]'; or unset HONELOOP_ENGINE.",
        )
    _require_address(address)
    # A feature of Ray's that calls home unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _joining:
        ray = ray_module()
        if ray.is_initialized():
            return
        _require_listening(address)
        try:
            ray.init(
                address=address,
                namespace="honeloop",
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError, AssertionError) as error:
            raise UnavailableError(
                f"The Ray cluster at {address} cannot be joined: {_first_line(error)}", hint=_hint(address)
            ) from error


def _require_address(address: str) -> None:
    if address != "auto" and not _ADDRESS.fullmatch(address):
        raise BadInputError(
            f"HONELOOP_RAY_ADDRESS is {address!r}, which is no address.",
            hint="Write host:port, ray://host:port, or auto.",
        )


def _require_listening(address: str) -> None:
    """Asks for a connection first: Ray itself takes half a minute to find that nobody listens."""
    if address == "auto":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UnavailableError(
            f"The Ray cluster at {address} cannot be reached: {error}.", hint=_hint(address)
        ) from error


def _hint(address: str) -> str:
    if address == "auto":
        return (
            "Make this machine a node of it: `ray start --head`, or `ray start --address=HEAD:6379`;"
            " or set HONELOOP_RAY_ADDRESS."
        )
    return "Is it started (`ray start --head` there), and is HONELOOP_RAY_ADDRESS its address?"


def _what_it_has() -> Callable[[], dict[str, str]]:
    """A function that travels by value: it has to answer on a machine that has no Honeloop, too."""

    def what_it_has() -> dict[str, str]:
        try:
            from pipeline.engines.versions import versions_here
        except ImportError:
            return {"honeloop": "not installed"}
        return versions_here()

    return what_it_has


def _misfit(node: Node, here: Mapping[str, str], there: Mapping[str, str]) -> HoneloopError:
    differing = [name for name in here if name in there and there[name] != here[name]]
    said = "; ".join(f"{name} {there[name]}, and here {here[name]}" for name in differing)
    return HoneloopError(
        f"The Ray node {node.address} has other versions than this machine: {said}.",
        hint="Results would not be the same: install the same Honeloop from the same constraints.txt on all.",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
