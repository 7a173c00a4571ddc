"""`honeloop feedback`: what its commands print, what they refuse, and what they leave in the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from assets_tests.corpus.making import Entry, GitRepository
from assets_tests.feedback.world import add_code, show
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository, get_repository
from pipeline.encoders.loading import token_budget
from pipeline.feedback.events import add_feedback
from pipeline.progress import Silent
from pipeline.store.connections import Database
from pipeline.training.commit_mining import mine_commits

DOCUMENTED = '    """Sends a request to the server and waits for its answer."""\n'

Cli = Callable[..., Result]


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `honeloop feedback …` on the test's own database."""
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    return lambda *arguments, **options: CliRunner().invoke(app, ["feedback", *arguments], **options)


@pytest.fixture
def judged(db: Database) -> None:
    """Ann accepts one snippet, having passed over two; Bob clicks one at rank 7, which is too weak."""
    ids = list(add_code(db, {f"{n}.py": {"f": f"def f{n}(): pass"} for n in range(7)}).values())
    search = show(db, "find it", ids, "ann")
    add_feedback(db, search, ids[2], "click")
    add_feedback(db, search, ids[2], "accept")
    add_feedback(db, show(db, "far down", ids, "bob"), ids[6], "click")


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("judged")
def test_stats_tell_what_is_eligible_what_was_dropped_and_what_is_missing(cli: Cli) -> None:
    found = parsed(cli("stats", "--json"))
    # What was there before this command told more.
    assert {
        key: found[key] for key in ("searches", "impressions", "feedback", "total", "imported", "people")
    } == {
        "searches": 2,
        "impressions": 14,
        "feedback": {"accept": 1, "click": 2},
        "total": 3,
        "imported": 0,
        "people": 2,
    }
    assert found["pairs"] == 1
    assert found["dropped"] == {"not over the confidence threshold": 1}
    assert found["eligible"] == {
        "by_origin": {"feedback": 1, "docstring": 0, "commit": 0},
        "by_judgement": {"accept": 1},
        "by_language": {"python": 1},
        "by_origin_and_language": {"feedback": {"python": 1}, "docstring": {}, "commit": {}},
        "by_day": {datetime.now(UTC).date().isoformat(): 1},
    }
    assert found["dropped_by_origin"]["feedback"] == found["dropped"]
    assert found["commits_left_out"] == {}
    assert found["negatives"] == {"passed-over": 2}
    assert found["weight"] == {"total": 0.95, "by_judgement": {"accept": 0.95}}
    bias = found["position_bias"]
    assert bias["method"] == "table"
    assert bias["examination_by_rank"]["4"] == 0.625
    assert bias["missing_by_rank"] == {str(rank): 200 for rank in range(1, 7)}


@pytest.mark.usefixtures("judged")
def test_stats_can_be_read_on_a_terminal(cli: Cli) -> None:
    text = cli("stats").stdout
    for part in ("pairs by what they rest on", "accept", "passed-over", "not over the confidence threshold"):
        assert part in text
    assert "by the fixed table, for want of data" in " ".join(text.split())
    assert [line.split() for line in text.splitlines() if "rank 4" in line] == [
        ["rank", "4", "0.62", "0", "200"]
    ]


def test_stats_count_what_documentation_and_commits_make_and_what_they_do_not(
    cli: Cli, db: Database, settings: Settings, tmp_path: Path
) -> None:
    made = GitRepository(tmp_path / "made")
    files: dict[str | bytes, Entry] = {
        "net.py": f"def retry(request):\n{DOCUMENTED}    return request.send()\n"
    }
    made.commit(files, message="Initial commit")
    files["net.py"] = f"def retry(request):\n{DOCUMENTED}    sleep(1)\n    return request.send()\n"
    made.commit(files, message="Wait a second before a request is sent again")
    files["net.py"] = str(files["net.py"]) + "\n\ndef gone(request):\n    return request.close(1, 2, 3)\n"
    made.commit(files, message="Close what was opened for the request")
    made.commit({"net.py": str(files["net.py"]).partition("\n\n\n")[0] + "\n"}, message="Fix it")
    add_repository(db, "made", str(made.path))
    extract_repository(db, get_repository(db, "made"), settings, token_budget("minilm"), Silent())
    mine_commits(db, settings, Silent())
    found = parsed(cli("stats", "--json"))
    assert found["eligible"]["by_origin"] == {"feedback": 0, "docstring": 1, "commit": 1}
    assert found["eligible"]["by_origin_and_language"]["commit"] == {"python": 1}
    assert found["dropped_by_origin"]["commit"] == {"the function is gone": 1}
    assert found["commits_left_out"] == {"message too short": 2}
    text = " ".join(cli("stats").stdout.split())
    for part in ("commit 1", "docstring: python 1", "commit: the function is gone 1", "message too short 2"):
        assert part in text


