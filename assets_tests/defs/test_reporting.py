"""What stands in Dagster's event log: tables, code, pictures, progress, and errors that can be acted on."""

from __future__ import annotations

import base64

import dagster as dg
import pytest

from pipeline.defs import reporting
from pipeline.errors import BadInputError, DatabaseAwayError, HoneloopError, UnavailableError
from pipeline.progress import Silent


def test_tables_keep_their_shape_whatever_is_in_them():
    shown = reporting.table(["query", "why"], [["a | b", "two\nlines"], [1, None]]).value
    assert shown is not None
    lines = shown.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| a \\| b | two<br>lines |"


def test_counts_stand_with_the_largest_first():
    shown = reporting.counts_table("language", {"go": 2, "python": 1000, "c": 2}).value
    assert shown is not None
    assert [line.split("|")[1].strip() for line in shown.splitlines()[2:]] == ["python", "c", "go"]
    assert "1,000" in shown


def test_code_cannot_close_its_own_block():
    shown = reporting.code_block("def f():\n    '''\n```\n'''", "python").value
    assert shown is not None
    assert shown.splitlines()[0] == "````python"
    assert shown.splitlines()[-1] == "````"


def test_long_code_is_cut():
    shown = reporting.code_block("\n".join(f"line {i}" for i in range(100))).value
    assert shown is not None
    assert "line 39" in shown
    assert "line 40" not in shown


def test_pictures_are_in_the_markdown_itself():
    png = b"\x89PNG\r\n\x1a\nrest"
    shown = reporting.picture(png, "loss").value
    assert shown is not None
    assert shown.startswith("![loss](data:image/png;base64,")
    assert base64.b64decode(shown.split("base64,")[1].rstrip(")")) == png


def test_an_error_becomes_a_failure_that_says_what_to_do():
    context = dg.build_asset_context()
    with (
        pytest.raises(dg.Failure) as caught,
        reporting.reported(context.log, Silent()) as progress,
        progress.stage("Looking", 3) as advance,
    ):
        advance(1)
        raise BadInputError("There is none.", hint="Add one.")
    failure = caught.value
    assert failure.description == "There is none. Add one."
    assert failure.allow_retries is False
    assert reporting.plain(failure.metadata) == {
        "message": "There is none.",
        "hint": "Add one.",
        "exit_code": 2,
        "database_away": False,
    }


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (DatabaseAwayError("The database went away.", hint="Wait."), True),
        (UnavailableError("For 300 s there was no room.", hint="Look."), False),
        (HoneloopError("It failed."), False),
    ],
)
def test_only_the_database_is_waited_for(error: HoneloopError, away: bool):
    with pytest.raises(dg.Failure) as caught, reporting.reported(dg.build_asset_context().log, Silent()):
        raise error
    assert caught.value.allow_retries is away
    assert reporting.plain(caught.value.metadata)["database_away"] is away
