"""Choosing a challenger: its index is built beside what serves, kept, kept up, and what people chose told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors, vanish
from assets_tests.index.nights import CleansInBetween, has_vectors, turn_down
from assets_tests.search.models import perturbed_model
from assets_tests.search.web.site import serving as site_of
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.online import record_interleaving
from pipeline.feedback.events import add_feedback
from pipeline.index.building import build_index
from pipeline.index.challenging import challenger_version, challenging_index, choose_challenger
from pipeline.index.cleaning import clean_up, discard, drop_retired
from pipeline.index.flipping import flip, rollback
from pipeline.index.serving import ServingIndex, serving_index, verified_index
from pipeline.index.verifying import coverage
from pipeline.progress import Silent
from pipeline.search.challenger import build_challenger, keep_up
from pipeline.search.query import search
from pipeline.store import migrations
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

COUNT = 30
Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A really different model, in a directory."""
    return perturbed_model(tmp_path_factory.mktemp("other") / "model")


@pytest.fixture
def served(
    db: Database,
    settings: Settings,
    minilm: Encoder,
    functions: tuple[Function, ...],
    vectors: NDArray[np.float32],
) -> Database:
    """A few of click's functions, served by MiniLM."""
    add_functions(db, functions[:COUNT])
    store_vectors(db, minilm, functions[:COUNT], vectors[:COUNT])
    serve(db, minilm, settings)
    return db


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def challenging(db: Database) -> ServingIndex | None:
    with db.connect() as connection:
        return challenging_index(connection)


def test_from_choosing_to_what_people_prefer(
    served: Database,
    settings: Settings,
    minilm: Encoder,
    *,
    functions: tuple[Function, ...],
    other: Path,
    cli: Cli,
) -> None:
    before = serving_index(served)
    told = json.loads(cli("interleave", other, "--json").stdout)
    version = told["model_version"]
    assert (told["rows"], told["share"]) == (COUNT, 0.0)
    assert told["recall_at_10"] >= settings.min_recall
    assert serving_index(served) == before  # it does not serve by this
    index = challenging(served)
    assert index is not None
    assert (index.model_version, index.index_version_id) == (version, told["index_version_id"])
    # New code, and code that went: with the index that serves, the challenger's is brought up to date.
    add_functions(served, functions[COUNT : COUNT + 3])
    vanish(served, functions[:2])
    assert keep_up(Workbench(settings, database=served), Silent()) == (
        f"The challenger {version[:12]} is up to date."
    )
    index = challenging(served)
    assert index is not None
    with served.connect() as connection:
        assert coverage(connection, index.table).equal
    assert index.rows == COUNT + 1
    # What people chose stands beside what the gate said; it was not asked here.
    answer = search(served, minilm, "open a file", k=4)
    assert answer.search_id is not None
    ids = [each.snippet_id for each in answer.results]
    with served.connect() as connection:
        teams = dict(zip(ids, ("candidate", "serving", "serving", "candidate"), strict=True))
        assert record_interleaving(connection, answer.search_id, minilm.version, version, teams)  # pyright: ignore[reportArgumentType]
    add_feedback(served, answer.search_id, ids[0], "accept", user="ada")
    models = {each["version"]: each for each in json.loads(cli("models", "--json").stdout)["models"]}
    (online,) = models[version]["online"]
    assert online["serving_version"] == minilm.version
    assert (online["outcome"]["wins"], online["outcome"]["searches"]) == (1, 1)
    assert models[version]["challenger"]
    assert models[minilm.version]["online"] == []
    said = " ".join(cli("models", version[:12]).stdout.split())
    assert f"interleaved with {minilm.version[:12]}, against which the gate was not asked" in said
    assert "Not enough evidence: 1 won, 0 lost, 0 tied of 1 decided (1 interleaved) by 1 people" in said
    assert f"Searches are interleaved with {version[:12]}" in said
    with site_of(settings, served) as site:
        page = site.browse("/insights").text.partition("<h2>Interleaved searches</h2>")[2]
        row = page[page.index(f'title="{version}">{version[:12]}</th>') :].partition("</tr>")[0]
        assert "not enough evidence" in row
        assert "not asked" in row
        assert "100.0%" in row
    assert json.loads(cli("interleave", "--stop", "--json").stdout) == {"stopped": version}
    assert json.loads(cli("interleave", "--stop", "--json").stdout) == {"stopped": None}
    assert challenging(served) is None


