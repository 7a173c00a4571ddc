"""kill -9 of the running loop, again and again on one home, and what it did to what serves.

    python -m assets_tests.survival.kills --kills 20 --seed 1
    python -m assets_tests.survival.kills --boundaries

Each round brings a commit and a judgement, so that every step has something to do; the loop is begun, and
its process group is killed, sometimes together with its Postgres. What serves must answer as it did, unless a
whole new state of the index took its place. In the end a run completes, and the doctor finds nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from assets_tests.end_to_end.test_loop import commit_all
from assets_tests.survival.homes import (
    QUERIES,
    Home,
    kill_server,
    make_home,
    temporary_directory,
    wait_until,
)
from assets_tests.survival.orders import Command, Orders, taking_orders
from pipeline.commands.doctor import examined
from pipeline.errors import HoneloopError
from pipeline.feedback.importing import import_feedback
from pipeline.index.serving import serving_index
from pipeline.index.tables import VectorTable
from pipeline.index.verifying import coverage
from pipeline.progress import Silent
from pipeline.search.query import search
from pipeline.workbench import Workbench

ASSETS = 10  # materialized by a loop that promotes: three, five, and two again
NEW_CODE = '''def step_{number}(values):
    """Takes step {number} with all the values, and returns what is left of them after it."""
    return [value - {number} for value in values if value > {number}]
'''


@dataclass(frozen=True)
class Answers:
    """What serves, and what it answers to the fixed queries."""

    index_version: int
    model_version: str
    rows: int
    results: tuple[tuple[int, ...], ...]


@dataclass
class Figures:
    """What came of a series of kills.

    Attributes:
        seed: of the moments.
        loop_seconds: how long the loop took that was not killed before.
        kills: those that met a running loop, by what was killed.
        late: loops that had ended before the kill.
        stages: how many assets the killed loops had finished.
        replaced: after how many kills a whole new state of the index served.
        found: what the doctor named after the kills, by kind.
        mended_by_hand: what it had to mend in the end, after the run that completed.
        completing_seconds: how long that run took.
        lost: in words; nothing is expected here.
    """

    seed: int
    loop_seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter[str])
    late: int = 0
    stages: list[int] = field(default_factory=list[int])
    replaced: int = 0
    found: Counter[str] = field(default_factory=Counter[str])
    mended_by_hand: list[str] = field(default_factory=list[str])
    completing_seconds: float = 0.0
    lost: list[str] = field(default_factory=list[str])

    def to_json(self) -> dict[str, Any]:
        """All of it, plain."""
        return {**vars(self), "kills": dict(self.kills), "found": dict(self.found)}


class Rounds:
    """One home, and what is done to it round by round."""

    def __init__(self, home: Home, orders: Orders, seed: int) -> None:
        self.home = home
        self.orders = orders
        self.figures = Figures(seed)
        self._number = 0
        self._bench = Workbench(home.settings)
        self._accepted: set[str] = set()

    def news(self) -> None:
        """A commit, and a judgement of what was there before."""
        self._number += 1
        number = self._number
        (self.home.repository / f"step_{number}.py").write_text(NEW_CODE.format(number=number))
        commit_all(self.home.repository, f"Add step {number}")
        line = {
            "query": f"how to format help number {number}",
            "repository": "clicked",
            "path": "formatting.py",
            "judgement": "accept",
            "user": f"user-{number}",
        }
        file = self.home.path.parent / "feedback.jsonl"
        file.write_text(json.dumps(line) + "\n")
        assert import_feedback(self.home.database(), file).added == 1
        self._accepted.add(line["query"])

    def answers(self) -> Answers:
        """Asked of the database with the model that serves, as a search is."""
        db = self.home.database()
        serving = serving_index(db)
        encoder = self._bench.encoder(self._bench.model(serving.model_version))
        return Answers(
            serving.index_version_id,
            serving.model_version,
            serving.rows,
            tuple(
                tuple(result.snippet_id for result in search(db, encoder, query, k=5, record=False).results)
                for query in QUERIES
            ),
        )

    def materialized(self) -> int:
        """How many assets were ever materialized in this home."""
        with psycopg.connect(self.home.dagster_url()) as connection:
            row = connection.execute(
                "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def kill(self, moment: Callable[[Command], None], *, server: bool) -> None:
        """Begins the loop, kills it at the moment, and looks at what is left."""
        before = self.answers()
        finished = self.materialized()
        command = self.orders.start(self.home, "run", "--json")
        moment(command)
        if self.orders.kill(command):
            self.figures.kills["with its Postgres" if server else "the process group"] += 1
        else:
            self.figures.late += 1
        if server:
            kill_server(self.home)
        self.figures.stages.append(self.materialized() - finished)
        self.look(before)

    def look(self, before: Answers) -> None:
        """Compares what serves now, and asks the doctor what it sees."""
        after = self.answers()
        if (after.index_version, after.rows, after.model_version) == (
            before.index_version,
            before.rows,
            before.model_version,
        ):
            if after != before:
                self.figures.lost.append(f"other answers from index version {after.index_version}")
        else:
            self.figures.replaced += 1
            self._require_whole(after)
        with self.home.database().connect() as connection:
            rows = connection.execute("SELECT DISTINCT query FROM searches").fetchall()
        missing = self._accepted - {query for (query,) in rows}
        if missing:
            self.figures.lost.append(f"feedback on {sorted(missing)}")
        outcomes, _ = examined(self.home.settings, Silent(), repair=False)
        self.figures.found.update(outcome.finding.kind for outcome in outcomes)

    def _require_whole(self, serving: Answers) -> None:
        """What took the place of the index before has as many texts as it says."""
        with self.home.database().connect() as connection:
            dims = self._bench.model(serving.model_version).dims
            table = VectorTable(f"index_{serving.index_version}", serving.model_version, dims)
            covered = coverage(connection, table)
        if covered.rows != serving.rows:
            self.figures.lost.append(f"index version {serving.index_version} is not whole: {covered}")

    def complete(self) -> None:
        """The next run completes, and nothing is left of those before."""
        started = time.monotonic()
        code, _, errors = self.orders.run(self.home, "run", "--json")
        self.figures.completing_seconds = round(time.monotonic() - started, 1)
        if code != 0:
            self.figures.lost.append(f"the next run failed: {errors}")
        left, _ = examined(self.home.settings, Silent(), repair=False)
        if left:
            outcomes, _ = examined(self.home.settings, Silent(), repair=True)
            self.figures.mended_by_hand = [outcome.finding.what for outcome in outcomes]
            self.figures.lost += [each.finding.what for each in outcomes if not each.mended]
        self.home.leave()
        if not wait_until(lambda: not self.home.processes(), 30):
            self.figures.lost.append(f"processes are left: {self.home.processes()}")


def kill_at_random(home: Home, orders: Orders, *, kills: int, seed: int, told: bool = False) -> Figures:
    """Kills the loop after random shares of the time that a whole one takes."""
    chance = random.Random(seed)
    rounds = Rounds(home, orders, seed)
    rounds.news()
    started = time.monotonic()
    code, _, errors = orders.run(home, "run", "--json")
    assert code == 0, errors
    rounds.figures.loop_seconds = round(time.monotonic() - started, 1)
    for number in range(kills):
        share, server = chance.uniform(0.02, 1.0), chance.random() < 0.3
        rounds.news()
        rounds.kill(
            lambda command, share=share: _wait(orders, command, share * rounds.figures.loop_seconds),
            server=server,
        )
        if told:
            print(
                f"kill {number + 1} at {share:.2f}, Postgres: {server}",
                rounds.figures.to_json(),
            )
    rounds.complete()
    return rounds.figures


def kill_at_boundaries(home: Home, orders: Orders, *, assets: int = ASSETS, told: bool = False) -> Figures:
    """Kills the loop as soon as the first asset is recorded, then the second, and so on."""
    rounds = Rounds(home, orders, 0)
    for boundary in range(1, assets + 1):
        rounds.news()
        before = rounds.materialized()
        rounds.kill(
            lambda command, wanted=before + boundary: _wait_for(
                lambda: rounds.materialized() >= wanted or orders.code(command) is not None
            ),
            server=boundary % 4 == 0,
        )
        if told:
            print(f"killed after asset {boundary}", rounds.figures.to_json())
    rounds.complete()
    return rounds.figures


def _wait(orders: Orders, command: Command, seconds: float) -> None:
    wait_until(lambda: orders.code(command) is not None, seconds)


def _wait_for(done: Callable[[], bool]) -> None:
    assert wait_until(done, 900, every=0.01)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--boundaries", action="store_true")
    asked = parser.parse_args()
    with temporary_directory() as path, taking_orders(path / "orders") as orders:
        home = make_home(path / "small")
        figures = (
            kill_at_boundaries(home, orders, told=True)
            if asked.boundaries
            else kill_at_random(home, orders, kills=asked.kills, seed=asked.seed, told=True)
        )
    print(json.dumps(figures.to_json(), indent=1))
    if figures.lost:
        raise HoneloopError("Something was lost.")


if __name__ == "__main__":
    main()
