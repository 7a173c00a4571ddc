"""`honeloop up` loses one after the other of what it consists of, and goes on; and two of them beside."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

from assets_tests.end_to_end.services import Services, two_free_ports, wait_for
from assets_tests.survival.homes import (
    QUERIES,
    Home,
    kill_all,
    kill_server,
    up_of,
    wait_until,
)
from pipeline.commands.keeping import MOST_DEATHS
from pipeline.defs.instance import open_instance
from pipeline.store import server_leftovers
from pipeline.store.embedded import uri_of_running
from pipeline.store.server import DATABASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def home(prepared: Home, directory: Path, request: pytest.FixtureRequest) -> Home:
    return prepared.copy(directory / str(abs(hash(request.node.name)) % 10_000))


def searched(up: Services, query: str) -> dict[str, Any] | None:
    """The answer; None if the service cannot give one at the moment, and says so or is not there."""
    try:
        return up.searched(query)
    except (urllib.error.URLError, ConnectionError):
        return None


def runs(up: Services) -> list[str]:
    query = "{ runsOrError { ... on Runs { results { status jobName } } } }"
    results = up.graphql(query)["runsOrError"]["results"]
    return [each["status"] for each in results if each["jobName"] == "whole_loop"]


def answers(up: Services, web: bool = False) -> bool:
    try:
        return bool(runs(up)) or True if web else searched(up, "does it answer") is not None
    except (urllib.error.URLError, ConnectionError):
        return False


def in_database(home: Home) -> tuple[set[str], set[str]]:
    """The searches that are recorded, and those judged. Who asks does not count among the server's users."""
    uri = uri_of_running(home.data, DATABASE)
    assert uri is not None
    with psycopg.connect(uri) as connection:
        recorded = {str(each) for (each,) in connection.execute("SELECT id FROM searches")}
        judged = {str(each) for (each,) in connection.execute("SELECT search_id FROM feedback")}
    return recorded, judged


def kill_postmaster(home: Home) -> None:
    """The postmaster alone: its other processes have to notice."""
    pid = server_leftovers.running_postmaster(home.data)
    assert pid is not None
    kill_all([psutil.Process(pid)])


def test_postgres_is_started_again_and_all_goes_on(home: Home) -> None:
    """What is searched and judged before, between and after is all there; runs are launched and end well."""
    shown: set[str] = set()
    with up_of(home) as up:
        first = up.searched(QUERIES[0])
        shown.add(first["search_id"])
        up.judged(first)
        for number, kill in enumerate((kill_server, kill_postmaster, kill_server), 1):
            pid = server_leftovers.running_postmaster(home.data)
            kill(home)
            said = f"Postgres (process {pid}) is gone, and was started again."
            wait_for("Postgres", lambda said=said: said in up.said(), 120)
            answer = wait_for("a search", lambda number=number: searched(up, f"{QUERIES[1]} {number}"), 120)
            assert answer["model_version"] == first["model_version"]
            up.judged(answer)
            shown.add(answer["search_id"])
            up.run("index")
        assert runs(up) == ["SUCCESS"] * 3
        recorded, judged = in_database(home)
        assert shown <= recorded
        assert judged == shown
        assert up.searched(QUERIES[0])["results"] == first["results"]
        assert up.said().count("started again") == 3


def test_postgres_dies_while_a_run_is_at_work(home: Home) -> None:
    """The run waits for it; were its process to fail, Dagster would try it again."""
    with up_of(home) as up:
        index = up.command("index")
        wait_for("a run", lambda: "STARTED" in runs(up))
        kill_server(home)
        wait_for("Postgres", lambda: "was started again" in up.said(), 120)
        index.communicate(timeout=600)
        wait_for("its end", lambda: runs(up) and set(runs(up)) <= {"SUCCESS", "FAILURE", "CANCELED"})
        # However that one ended: the next goes through.
        up.run("index")
        assert runs(up)[0] == "SUCCESS"


def test_postgres_dies_again_and_again(home: Home) -> None:
    with up_of(home) as up:
        for deaths in range(MOST_DEATHS + 1):
            started = lambda deaths=deaths: up.said().count("was started again") == deaths  # noqa: E731
            wait_for("Postgres", started, 180)
            kill_server(home)
        assert up.process.wait(300) == 1
        assert "the 6th time within 10 minutes; it is not started again" in " ".join(up.said().split())
    assert home.doctor("--repair")["sound"]


def test_each_service_is_started_again(home: Home) -> None:
    """The search service, the web server and the daemon; the latter two leave a code server behind each."""
    with up_of(home) as up:
        first = up.searched(QUERIES[0])
        for name in ("serve", "dagster_webserver", "dagster._daemon"):
            (process,) = [each for each in up.children() if name in each.cmdline()]
            kill_all([process])
            wait_for(f"{name} again", lambda name=name: _count(up, name) == 1, 120)
        assert up.said().count("was killed (SIGKILL), and was started again.") == 3
        wait_for("searches", lambda: answers(up), 120)
        wait_for("the web page", lambda: answers(up, web=True), 120)
        up.run("index")
        assert runs(up)[0] == "SUCCESS"
        assert up.searched(QUERIES[0])["results"] == first["results"]


