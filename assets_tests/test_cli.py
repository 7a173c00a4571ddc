"""The command line: what it says, where it says it, and what it exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner, Result

from assets_tests.end_to_end.services import two_free_ports
from assets_tests.feedback.world import add_code, show
from pipeline.cli import app
from pipeline.commands.common import shown_url
from pipeline.config import Settings
from pipeline.corpus.repositories import list_repositories
from pipeline.feedback.events import add_feedback
from pipeline.index.serving import serving_index
from pipeline.store.connections import Database

Cli = Callable[..., Result]

CODE = '''def parse_duration(text):
    """Turns a duration such as 1h30m into a number of seconds."""
    hours, _, minutes = text.rstrip("m").partition("h")
    return int(hours) * 3600 + int(minutes or 0) * 60


def moving_average(values, width):
    """The mean of each window of consecutive values."""
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
'''


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process on the test's own database."""
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory with two documented functions."""
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "times.py").write_text(CODE)
    return directory


def only_json(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output; anything else there fails."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def one_sentence(result: Result, exit_code: int) -> str:
    """What was said on standard error, in one line, with nothing on standard output."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def subprocess_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_starting_imports_nothing_heavy():
    heavy = {"torch", "dagster", "psycopg", "numpy", "pydantic", "transformers", "pipeline.config"}
    found = subprocess.run(
        [sys.executable, "-c", f"import pipeline.cli, sys; print(*({heavy!r} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    "command",
    [
        *("run", "index", "train", "search", "evaluate", "models", "promote", "rollback", "check", "status"),
        *("up", "migrate", "doctor", "interleave", "source add", "source list", "source remove"),
        *("feedback add", "feedback import", "feedback stats"),
    ],
)
def test_every_command_explains_itself(cli: Cli, command: str):
    result = cli(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"honeloop {command}" in result.stdout or f"main {command}" in result.stdout
    assert len(result.stdout.split()) > 15


def test_help_shows_a_first_tour():
    result = subprocess_cli("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for words in ("honeloop run", "honeloop search", "honeloop feedback add", "HONELOOP_HOME"):
        assert words in result.stdout


def test_a_group_alone_shows_its_commands_and_is_bad_input():
    result = subprocess_cli("source")
    assert result.returncode == 2
    assert "remove" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-command"], "No such command 'no-such-command'"),
        (["search"], "Missing argument"),
        (["search", "x", "-k", "0"], "Invalid value for '-k'"),
        (["feedback", "add", "a", "1", "adore"], "'adore'"),
        (["source", "add", "a", "b", "--kind", "tarball"], "'tarball'"),
    ],
)
def test_wrong_usage_is_one_sentence_with_where_to_look(cli: Cli, arguments: list[str], said: str):
    sentence = one_sentence(cli(*arguments), 2)
    assert said in sentence
    assert "--help`" in sentence


@pytest.mark.parametrize("variable", ["HONELOOP_UI_PORT", "HONELOOP_SEARCH_PORT"])
@pytest.mark.parametrize("port", ["70000", "0", "-1"])
def test_a_port_that_is_none_is_said_before_anything_starts(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, port: str
):
    monkeypatch.setenv(variable, port)
    assert f"{variable} = '{port}'" in one_sentence(cli("status"), 2)


def test_sources_are_added_listed_and_removed(cli: Cli, db: Database, code: Path):
    added = only_json(cli("source", "add", "mine", code, "--json"))
    assert (added["name"], added["kind"], added["location"]) == ("mine", "directory", str(code))
    listed = only_json(cli("source", "list", "--json"))
    assert [source["name"] for source in listed["sources"]] == ["mine"]
    assert "mine" in cli("source", "list").stdout
    assert only_json(cli("source", "remove", "mine", "--json")) == {"removed": "mine"}
    assert list_repositories(db) == []


def test_locations_with_brackets_are_shown_as_they_are(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """To Rich they are markup: text that vanishes, or an error."""
    monkeypatch.setenv("COLUMNS", "300")
    for number, directory in enumerate(("[bold]", "[red]x", "[/x]")):
        place = tmp_path / directory
        place.mkdir(parents=True)
        (place / "times.py").write_text(CODE)
        added = cli("source", "add", f"source{number}", place)
        assert added.exit_code == 0, added.stderr
        for said in (added, cli("source", "list"), cli("status")):
            assert said.exit_code == 0, said.stderr
            assert str(place) in said.stdout.replace("\n", "")


def test_a_source_with_judgements_is_removed_only_if_that_is_meant(
    cli: Cli, db: Database, monkeypatch: pytest.MonkeyPatch
):
    ids = list(add_code(db, {"a.py": {"f": "def f(): 1", "g": "def g(): 2"}}).values())
    search = show(db, "find it", ids, "ann")
    add_feedback(db, search, ids[0], "accept")
    add_feedback(db, search, ids[1], "reject")
    for arguments in (["demo"], ["demo", "--json"]):
        sentence = one_sentence(cli("source", "remove", *arguments), 2)
        assert "2 judgements" in sentence
        assert "--yes" in sentence
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.commands.common.on_a_terminal", lambda: True)
        refused = CliRunner().invoke(app, ["source", "remove", "demo"], input="n\n")
        assert refused.exit_code == 130
        assert "2 judgements" in refused.stderr
    assert len(list_repositories(db)) == 1
    assert only_json(cli("source", "remove", "demo", "--yes", "--json")) == {"removed": "demo"}
    assert list_repositories(db) == []
    with db.connect() as connection:
        assert connection.execute("SELECT count(*) FROM feedback").fetchone() == (0,)


def test_bad_sources_are_bad_input(cli: Cli, tmp_path: Path):
    assert "no-such" in one_sentence(cli("source", "add", "a", tmp_path / "no-such"), 2)
    assert "unheard" in one_sentence(cli("source", "remove", "unheard"), 2)
    assert "unheard" in one_sentence(cli("index", "--source", "unheard"), 2)


def test_a_setting_that_cannot_be_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_MIN_PAIRS", "plenty")
    sentence = one_sentence(cli("status"), 2)
    assert "HONELOOP_MIN_PAIRS" in sentence
    assert "plenty" in sentence
    monkeypatch.delenv("HONELOOP_MIN_PAIRS")
    monkeypatch.setenv("HONELOOP_API_TOKEN", "tooshort")
    sentence = one_sentence(cli("status"), 2)
    assert "HONELOOP_API_TOKEN" in sentence
    assert "tooshort" not in sentence


def test_an_unreachable_database_is_a_failure_with_what_to_do(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONELOOP_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:9/none")
    sentence = one_sentence(cli("status"), 1)
    assert "HONELOOP_DATABASE_URL" in sentence
    assert "secret" not in sentence


def test_searching_and_rolling_back_before_anything_is_indexed(cli: Cli):
    assert "honeloop run" in one_sentence(cli("search", "anything"), 1)
    assert "honeloop run" in one_sentence(cli("rollback"), 1)


def test_unknown_models_and_empty_reasons_are_bad_input(cli: Cli):
    assert "'abcdef12'" in one_sentence(cli("promote", "abcdef12", "--reason", "why not"), 2)
    assert "--reason" in one_sentence(cli("promote", "abcdef12"), 2)


def test_status_tells_the_state_and_the_settings_without_the_password(cli: Cli, code: Path):
    cli("source", "add", "mine", code)
    status = only_json(cli("status", "--json"))
    assert status["database"]["pgvector"] >= "0.8"
    assert [source["name"] for source in status["sources"]] == ["mine"]
    assert status["serving"] is None
    assert status["snippets"]["live"] == 0
    assert status["settings"]["HONELOOP_MIN_PAIRS"] == Settings().min_pairs
    assert "mine" in cli("status").stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("postgresql://postgres:@/db?host=/tmp/a", "postgresql://postgres:@/db?host=/tmp/a"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str):
    assert shown_url(url) == shown


def test_migrations_go_back_and_forth(cli: Cli):
    applied = only_json(cli("migrate", "--json"))
    assert applied["ran"] == []
    reverted = only_json(cli("migrate", "--down", "1", "--json"))
    assert reverted["ran"] == [applied["applied"][-1]]
    assert only_json(cli("migrate", "--json"))["ran"] == reverted["ran"]
    assert "at" in one_sentence(cli("migrate", "--down", "99"), 2)


def test_migrating_tells_dagster_its_pools(cli: Cli, settings: Settings):
    """Nobody else does on Kubernetes, and of unknown pools all runs would be launched at once."""
    from pipeline.defs.instance import open_instance

    only_json(cli("migrate", "--json"))
    with open_instance(settings) as instance:
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {"training": 1, "embedding": 1}


def test_migrating_does_without_dagsters_database(cli: Cli, db: Database, monkeypatch: pytest.MonkeyPatch):
    """The user may not make one, as on many a server of a cloud's."""
    role = f"{conninfo_to_dict(db.url)['dbname']}_role"
    with db.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEDB").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role))
        )
    try:
        monkeypatch.setenv("HONELOOP_DATABASE_URL", db.url.replace("//postgres:", f"//{role}:"))
        migrated = cli("migrate", "--json")
        assert only_json(migrated)["applied"]
        assert "was not told its pools" in migrated.stderr
        assert "CREATE DATABASE" in migrated.stderr
    finally:
        with db.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_checks_of_an_empty_database_find_nothing_wrong(cli: Cli):
    found = only_json(cli("check", "--json"))
    assert found["passed"] is True
    assert {check["passed"] for check in found["checks"]} == {None}


def test_index_search_feedback_from_the_command_line(cli: Cli, code: Path, tmp_path: Path):
    """One command after another, as a person would."""
    cli("source", "add", "mine", code)
    report = only_json(cli("index", "--json"))
    assert report["embedded"] == 2
    assert report["index"]["action"] == "built"
    assert report["error"] is None

    again = only_json(cli("index", "--json"))
    assert (again["embedded"], again["reused"], again["index"]["action"]) == (0, 2, "reused")

    answer = only_json(cli("search", "convert a time span to seconds", "-k", "1", "--json"))
    (result,) = answer["results"]
    assert (result["symbol"], result["path"], result["start_line"]) == ("parse_duration", "times.py", 1)
    assert result["code"] == CODE.split("\n\n\n", maxsplit=1)[0]
    shown = cli("search", "convert a time span to seconds").stdout
    assert "times.py:1" in shown
    assert "honeloop feedback add" in shown
    assert "rust" in one_sentence(cli("search", "x", "--language", "rust"), 2)

    said = ["feedback", "add", answer["search_id"], str(result["snippet_id"]), "accept", "--json"]
    assert only_json(cli(*said)) == {"added": True}
    assert only_json(cli(*said)) == {"added": False}
    assert "999999" in one_sentence(cli("feedback", "add", answer["search_id"], "999999", "accept"), 2)

    file = tmp_path / "judged.jsonl"
    line = {"query": "rolling mean", "repository": "mine", "path": "times.py", "symbol": "moving_average"}
    file.write_text(json.dumps({**line, "judgement": "accept"}) + "\nnot json\n")
    imported = only_json(cli("feedback", "import", file, "--json"))
    assert (imported["read"], imported["added"], imported["rejected"]) == (2, 1, 1)
    assert Path(imported["rejected_file"]).read_text().count("\n") == 1
    assert only_json(cli("feedback", "stats", "--json"))["pairs"] == 2

    queries = tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"query": "rolling mean", "relevant": [line]}) + "\n")
    measured = only_json(cli("evaluate", "--queries", queries, "--model", "serving", "--json"))
    assert measured["model_version"] == answer["model_version"]
    assert (measured["queries"], measured["corpus"], measured["unmatched"]) == (1, 2, 0)
    assert measured["metrics"]["recall@1"] == 1.0
    assert measured["ranking"] == {"words": 0.0, "crowding": 0.0}
    by_meaning = cli("evaluate", "--queries", queries, "--ranked-by", "meaning")
    assert "Ranked by meaning alone." in by_meaning.stdout

    (model,) = only_json(cli("models", "--json"))["models"]
    assert (model["version"], model["state"]) == (answer["model_version"], "serving")
    assert only_json(cli("check", "--json"))["passed"] is True
    assert only_json(cli("status", "--json"))["serving"]["rows"] == 2

    # Too little to train on: the index serves all the same, and the reason is said.
    failed = cli("run", "--json")
    assert failed.exit_code == 1
    assert "HONELOOP_MIN_PAIRS" in failed.stderr or "pairs" in failed.stderr
    assert json.loads(failed.stdout)["serving"]["model_version"] == answer["model_version"]


