"""What `honeloop up` keeps running, with real processes: started again after a death, given up after many."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assets_tests.end_to_end.services import two_free_ports
from assets_tests.survival.homes import wait_until
from pipeline.commands.keeping import (
    LARGEST_LOG,
    MOST_DEATHS,
    WITHIN_SECONDS,
    Keeper,
    Service,
    WallClock,
    require_running,
)
from pipeline.errors import HoneloopError

SLEEPS = "import subprocess, sys, time; print('up', flush=True); {}time.sleep(600)"
# As Dagster's daemon starts code servers, which outlive it for a while.
HAS_CHILD = SLEEPS.format("subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(601)']); ")


class Clock:
    """Tells the time that a test wants it to be."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service("sleeper", [sys.executable, "-c", HAS_CHILD], {}, tmp_path / "logs")
    service.start()
    yield service
    service.stop()


def kill(service: Service, how: signal.Signals = signal.SIGKILL) -> None:
    assert service._process is not None
    # Once it runs; its child does then, or soon.
    assert wait_until(lambda: service.log.read_text().endswith("up\n"))
    service._process.send_signal(how)
    service._process.wait()


def test_what_was_killed_is_started_again_and_that_is_said(service: Service):
    keeper = Keeper(service)
    require_running(service)
    assert keeper.look() is None
    kill(service)
    with pytest.raises(HoneloopError, match=r"sleeper was killed \(SIGKILL\): up") as error:
        require_running(service)
    assert str(service.log) in error.value.hint
    assert keeper.look() == "sleeper was killed (SIGKILL), and was started again."
    assert keeper.look() is None


def test_who_dies_again_and_again_waits_longer_and_is_given_up(service: Service):
    clock = Clock()
    keeper = Keeper(service, clock)
    waits: list[float] = []
    for _ in range(MOST_DEATHS):
        kill(service, signal.SIGTERM)
        began = clock.now
        while keeper.look() is None:
            clock.now += 0.5
        waits.append(clock.now - began)
    assert waits == [0, 2, 4, 8, 16]
    kill(service)
    with pytest.raises(HoneloopError, match=r"was killed \(SIGKILL\), the 6th time within 10 minutes"):
        keeper.look()


def test_a_death_now_and_then_is_not_held_against_anybody(service: Service):
    clock = Clock()
    keeper = Keeper(service, clock)
    for _ in range(MOST_DEATHS + 2):
        kill(service)
        assert keeper.look()
        clock.now += WITHIN_SECONDS + 1


def test_nothing_is_left_of_those_that_were_killed(service: Service):
    keeper = Keeper(service)
    processes: list[psutil.Process] = []
    for _ in range(2):
        assert service._process is not None
        parent = psutil.Process(service._process.pid)
        assert wait_until(parent.children)
        processes += [parent, *parent.children()]
        kill(service)
        keeper.look()
    alive = psutil.wait_procs(processes, timeout=0)[1]
    assert set(alive) == {processes[1], processes[3]}  # nobody's children
    service.stop()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert keeper.look() is not None  # and it would be started again, had it been to run


def test_a_clock_that_is_put_back_is_noticed_once(monkeypatch: pytest.MonkeyPatch):
    import time

    present, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: present() + ahead[0])
    clock = WallClock()
    for seconds, noticed in ((0, 0), (7200, 0), (7190, 0), (3600, 3590), (3600, 0), (-3600, 7200)):
        ahead[0] = seconds
        assert round(clock.put_back(), -1) == noticed


@pytest.mark.parametrize(
    ("same", "said"), [(True, "are both"), (False, "perhaps by `honeloop up` of another home")]
)
def test_ports_that_cannot_be_had_are_named_before_anything_starts(tmp_path: Path, *, same: bool, said: str):
    import socket

    from assets_tests.survival.homes import Home

    ui, search = two_free_ports()
    home = Home(tmp_path / "home", {"UI_PORT": str(ui), "SEARCH_PORT": str(ui if same else search)})
    with socket.socket() as taken:
        if not same:
            taken.bind(("127.0.0.1", search))
            taken.listen()
        done = home.run("up")
    assert done.returncode == 1
    assert said in done.stderr
    assert "HONELOOP_SEARCH_PORT" in done.stderr
    assert not home.path.exists()


SIGNALLED = """
import os, signal, sys, time
from pipeline.commands.up import _stop_on_signals

told = _stop_on_signals()
os.kill(os.getpid(), int(sys.argv[1]))
time.sleep(0.1)
print(told)
"""


@pytest.fixture
def heard() -> Iterator[None]:
    """What is started hears of a closed terminal, also where the tests themselves are run by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_ends_in_order_whatever_tells_it_to(number: signal.Signals):
    """Ctrl-C, who stops a service, and a terminal that is closed."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(number.value)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"[{number.value}]\n"), done.stderr


def test_up_goes_on_without_its_terminal_under_nohup():
    done = subprocess.run(
        ["nohup", sys.executable, "-c", SIGNALLED, str(signal.SIGHUP.value)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(("size", "kept"), [(LARGEST_LOG, False), (LARGEST_LOG + 1, True)])
def test_a_log_that_has_grown_large_is_put_aside_when_its_service_starts(
    service: Service, size: int, *, kept: bool
):
    aside = service.log.with_name("sleeper.log.1")
    aside.parent.mkdir(exist_ok=True)
    aside.write_text("of before that")
    kill(service)
    with service.log.open("ab") as log:
        log.truncate(size)
    service.start()
    kill(service)
    assert service.log.stat().st_size == (len("up\n") if kept else size + len("up\n"))
    assert aside.stat().st_size == (size if kept else len("of before that"))
    assert sorted(each.name for each in service.log.parent.iterdir()) == ["sleeper.log", "sleeper.log.1"]
