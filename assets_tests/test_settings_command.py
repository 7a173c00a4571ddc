"""`honeloop settings`: every setting, what is set, what is misspelt, and no password."""

import json

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config import Settings


def listed(*arguments: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["settings", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return {each["variable"]: each for each in json.loads(result.stdout)["settings"]}


def test_all_are_there_by_matter_and_in_order():
    found = listed()
    assert list(found) == [f"HONELOOP_{name.upper()}" for name in Settings.model_fields]
    assert found["HONELOOP_GATE_METRIC"]["about"] == found["HONELOOP_GATE_FLOORS"]["about"]
    assert found["HONELOOP_GATE_METRIC"]["about"] != found["HONELOOP_NATS_URL"]["about"]
    assert all(each["about"] and each["meaning"] for each in found.values())


def test_words_choose(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_GATE_MIN_QUERIES", "20")
    found = listed("gate", "QUERIES")
    assert (
        {"HONELOOP_GATE_MIN_QUERIES", "HONELOOP_GATE_SLICE_MIN_QUERIES"} <= set(found) < set(listed("gate"))
    )
    only = listed("gate", "--set")
    assert list(only) == ["HONELOOP_GATE_MIN_QUERIES"]
    assert (only["HONELOOP_GATE_MIN_QUERIES"]["value"], only["HONELOOP_GATE_MIN_QUERIES"]["default"]) == (
        20,
        50,
    )


def test_what_is_misspelt_is_named_with_what_may_be_meant(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_TRAIN_EPOCH", "3")
    monkeypatch.setenv("HONELOOP_XYZZY", "1")
    monkeypatch.setenv("HONELOOP_USER", "ada")
    shown = " ".join(CliRunner().invoke(app, ["settings", "epochs"]).stdout.split())
    assert "HONELOOP_TRAIN_EPOCH is set, and is no setting. Is HONELOOP_TRAIN_EPOCHS meant?" in shown
    assert "HONELOOP_XYZZY is set, and is no setting." in shown
    assert "HONELOOP_USER is set" not in shown


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_DATABASE_URL", "postgresql://me:hunter22@host/honeloop")
    monkeypatch.setenv("HONELOOP_NATS_URL", "nats://me:hunter22@host:4222")
    monkeypatch.setenv("HONELOOP_API_TOKEN", "hunter22hunter22hunter22")
    for arguments in (["settings"], ["settings", "--set"], ["settings", "--json"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert "HONELOOP_API_TOKEN" in result.stdout
        assert "hunter22" not in result.output


def test_a_value_that_cannot_be_is_bad_input(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_HNSW_M", "many")
    result = CliRunner().invoke(app, ["settings"])
    assert result.exit_code == 2
    assert "HONELOOP_HNSW_M" in result.stderr