def test_code_servers_are_started_again(home: Home) -> None:
    """They are Dagster's own: what it does without `honeloop up` noticing."""
    with up_of(home) as up:
        up.run("index")
        kill_all([each for each in up.children() if "grpc" in each.cmdline()])
        up.run("index")  # the daemon starts its own again within a minute, the web server when it is told to
        assert runs(up) == ["SUCCESS"] * 2
        assert "started again" not in up.said()


def test_two_homes_beside_each_other_and_a_third_on_the_same_ports(home: Home, directory: Path) -> None:
    other = home.copy(directory / "other")
    third = Home(directory / "third" / "home")
    with up_of(home) as up, up_of(other) as beside:
        ours, theirs = up.searched(QUERIES[0]), beside.searched(QUERIES[0])
        assert [each["symbol"] for each in ours["results"]] == [each["symbol"] for each in theirs["results"]]
        up.run("index")
        assert (runs(up), runs(beside)) == (["SUCCESS"], [])
        assert ours["search_id"] in in_database(home)[0]
        assert ours["search_id"] not in in_database(other)[0]
        pids = {server_leftovers.running_postmaster(each.data) for each in (home, other)}
        assert len(pids) == 2

        port = up.environment["HONELOOP_SEARCH_PORT"]
        for taken in ({"SEARCH_PORT": port}, {"UI_PORT": up.environment["HONELOOP_UI_PORT"]}):
            ui, search = (str(each) for each in two_free_ports())
            third.changes = {"UI_PORT": ui, "SEARCH_PORT": search, **taken}
            done = third.run("up")
            assert (done.returncode, done.stdout) == (1, "")
            assert "is taken" in done.stderr
            assert f"Set HONELOOP_{next(iter(taken))} to another one." in " ".join(done.stderr.split())
            assert not third.processes()
            assert not third.path.exists()
        assert searched(up, QUERIES[1])
        assert searched(beside, QUERIES[1])


def test_a_clock_that_was_put_back_while_nothing_ran(home: Home) -> None:
    """Each sensor and schedule was asked last in a year, so it is written; they are asked again at once."""

    def ticks(up: Services) -> dict[str, float]:
        query = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__",
        repositoryLocationName: "honeloop"}) { ... on Sensors { results { name
        sensorState { ticks(limit: 1) { timestamp } } } } } }"""
        found = up.graphql(query)["sensorsOrError"]["results"]
        each = ((sensor["name"], sensor["sensorState"]["ticks"]) for sensor in found)
        return {name: ticks[0]["timestamp"] for name, ticks in each if ticks}

    with up_of(home) as up:
        wait_for("the sensors", lambda: len(ticks(up)) == 7)
    home.database()
    with open_instance(home.settings) as instance:
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
            data = state.instigator_data
            assert isinstance(data, SensorInstigatorData)
            ahead = data._replace(last_tick_timestamp=time.time() + 365 * 86_400)
            instance.update_instigator_state(state.with_data(ahead))
    home.leave()
    began = time.time()
    with up_of(home) as up:
        assert up.said().count("had been asked at a time that is still to come; it is asked again.") == 7
        # Those that are asked every half minute.
        wait_for("the sensors", lambda: sum(at > began for at in ticks(up).values()) >= 6, 180)


# Whoever has no terminal and leads a session has the first that it opens for its own.
AT_A_TERMINAL = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for number in range(3):
    os.dup2(terminal, number)
os.execv(sys.executable, [sys.executable, "-m", "pipeline.cli", "up"])
"""


def test_all_of_it_ends_when_its_terminal_is_closed(home: Home) -> None:
    ui, search = two_free_ports()
    window, terminal = os.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, os.ttyname(terminal)],
            env={
                **home.environment,
                "HONELOOP_UI_PORT": str(ui),
                "HONELOOP_SEARCH_PORT": str(search),
                "HONELOOP_BACKGROUND_NICENESS": "0",
            },
            start_new_session=True,
        )
        shown = b""
        while b"Ctrl-C stops all of it." not in shown:
            assert select.select([window], [], [], 300)[0], shown.decode()
            shown += os.read(window, 4096)
        os.close(terminal)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3
        os.close(window)
        assert process.wait(300) == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []
        assert wait_until(lambda: not home.processes(), 60)  # nor does its Postgres run
    finally:
        kill_all(home.processes())


def _count(up: Services, name: str) -> int:
    return sum(name in each.cmdline() for each in up.children() if each.is_running())
