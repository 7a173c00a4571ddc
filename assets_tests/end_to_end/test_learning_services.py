"""Learning through the Dagster of `honeloop up`: what it shows of it, of what changed nothing, failures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from assets_tests.end_to_end.services import Services, wait_for
from assets_tests.survival.homes import Home, make_home, temporary_directory, up_of
from assets_tests.test_alerts import receiver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TRAINING = ("training_set", "fine_tuned_model", "model_checkpoint", "model_evaluation")
EVERYTHING = (*TRAINING, "promoted_model", "search_index")


@pytest.fixture
def home() -> Iterator[Home]:
    with temporary_directory() as path:
        yield make_home(path / "made")


def test_training_and_the_whole_loop(home: Home) -> None:
    # The sensor lets nothing serve, whenever it looks at what was trained; `run` brings a gate of its own.
    strict = {"HONELOOP_GATE_MIN_QUERIES": "1000"}
    with receiver() as (address, came), up_of(home, HONELOOP_ALERT_WEBHOOK=address, **strict) as up:
        # The first: everything is new.
        trained = json.loads(up.run("train", "--json"))
        assert statuses(up) == ["SUCCESS"]
        first = versions(up, *TRAINING)
        assert all(first.values())

        # Again: made anew, and the same.
        again = json.loads(up.run("train", "--json"))
        assert again["model_version"] == trained["model_version"]
        assert versions(up, *TRAINING) == first
        assert stale(up, *TRAINING) == {}

        # The whole loop: nothing to train, and the gate decides.
        served = json.loads(up.run("run", "--json", HONELOOP_GATE_MIN_QUERIES="1"))
        assert served["error"] is None
        assert statuses(up) == ["SUCCESS"] * 3
        assert versions(up, *TRAINING) == first
        serves = up.searched("open a file")["model_version"]
        assert versions(up, "promoted_model") == {"promoted_model": serves}
        assert stale(up, *EVERYTHING) == {}

        # A judgement is news to the training set, and to nothing else before that was made.
        up.judged(up.searched("wrap text to a width"))
        wait_for("the feedback", lambda: stale(up, *EVERYTHING), 180)
        assert set(stale(up, *EVERYTHING)) == {"training_set"}

        # A run that fails is told, once.
        shutil.move(home.repository, home.repository.with_name("away"))
        failed = up.command("index", "--json")
        out, _ = failed.communicate(timeout=600)
        assert failed.returncode == 1
        assert "clicked" in json.loads(out)["error"]["message"]
        wait_for("the alert", lambda: came, 180)
        (text,) = [json.loads(each)["text"] for each in came]
        assert text.startswith("Honeloop: whole_loop failed. ")
        assert json.loads(out)["error"]["message"] in text


def statuses(up: Services) -> list[str]:
    query = '{ runsOrError(filter: {pipelineName: "whole_loop"}) { ... on Runs { results { status } } } }'
    return [each["status"] for each in up.graphql(query)["runsOrError"]["results"]]


def nodes(up: Services) -> dict[str, dict[str, Any]]:
    query = """{ assetNodes { assetKey { path } dataVersion staleStatus staleCauses { reason }
    assetMaterializations(limit: 1) { timestamp } } }"""
    return {node["assetKey"]["path"][0]: node for node in up.graphql(query)["assetNodes"]}


def versions(up: Services, *assets: str) -> dict[str, str]:
    """The data versions that the web page shows."""
    found = nodes(up)
    return {asset: found[asset]["dataVersion"] for asset in assets}


def stale(up: Services, *assets: str) -> dict[str, list[str]]:
    """What the web page shows as stale, and why."""
    return {
        asset: [cause["reason"] for cause in node["staleCauses"]]
        for asset, node in nodes(up).items()
        if asset in assets and node["staleStatus"] == "STALE"
    }
