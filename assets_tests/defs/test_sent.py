"""What goes between the command line and a run that Dagster does for it: settings, progress, the result."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.defs.failing import Failure
from pipeline.defs.progress_lines import ProgressReader, ended_line, so_far_line, started_line
from pipeline.defs.results import RunResult
from pipeline.defs.sent_settings import settings_to_send, with_sent_settings
from pipeline.errors import BadInputError
from pipeline.progress import Advance


class Written:
    """Progress that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        self.told.append(f"begin {description} {total}")
        yield lambda done: self.told.append(f"{description} +{done}")
        self.told.append(f"end {description}")

    def note(self, message: str) -> None:
        self.told.append(message)


def test_progress_comes_out_of_the_log_as_it_went_in():
    written = Written()
    reader = ProgressReader(written)
    for line in (
        started_line("Reading click", 1234),
        so_far_line("Reading click", 1000, 1234),
        so_far_line("Reading click", 1234, 1234),
        ended_line("Reading click", 2.5),
        "Gate: approved. It gains 0.03 on ndcg@10.",
        started_line("Building", None),
        "Odd: 12",  # of no stage that is open
    ):
        reader.read(line)
    reader.close()
    assert written.told == [
        "begin Reading click 1234",
        "Reading click +1000",
        "Reading click +234",
        "end Reading click",
        "Gate: approved. It gains 0.03 on ndcg@10.",
        "begin Building None",
        "Odd: 12",
        "end Building",
    ]


def test_the_senders_settings_decide_but_places_and_secrets_stay():
    senders = Settings(
        train_epochs=3,
        gate_floors={"recall@10": 0.5},
        home=Path("theirs"),
        database_url="postgresql://u:secret@host/db",
        api_token=SecretStr("a token that is theirs"),
        alert_webhook=SecretStr("http://host/secret"),
        ui_port=1,
    )
    sent = settings_to_send(senders)
    assert sent == {"train_epochs": 3, "gate_floors": {"recall@10": 0.5}}
    here = Settings(
        home=Path("here"), train_epochs=7, learning_rate=1e-3, api_token=SecretStr("a token that is ours")
    )
    used = with_sent_settings(here, json.loads(json.dumps(sent)))
    assert (used.train_epochs, used.gate_floors) == (3, {"recall@10": 0.5})
    assert used.learning_rate == Settings().learning_rate
    assert (used.home, used.api_token) == (here.home, here.api_token)


@pytest.mark.parametrize("sent", [{"no_such": 1}, {"database_url": "x"}, {"train_epochs": 0}])
def test_settings_that_cannot_be_are_refused(sent: dict[str, object]):
    with pytest.raises(BadInputError):
        with_sent_settings(Settings(), sent)


def test_a_result_survives_the_way():
    result = RunResult(
        sources={"click": {"embedded": 3, "sample": "x" * 10_000}},
        index={"action": "built", "rows": 3},
        training={"training_set": {"training_set_id": 1, "counts": {"mined": {"tried": 1}}}},
        problems=["left out"],
        failures=[Failure("snippets", "rich", "Gone.", "Look.", 2)],
        examples=[("q", ["a"], ["b"])],
        run_ids=["r"],
    )
    back = RunResult.from_json(json.loads(json.dumps(result.to_json())))
    del result.sources["click"]["sample"]  # only the web page shows it
    assert back == result