def test_what_cannot_be_compared_is_refused_and_changes_nothing(
    served: Database, settings: Settings, tmp_path: Path, cli: Cli
) -> None:
    for arguments, said in (
        (["interleave"], "undecided about no candidate"),
        (["interleave", "serving"], "there is nothing to compare it with"),
        (["interleave", "base"], "there is nothing to compare it with"),
        (["interleave", "abcdef12"], "No model goes by 'abcdef12'"),
        (["interleave", "abcdef12", "--stop"], "--stop takes no version"),
    ):
        refused = cli(*arguments)
        assert refused.exit_code == 2, arguments
        assert said in " ".join(refused.stderr.split())
    gone = perturbed_model(tmp_path / "gone", seed=8)
    version = Workbench(settings, database=served).named_model(str(gone)).version
    shutil.rmtree(gone)
    refused = cli("interleave", version[:12])
    assert refused.exit_code == 1
    assert str(gone) in refused.stderr.replace("\n", "")
    with served.connect() as connection:
        assert challenger_version(connection) is None
    assert keep_up(Workbench(settings, database=served), Silent()) == ""
    # One that was chosen before its files went is behind, and that is all.
    with served.connect() as connection:
        choose_challenger(connection, version)
    assert keep_up(Workbench(settings, database=served), Silent()).startswith(
        f"The challenger {version[:12]} is behind: "
    )


def test_its_index_is_kept_while_it_challenges_and_served_ones_do_as_well(
    served: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...], other: Path
) -> None:
    bench = Workbench(settings, database=served)
    model = bench.named_model(str(other))
    store_vectors(
        served,
        bench.encoder(model),
        functions[:COUNT],
        bench.encoder(model).embed_documents([f.code for f in functions[:COUNT]]),
    )
    ready = build_index(served, model.version, settings, Silent())
    with served.connect() as connection:
        choose_challenger(connection, model.version)
        connection.execute("UPDATE index_versions SET created_at = created_at - interval '2 hours'")
    build_index(served, minilm.version, settings, Silent())  # which drops what a dead run left behind
    index = challenging(served)
    assert index is not None
    assert index.index_version_id == ready.index_version_id
    # It serves: there is nothing more to compare. And it served: its retired index will do.
    with served.connect() as connection:
        connection.execute("UPDATE model_versions SET state = 'approved' WHERE version = %s", [model.version])
    flip(served, ready.index_version_id, actor="index", reasons=["test"], settings=settings)
    assert challenging(served) is None
    rollback(served)
    assert challenging(served) is None  # the challenge was over with the flip
    with served.connect() as connection:
        assert choose_challenger(connection, model.version)
        assert not choose_challenger(connection, model.version)
    assert drop_retired(served, 0) == ()
    built = served_indexes(served)
    assert keep_up(bench, Silent()) == f"The challenger {model.version[:12]} is up to date."
    assert served_indexes(served) == built  # it has every text: nothing is built
    index = challenging(served)
    assert index is not None
    assert index.index_version_id == ready.index_version_id


def test_its_vectors_are_not_cleaned_away_before_its_index_is_built(
    served: Database, settings: Settings, minilm: Encoder, other: Path
) -> None:
    bench = Workbench(settings, database=served)
    version = bench.named_model(str(other)).version
    turn_down(served, version, minilm.version)
    progress = CleansInBetween(served, minilm.version)
    build_challenger(bench, bench.model(version), progress)
    assert progress.cleaned == 1
    built = verified_index(served, version)
    assert built is not None
    assert built.rows == COUNT
    discard(served, built.index_version_id, "dropped")
    clean_up(served, minilm.version, keep=0)
    assert not has_vectors(served, version)


def served_indexes(db: Database) -> list[tuple[int, str]]:
    with db.connect() as connection:
        return connection.execute("SELECT id, state FROM index_versions ORDER BY id").fetchall()


def test_the_migration_keeps_when_what_was_compared(
    served: Database, settings: Settings, minilm: Encoder, other: Path
) -> None:
    version = Workbench(settings, database=served).named_model(str(other)).version
    with served.connect() as connection:
        connection.execute(
            "INSERT INTO challengers (model_version, since, until) VALUES (%s, '2026-01-02', '2026-01-03'),"
            " (%s, '2026-02-02', NULL)",
            [version, version],
        )

    def kept() -> list[tuple[object, ...]]:
        with served.connect() as connection:
            return connection.execute(
                "SELECT model_version, since, until FROM challengers ORDER BY id"
            ).fetchall()

    before = kept()
    applied = migrations.apply(served.url, settings.sql_path).applied
    count = len(applied) - [name.startswith("0011") for name in applied].index(True)
    migrations.revert(served.url, settings.sql_path, count)
    migrations.apply(served.url, settings.sql_path)
    assert kept() == before
    with served.connect() as connection:
        assert connection.execute(
            "SELECT count(*) FROM model_versions WHERE metrics ? 'challenges'"
        ).fetchone() == (0,)
