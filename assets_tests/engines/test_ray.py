"""Ray, on a real cluster of this machine: the same results as without it, whatever becomes of a node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from assets_tests.engines.clusters import GivesBack, RealCluster, install, real_cluster
from assets_tests.engines.watched import KeptVectors, KillsMidway, WatchedPool
from assets_tests.index.click_corpus import add_functions, register, some_functions
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository, get_repository
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import token_budget
from pipeline.engines import patience, ray_engine
from pipeline.engines.cluster import Cluster, Node
from pipeline.engines.pool import Job, Pool
from pipeline.engines.slots import Slot
from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.index import embeddings
from pipeline.index.embeddings import embed_missing, load_vectors
from pipeline.progress import Silent
from pipeline.store.connections import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
TEXTS = int(os.environ.get("RAY_TEST_TEXTS", "120"))


@pytest.fixture
def cluster() -> Iterator[RealCluster]:
    with real_cluster() as cluster:
        yield cluster


def on(cluster: RealCluster, settings: Settings) -> Settings:
    said = {"engine": "ray", "ray_address": cluster.address, "device": "cpu", "ray_patience_seconds": 1800}
    return settings.model_copy(update={**said, "embed_chunk_size": 8})


def test_a_node_killed_while_it_embeds_costs_nothing(
    cluster: RealCluster,
    db: Database,
    settings: Settings,
    minilm: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    functions = some_functions()[:TEXTS]
    killed = cluster.add_node()
    monkeypatch.setattr(ray_engine, "Pool", WatchedPool)
    monkeypatch.setattr(WatchedPool, "made", [])
    register(db, minilm)
    add_functions(db, functions)
    kept = KeptVectors()
    monkeypatch.setattr(embeddings, "copy_vectors", kept)
    progress = KillsMidway(killed)
    report = embed_missing(db, minilm, on(cluster, settings), progress)

    # It had worked, and held work when it was killed. What it still held when that was noticed, which may be
    # what it was given in between, was taken back, and the other node did it.
    (pool,) = WatchedPool.made
    assert killed.id in {node for _, node in pool.done}
    lost = {number for number, _ in pool.lost}
    assert {node for _, node in pool.lost} == {killed.id}
    assert progress.held
    assert lost
    done = dict(pool.done)
    assert len(done) == len(pool.done)
    assert killed.id not in {done[number] for number in lost}

    assert report.embedded == len(functions) == len(kept.vectors)
    assert not kept.twice
    assert embed_missing(db, minilm, settings, Silent()).embedded == 0
    local = minilm.embed_documents([function.code for function in functions])
    for function, vector in zip(functions, local, strict=True):
        assert np.abs(kept.vectors[function.content_hash] - vector).max() < 1e-5
    assert len(load_vectors(db, minilm.version)[0]) == len(functions)


def test_files_are_cut_as_on_this_machine(
    cluster: RealCluster, db: Database, settings: Settings, tmp_path: Path
) -> None:
    """Twice the same tree: a repository is read here, the other's files are cut on two nodes."""
    import click

    copytree(Path(click.__file__).parent, tmp_path / "code", ignore=lambda *_: ["__pycache__"])
    (tmp_path / "code" / "broken.py").write_text("def f(:\n    pass\n\ndef g():\n    return 1\n")
    (tmp_path / "code" / "keys.py").write_text(
        'aws_secret = "AKIAIOSFODNN7EXAMPLQ"\n\n\ndef h():\n    return 2\n'
    )
    cluster.add_node()
    tokens = token_budget("minilm")
    found: list[list[tuple[Any, ...]]] = []
    reports: list[dict[str, Any]] = []
    for name, used in {"here": settings, "there": on(cluster, settings)}.items():
        add_repository(db, name, str(tmp_path / "code"), "directory")
        report = extract_repository(db, get_repository(db, name), used, tokens, Silent()).to_json()
        reports.append({key: value for key, value in report.items() if key not in ("repository", "seconds")})
        with db.connect() as connection:
            found.append(
                connection.execute(
                    "SELECT s.path, s.symbol, s.content_hash, s.start_line, s.end_line, s.signature, s.kind"
                    " FROM snippets s JOIN repositories r ON r.id = s.repository_id WHERE r.name = %s"
                    " ORDER BY s.path, s.start_line, s.symbol",
                    [name],
                ).fetchall()
            )
    assert len(found[0]) > 100
    assert found[0] == found[1]
    assert reports[0] == reports[1]