def test_json_is_all_there_is_on_standard_output(settings: Settings, cli: Cli, code: Path):
    cli("source", "add", "mine", code)
    result = subprocess_cli(
        "index",
        "--json",
        HONELOOP_HOME=str(settings.home),
        HONELOOP_DATABASE_URL=str(settings.database_url),
    )
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
    assert json.loads(result.stdout)["corpus"]["snippets"] == 2


def test_up_serves_dagster_and_search_until_it_is_interrupted(settings: Settings, tmp_path: Path):
    port, search_port = two_free_ports()
    environment = {
        **os.environ,
        "HONELOOP_HOME": str(settings.home),
        "HONELOOP_DATABASE_URL": str(settings.database_url),
        "HONELOOP_UI_PORT": str(port),
        "HONELOOP_SEARCH_PORT": str(search_port),
    }
    shown = tmp_path / "shown"
    with shown.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "up"], env=environment, stdout=output, stderr=output
        )
    try:
        while "Ctrl-C" not in shown.read_text():
            assert process.poll() is None, shown.read_text()
            time.sleep(0.2)
        started = psutil.Process(process.pid).children(recursive=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=30) as answer:
            assert "dagster_webserver_version" in json.load(answer)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{search_port}/health", timeout=30)
        assert json.load(caught.value)["reason"] == "Nothing is indexed yet."
        caught.value.close()
        # The port is taken now.
        second = subprocess_cli("up", **{k: v for k, v in environment.items() if k.startswith("HONELOOP")})
        assert second.returncode == 1
        assert "HONELOOP_UI_PORT" in second.stderr
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    assert psutil.wait_procs(started, timeout=1)[1] == []
    assert f"http://127.0.0.1:{port}" in shown.read_text()
    assert f"http://127.0.0.1:{search_port}" in shown.read_text()


