"""What is said when Ray is not there, its address is none, or nobody answers at it."""

from __future__ import annotations

import socket

import pytest

from pipeline.config import Settings
from pipeline.engines import cluster
from pipeline.engines.cluster import Cluster
from pipeline.engines.engine import engine_for
from pipeline.engines.local import LocalEngine
from pipeline.engines.ray_engine import RayEngine
from pipeline.engines.versions import versions_here
from pipeline.errors import BadInputError, UnavailableError


def test_one_setting_picks_the_engine() -> None:
    assert isinstance(engine_for(Settings()), LocalEngine)
    assert isinstance(engine_for(Settings(engine="ray")), RayEngine)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(BadInputError, match=r"Ray, and it is not installed.*\[ray\]"):
        Cluster(Settings(engine="ray"))


@pytest.mark.parametrize(
    "address", ["head", "head:", ":6379", "http://head:6379", "head:port", "head:6379/x"]
)
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: object())
    with pytest.raises(BadInputError, match="no address"):
        Cluster(Settings(engine="ray", ray_address=address))


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_an_address_where_nobody_listens_is_said_at_once(kind: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:  # bound, so that nobody else takes it, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"{kind}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=r"cannot be reached: .*refused.*ray start --head"):
            Cluster(Settings(engine="ray", ray_address=address))


def test_versions_name_honeloops_code() -> None:
    here = versions_here()
    assert "(code " in here["honeloop"]
    assert here["torch"][0].isdigit()