def test_a_gpu_is_not_replaced_by_processors(
    cluster: RealCluster, db: Database, settings: Settings, minilm: Encoder
) -> None:
    register(db, minilm)
    add_functions(db, some_functions()[:4])
    there = on(cluster, settings).model_copy(update={"device": "cuda", "ray_patience_seconds": 30})
    with pytest.raises(UnavailableError, match=r"For 30 s no worker .* and HONELOOP_DEVICE=cuda asks"):
        embed_missing(db, minilm, there, Silent())
    # A node that says it has one: the head, which could embed, is given nothing.
    cluster.add_node(num_gpus=1)
    unset = on(cluster, settings).model_copy(update={"device": None})
    with pytest.raises(HoneloopError, match="gives a GPU, and torch there computes on the CPU"):
        embed_missing(db, minilm, unset, Silent())
    with pytest.raises(BadInputError, match="'cuda' is not available"):
        embed_missing(db, minilm, unset.model_copy(update={"device": "cuda"}), Silent())
    assert embed_missing(db, minilm, on(cluster, settings), Silent()).embedded == 4


def test_an_embedding_waits_for_what_others_have_taken(
    cluster: RealCluster,
    db: Database,
    settings: Settings,
    minilm: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than its patience, which is for a cluster that has nothing."""
    monkeypatch.setattr(patience, "SAY_SECONDS", 5)
    register(db, minilm)
    add_functions(db, some_functions()[:4])
    there = on(cluster, settings).model_copy(update={"ray_patience_seconds": 60})
    Cluster(there)
    progress = GivesBack(70)
    assert embed_missing(db, minilm, there, progress).embedded == 4
    assert len(progress.waited) > 2


class Dies:
    """A worker that one piece of work ends, and another one makes raise."""

    def here(self) -> None:
        """It is."""

    def open(self) -> None:
        """Nothing to prepare."""

    def work(self, piece: str) -> str:
        if piece == "deadly":
            os._exit(1)
        if piece == "wrong":
            raise HoneloopError("It cannot be done.", hint="Do something else.")
        return piece.upper()

    def close(self) -> None:
        """Nothing to leave."""


def test_work_that_ends_its_workers_is_an_error_and_so_is_what_they_raise(
    cluster: RealCluster, settings: Settings
) -> None:
    def slots(node: Node) -> list[Slot]:
        return [Slot(cpus=1)] * node.cpus

    def run(*pieces: str) -> list[str]:
        pool = Pool[str](Cluster(on(cluster, settings)), Job(Dies, slots, (), "work"), repr)
        return sorted(result for _, _, result in pool.run(iter(pieces), str))

    letters = [chr(97 + number) for number in range(20)]
    assert run(*letters) == [letter.upper() for letter in letters]
    with pytest.raises(HoneloopError, match="It cannot be done") as raised:
        run("a", "wrong", "b")
    assert raised.value.hint == "Do something else."
    with pytest.raises(HoneloopError, match=r"3 workers .* at the same work, 'deadly'"):
        run(*letters, "deadly")


OTHER = """
import sys
from pipeline.config import Settings
from pipeline.engines.cluster import Cluster
from pipeline.errors import HoneloopError

try:
    Cluster(Settings(engine="ray", ray_address=sys.argv[1])).nodes()
except HoneloopError as error:
    print(error)
"""


def another_honeloop(place: Path) -> None:
    changed = place / "pipeline" / "progress.py"
    changed.write_text(changed.read_text() + "# another version\n")


def another_grammar(place: Path) -> None:
    install(place, "tree-sitter-kotlin", "99.0")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (another_honeloop, r"honeloop [\d.]+ \(code \w+\), and here [\d.]+ \(code \w+\)\."),
        (another_grammar, r"tree-sitter-kotlin 99\.0, and here [\d.]+\."),
    ],
    ids=["honeloop", "grammar"],
)
def test_a_node_with_other_versions_is_named(
    cluster: RealCluster, tmp_path: Path, change: Callable[[Path], None], named: str
) -> None:
    copytree(ROOT / "pipeline", tmp_path / "other" / "pipeline", ignore=lambda *_: ["__pycache__"])
    change(tmp_path / "other")
    cluster.add_node(env_vars={"PYTHONPATH": str(tmp_path / "other")})
    # A process of its own, elsewhere: on one machine, workers look for modules where their driver is first.
    (tmp_path / "driver.py").write_text(textwrap.dedent(OTHER))
    said = subprocess.run(
        [sys.executable, str(tmp_path / "driver.py"), cluster.address],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(f"has other versions than this machine: {named}", said)
    assert "install the same Honeloop" in said