def test_stats_of_nothing(cli: Cli) -> None:
    assert parsed(cli("stats", "--json"))["pairs"] == 0
    assert cli("stats").exit_code == 0


@pytest.mark.usefixtures("judged")
def test_forgetting_is_asked_about_and_tells_what_it_removed(cli: Cli, db: Database) -> None:
    for arguments in (["forget", "ann"], ["forget", "ann", "--json"]):
        refused = cli(*arguments)
        assert refused.exit_code == 2
        assert "--yes" in refused.stderr
        assert refused.stdout == ""
    assert searches(db) == ["ann", "bob"]
    told = cli("forget", "ann", "--yes").stdout
    assert "1 searches, which showed 7 snippets" in told
    assert "2 judgements" in told
    assert searches(db) == ["bob"]
    report = parsed(cli("forget", "bob", "--yes", "--json"))
    assert (report["searches"], report["feedback"], report["models"]) == (1, 1, [])
    assert searches(db) == []
    assert "nothing by 'zoe'" in cli("forget", "zoe", "--yes").stdout
    assert cli("forget", " ", "--yes").exit_code == 2


@pytest.mark.usefixtures("judged")
def test_on_a_terminal_the_answer_decides(cli: Cli, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.common.on_a_terminal", lambda: True)
    assert cli("forget", "ann", input="n\n").exit_code != 0
    assert searches(db) == ["ann", "bob"]
    assert cli("forget", "ann", input="y\n").exit_code == 0
    assert searches(db) == ["bob"]


@pytest.mark.usefixtures("judged")
def test_expiring(cli: Cli, db: Database) -> None:
    with db.connect() as connection:
        connection.execute("UPDATE searches SET at = %s", [datetime.now(UTC) - timedelta(days=30)])
    none = parsed(cli("expire", "--json"))
    assert (none["deleted"], none["stripped"]) == (0, 0)
    report = parsed(cli("expire", "--older-than", "29", "--json"))
    assert (report["deleted"], report["stripped"], report["impressions"]) == (0, 2, 4)
    assert report["before"] == (datetime.now(UTC) - timedelta(days=29)).date().isoformat()
    assert all(name.startswith("expired-") for name in searches(db))
    assert cli("expire", "--older-than", "-1").exit_code == 2
    found = parsed(cli("stats", "--json"))
    assert (found["expired_searches"], found["searches_counted_by_day"]) == (2, 2)


@pytest.mark.usefixtures("judged")
def test_who_judges_can_be_said(cli: Cli, db: Database) -> None:
    with db.connect() as connection:
        row = connection.execute(
            "SELECT search_id::text, snippet_id::text FROM feedback WHERE judgement = 'accept'"
        ).fetchone()
    assert row is not None
    assert parsed(cli("add", *row, "accept", "--user", " ann ", "--json")) == {"added": False}
    assert parsed(cli("add", *row, "reject", "--user", "bob", "--json")) == {"added": True}
    assert parsed(cli("add", *row, "reject", "--json", env={"HONELOOP_USER": "cyd"})) == {"added": True}
    assert parsed(cli("stats", "--json"))["dropped"]["outvoted by other people"] == 1


def searches(db: Database) -> list[str]:
    with db.connect() as connection:
        return [name for (name,) in connection.execute("SELECT user_name FROM searches ORDER BY 1")]