def test_a_damaged_state_fails_the_checks_and_one_that_is_behind_warns(cli: Cli, db: Database, code: Path):
    cli("source", "add", "mine", code)
    assert cli("index").exit_code == 0
    with db.connect() as connection:
        connection.execute("UPDATE snippets SET vanished_at = now() WHERE symbol = 'moving_average'")
    result = cli("check", "--json")
    assert result.exit_code == 0
    assert [each["check"] for each in json.loads(result.stdout)["checks"] if each["warning"]] == [
        "rows_are_equal"
    ]
    shown = cli("check").output
    assert "! search_index.rows_are_equal" in shown
    assert "1 too many; it is of an earlier state of the code, and whole. `honeloop index` brings" in shown
    with db.connect() as connection:
        connection.execute(sql.SQL("DELETE FROM {}").format(serving_index(db).table.identifier))
    result = cli("check", "--json")
    assert result.exit_code == 1
    wrong = {check["check"] for check in json.loads(result.stdout)["checks"] if check["passed"] is False}
    assert wrong == {"rows_are_equal"}
    assert "rows_are_equal" in result.stderr


def test_an_interrupted_run_exits_with_130_and_the_next_one_goes_on(settings: Settings, cli: Cli):
    cli("source", "add", "click", "click", "--kind", "distribution")
    environment = {
        **os.environ,
        "HONELOOP_HOME": str(settings.home),
        "HONELOOP_DATABASE_URL": str(settings.database_url),
        "HONELOOP_EMBED_CHUNK_SIZE": "16",
    }
    command = [sys.executable, "-m", "pipeline.cli", "index"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _wait_for_vectors(Database(str(settings.database_url)), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "Interrupted."


def _wait_for_vectors(db: Database, process: subprocess.Popen[str]) -> None:
    """Until the process has committed its first chunk of vectors."""
    while process.poll() is None:
        with db.connect() as connection:
            row = connection.execute("SELECT table_name FROM embedding_tables").fetchone()
            if row is not None:
                stored = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(row[0]))
                if connection.execute(stored).fetchone() is not None:
                    return
        time.sleep(0.1)
    pytest.fail("the run ended before it could be interrupted")
