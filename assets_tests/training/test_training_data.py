"""A training set of documentation, commits and feedback of one repository, and how people read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from assets_tests.corpus.making import Entry, GitRepository
from assets_tests.feedback.world import show
from assets_tests.training.standard_library import Function, functions
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository, get_repository
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import token_budget
from pipeline.errors import BadInputError
from pipeline.feedback.events import add_feedback
from pipeline.index.embeddings import embed_missing
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.store import migrations
from pipeline.store.connections import Database
from pipeline.training import set_tables, triplets
from pipeline.training.pairs import TrainingSet
from pipeline.training.soundness import no_leakage, validate_triplets
from pipeline.training.training_set import build_training_set, load_training_set
from pipeline.training.triplets_view import render_set, render_triplets


@dataclass
class World:
    """A repository whose functions came in one by one, each with a commit that says what for."""

    db: Database
    settings: Settings
    encoder: Encoder
    build: Callable[[], TrainingSet]


def described(function: Function) -> str:
    """What somebody could have said when committing it, in words of their own."""
    name = function.symbol.split("#")[0].strip("_").replace("_", " ")
    return f"Provide {name} for {function.path.removesuffix('.py')} users\n\nSigned-off-by: A <a@b.org>"


@pytest.fixture
def world(db: Database, settings: Settings, minilm: Encoder, tmp_path: Path) -> World:
    made = GitRepository(tmp_path / "made")
    files: dict[str | bytes, Entry] = {}
    chosen = [function for function in functions() if not function.symbol.startswith("_")][:36]
    for number, function in enumerate(chosen):
        files[f"f{number}.py"] = function.text + "\n"
        made.commit(files, message=described(function))
    add_repository(db, "made", str(made.path))
    extract_repository(db, get_repository(db, "made"), settings, token_budget("minilm"), Silent())
    ensure_registered(db, minilm, "minilm")
    embed_missing(db, minilm, settings, Silent())
    small = settings.model_copy(update={"min_pairs": 10, "test_percent": 25, "validation_percent": 15})
    return World(db, small, minilm, lambda: build_training_set(db, minilm, small, Silent()))


def test_three_origins_in_one_set_with_their_reasons(world: World, settings: Settings) -> None:
    with world.db.connect() as connection:
        row = connection.execute("SELECT id FROM snippets ORDER BY id LIMIT 1").fetchone()
    assert row is not None
    add_feedback(world.db, show(world.db, "how do I do that", [row[0]], user="ann"), row[0], "accept")
    built = world.build()
    assert {pair.origin for pair in built.pairs} == {"feedback", "docstring", "commit"}
    assert no_leakage(built) == []
    assert validate_triplets(built) == []
    for pair in built.pairs:
        assert pair.because
        assert "ann" not in str(pair.because)
        assert pair.group in pair.spared
        assert not any(pair.spares(negative.group) for negative in pair.negatives)
        assert triplets.why_positive(pair)
        if pair.origin == "commit":
            assert pair.query.startswith("Provide ")
            assert pair.weight == settings.commit_weight
    weights = {pair.origin: pair.weight for pair in built.pairs}
    assert weights["commit"] < weights["feedback"]
    counts = built.counts
    assert sum(counts["commits"]["made"].values()) == 36
    mining = counts["mining"]
    rejected = mining["over_threshold"] + sum(mining["passed"].values())
    # Of each documentation pair several are compared, and one is taken.
    assert mining["candidates"] >= mining["taken"] > 0
    assert mining["candidates"] >= rejected - mining["candidates"]
    assert mining["nothing_found"] == sum(mining["nothing_found_by_origin"].values())
    assert sum(mining["asking"].values()) == len(built.pairs)
    at = mining["at_thresholds"]["docstring"]
    assert at["rejected"]["0.8"] >= at["rejected"]["0.95"] >= at["rejected"]["1"]
    histogram = counts["margins"]["histogram"]
    assert sum(count for *_, count in histogram) == sum(len(pair.negatives) for pair in built.pairs)
    # Nothing is read or mined again, and what is stored is what was built.
    again = world.build()
    assert again.reused
    assert replace(again, reused=False) == built


def test_the_account_can_be_read(world: World) -> None:
    built = world.build()
    tables = {table.title: table for table in set_tables.tables_of(built)}
    assert {row[0] for row in tables["pairs"].rows} == {"docstring", "commit"}
    assert ("used", "36", "100%") in tables["commits"].rows or tables["commits"].rows[0][0] == "used"
    named = {row[0]: row[1] for row in tables["hard negatives"].rows}
    assert named["taken"] == f"{built.counts['mining']['taken']:,}"
    assert any("too near: over 0.95" in row for row in named)
    assert (
        sum(
            "(in force)" in row[1]
            for title, table in tables.items()
            if "thresholds" in title
            for row in table.rows
        )
        == 2
    )
    console = Console(file=StringIO(), width=100)
    for part in render_set(built):
        console.print(part)
    assert isinstance(console.file, StringIO)
    written = console.file.getvalue()
    assert "pairs left without a negative" in written
    assert "histogram of the margins" in written
    # A set from before all this was counted has less to show, and shows that.
    old = replace(built, counts={"pairs": {}, "mining": {"over_threshold": 3}})
    assert [table.title for table in set_tables.tables_of(old)] == ["pairs"]


@pytest.mark.parametrize("width", [80, 160])
def test_triplets_are_shown_with_code_reasons_and_margins(world: World, width: int) -> None:
    built = world.build()
    pairs, eligible = triplets.sampled(built, 200, 1, origin="commit", split=None)
    assert eligible == len(pairs) == sum(pair.origin == "commit" for pair in built.pairs)
    with world.db.connect() as connection:
        where = triplets.places(connection, pairs)
    console = Console(file=StringIO(), width=width)
    for part in render_triplets(pairs, where, width=width):
        console.print(part)
    assert isinstance(console.file, StringIO)
    written = console.file.getvalue()
    assert all(len(line) <= width for line in written.splitlines())
    assert "of made added it" in " ".join(written.replace("│", " ").split())
    assert "margin" in written
    first = next(pair for pair in pairs if pair.negatives)
    assert pairs[0].query in " ".join(written.split())
    assert where[first.positive_hash].symbol in written
    # By themselves they are the same every time; another seed draws others.
    few = [triplets.sampled(built, 3, seed, origin=None, split="train")[0] for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]
    with pytest.raises(BadInputError, match="no such pairs"):
        triplets.sampled(built, 3, 1, origin="feedback", split=None)


def test_what_would_play_tricks_on_a_terminal_is_not_printed(world: World) -> None:
    built = world.build()
    pair = replace(built.pairs[0], query="\x1b[2J gone", positive_text="x = '\x1b]0;title\x07'\n\u202e")
    console = Console(file=StringIO(), width=100)
    for part in render_triplets([pair], {}, width=100):
        console.print(part)
    assert isinstance(console.file, StringIO)
    assert not {"\x1b", "\x07", "\u202e"} & set(console.file.getvalue())


def test_the_commands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    built = world.build()
    monkeypatch.setenv("HONELOOP_HOME", str(world.settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", world.db.url)
    run = CliRunner().invoke
    shown = json.loads(run(app, ["triplets", "show", "--origin", "commit", "-n", "2", "--json"]).stdout)
    assert (shown["training_set"], len(shown["triplets"])) == (built.id, 2)
    triplet = shown["triplets"][0]
    assert triplet["origin"] == "commit"
    assert triplet["positive"]["repository"] == "made"
    assert triplet["because"]["commit"]
    for negative in triplet["negatives"]:
        assert negative["margin"] == pytest.approx(negative["positive_score"] - negative["negative_score"])
    plain = run(app, ["triplets", "show", "-n", "1"])
    assert plain.exit_code == 0
    assert "answers" in plain.stdout
    counted = json.loads(run(app, ["triplets", "summary", "--json"]).stdout)
    assert counted["counts"] == built.counts
    assert "hard negatives" in run(app, ["triplets", "summary"]).stdout
    assert run(app, ["triplets", "show", "--origin", "feedback"]).exit_code == 2
    assert run(app, ["triplets", "show", "--set", "99"]).exit_code == 2
    assert run(app, ["triplets", "show", "-n", "0"]).exit_code == 2


def test_the_way_back_of_the_migration_keeps_the_reasons(world: World) -> None:
    built = world.build()
    applied = migrations.apply(world.db.url, world.settings.sql_path).applied
    count = len(applied) - [name.startswith("0008") for name in applied].index(True)
    assert any(
        name.startswith("0008")
        for name in migrations.revert(world.db.url, world.settings.sql_path, count).ran
    )
    with world.db.connect() as connection:
        gone = connection.execute("SELECT to_regclass('commits'), to_regclass('commit_functions')").fetchone()
    assert gone == (None, None)
    migrations.apply(world.db.url, world.settings.sql_path)
    assert replace(load_training_set(world.db, built.id), reused=False) == built
    # The histories are read again, and give what they gave.
    assert world.build().fingerprint == built.fingerprint
