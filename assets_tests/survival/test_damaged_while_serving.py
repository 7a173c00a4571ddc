"""A search service beside files that are damaged: what is in memory goes on answering, and it says so."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from assets_tests.encoders.conftest import copy_model
from assets_tests.index.click_corpus import add_functions, some_functions
from assets_tests.search.api.test_serving import serving
from assets_tests.search.models import COUNT, Model, index_of, load_perturbed
from assets_tests.survival.homes import wait_until
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index.flipping import flip
from pipeline.search.models import RETRY_SECONDS
from pipeline.search.query import search
from pipeline.store.connections import Database

# Words of all kinds: what is read of the weights only now would be read from the damaged file.
QUESTIONS = ("zebra quantum xylophone", "wrap text to a width", "größe des terminals", "parse 3.14 as float")


def damage(path: Path) -> bytes:
    """Cuts the file short in place, as a full disk or a careless copy does; what was in it."""
    kept = path.read_bytes()
    os.truncate(path, 20_000)
    return kept


@pytest.fixture
def served(settings: Settings, db: Database, minilm: Encoder, tmp_path: Path) -> Model:
    """MiniLM from a directory of the test's own, which serves."""
    functions = some_functions()[:COUNT]
    place = tmp_path / "served"
    copy_model(place, real=("model.safetensors",))
    encoder = load_encoder(str(place), device="cpu")
    model = Model(encoder, str(place), functions, minilm.embed_documents([f.code for f in functions]))
    add_functions(db, functions)
    flip(db, index_of(db, model, settings), actor="index", reasons=[], settings=settings)
    return model


@pytest.mark.slow
def test_it_goes_on_from_memory_and_names_what_it_cannot_follow(
    served: Model, settings: Settings, db: Database, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    expected = {
        each: [r.snippet_id for r in search(db, served.encoder, each, record=False).results]
        for each in QUESTIONS
    }

    def asked(client: httpx.Client, question: str) -> tuple[str, list[int]]:
        answer = client.post("/search", json={"query": question}).raise_for_status().json()
        return answer["model_version"], [result["snippet_id"] for result in answer["results"]]

    with serving(settings, log) as (process, address), httpx.Client(base_url=address, timeout=60) as client:
        # The files of what serves are damaged: they are in memory.
        whole = damage(Path(served.location) / "model.safetensors")
        for question in QUESTIONS:
            assert asked(client, question) == (served.version, expected[question])
        health = client.get("/health").json()
        assert (health["status"], health["reason"]) == ("ok", None)
        assert health["model_version"] == served.version

        # Another model is to serve, and is damaged before the service has loaded it.
        other = load_perturbed(tmp_path / "other", served.functions)
        index = index_of(db, other, settings)
        weights = Path(other.location) / "model.safetensors"
        kept = damage(weights)
        flip(db, index, actor="index", reasons=[], settings=settings)
        for question in QUESTIONS:
            assert asked(client, question) == (served.version, expected[question])
        health = client.get("/health").json()
        assert (health["status"], health["model_version"]) == ("ok", served.version)
        assert health["reason"].startswith(f"Index version {index} is not answered from")
        # It tries again, and does not say it again.
        assert not wait_until(lambda: process.poll() is not None, 2.5 * RETRY_SECONDS, every=1.0)
        assert asked(client, QUESTIONS[0])[0] == served.version
        assert log.read_text().count(f"{weights} is truncated") == 1

        # Whole again, it is followed without a restart, and that is said as well.
        weights.write_bytes(kept)
        assert wait_until(lambda: asked(client, QUESTIONS[0])[0] == other.version, 60, every=0.5)
        assert client.get("/health").json()["reason"] is None
        assert log.read_text().count("The flip is followed") == 1
    assert whole  # nobody needed it

    # A start beside damaged files cannot answer: it names the file, and what to do.
    damage(weights)
    with serving(settings, log) as (_, address), httpx.Client(base_url=address, timeout=60) as client:
        refused = client.post("/search", json={"query": QUESTIONS[0]})
        assert refused.status_code == 503
        assert f"{weights} is truncated" in refused.json()["error"]
        assert refused.json()["hint"]
        health = client.get("/health")
        assert health.status_code == 503
        assert health.json()["reason"] == "The model that serves cannot be used; the log says why."
        weights.write_bytes(kept)
        assert wait_until(lambda: client.get("/health").status_code == 200, 60, every=0.5)
        assert asked(client, QUESTIONS[0])[0] == other.version
