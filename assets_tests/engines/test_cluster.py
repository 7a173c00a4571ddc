"""What is said when Ray is not there, its address is none, or nobody answers at it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from assets_tests.engines.clusters import install
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.languages import LANGUAGES
from pipeline.encoders.loading import token_budget
from pipeline.engines import cluster
from pipeline.engines.cluster import Cluster
from pipeline.engines.engine import FileText, engine_for
from pipeline.engines.local import LocalEngine
from pipeline.engines.ray_engine import RayEngine
from pipeline.engines.versions import versions_here
from pipeline.errors import BadInputError, UnavailableError


def test_one_setting_picks_the_engine() -> None:
    assert isinstance(engine_for(Settings(), print), LocalEngine)
    assert isinstance(engine_for(Settings(engine="ray"), print), RayEngine)


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


def test_nothing_is_sent_to_another_cluster() -> None:
    """What is put into Ray's store before the cluster is joined would have Ray start one of its own."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    files = [FileText("a.py", b"def f():\n    return 1\n", "python", "0" * 64)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        there = Settings(engine="ray", ray_address=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UnavailableError, match="cannot be reached"):
            list(RayEngine(there, print).digest(files, token_budget("minilm")))
    assert not ray.is_initialized()


def test_versions_name_honeloops_code() -> None:
    here = versions_here()
    assert "(code " in here["honeloop"]
    assert here["torch"][0].isdigit()


def test_versions_name_the_grammar_of_every_language(tmp_path: Path) -> None:
    here = versions_here()
    wheels = {language.wheel for language in LANGUAGES}
    assert wheels <= here.keys()
    assert all(here[wheel][0].isdigit() for wheel in wheels)
    # A machine with another one, as a node of a cluster would have it.
    install(tmp_path, "tree-sitter-kotlin", "99.0")
    program = (
        "import json; from pipeline.engines.versions import versions_here; print(json.dumps(versions_here()))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT_ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(there) == here | {"tree-sitter-kotlin": "99.0"}
