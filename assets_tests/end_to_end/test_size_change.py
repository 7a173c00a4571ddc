"""A promotion to 2,560 dimensions and one back, as `honeloop up` does them, with searches all along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets_tests.corpus.making import GitRepository
from assets_tests.defs.conftest import CODE
from assets_tests.encoders.small_models import make_hub
from assets_tests.end_to_end.services import Searcher, Services, backfills, services, wait_for
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.index.serving import serving_index
from pipeline.store.connections import Database

pytestmark = pytest.mark.slow

MORE = '''

def longest_word(text):
    """The longest of the words in a text."""
    return max(text.split(), key=len)
'''


def serves(db: Database) -> bool:
    with db.connect() as connection:
        row = connection.execute("SELECT count(*) FROM index_versions WHERE state = 'serving'").fetchone()
    return row == (1,)


def tables(db: Database) -> set[tuple[str, str]]:
    """Of each index version there is: whose vectors, and of which type Postgres says that they are."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT i.model_version, format_type(a.atttypid, a.atttypmod) FROM index_versions i"
            " JOIN pg_attribute a ON a.attrelid = to_regclass(i.table_name) AND a.attname = 'embedding'"
        ).fetchall()
    return {(version, kind) for version, kind in rows}


def promote(up: Services, name: str) -> str:
    """The version that serves then."""
    done = json.loads(up.run("promote", name, "--reason", "Its size is to be tried.", "--json"))
    assert done["state"] == "serving"
    return done["model_version"]


def ended(up: Services) -> list[str]:
    return [each["status"] for each in backfills(up)]


@pytest.mark.timeout(3600)
def test_backfills_change_the_size_and_change_it_back(
    settings: Settings, db: Database, tmp_path: Path
) -> None:
    hub = {"HF_HUB_CACHE": str(make_hub(tmp_path / "hub", taught=True)), "HF_HUB_OFFLINE": "1"}
    repositories = {name: GitRepository(tmp_path / name) for name in ("one", "two")}
    for repository in repositories.values():
        repository.commit({"times.py": CODE})
    settings.home.mkdir(parents=True)
    more = {"HONELOOP_NEW_COMMITS_SECONDS": "30", "HONELOOP_DEVICE": "cpu", "HONELOOP_BACKEND": "onnx"}
    with services(settings, tmp_path / "up.log", **hub, **more) as up:
        for name, repository in repositories.items():
            add_repository(db, name, str(repository.path))
        wait_for("the first index", lambda: serves(db))
        small = serving_index(db)
        assert (small.dims, ended(up)) == (384, [])
        searcher = Searcher(up)
        searcher.start()
        wait_for("searches by the small model", lambda: searcher.count > 5)

        large = promote(up, "qodo+jina")
        assert (serving_index(db).dims, serving_index(db).model_version) == (2560, large)
        assert ended(up) == ["COMPLETED_SUCCESS"]
        wait_for("searches by the large model", lambda: searcher.models[-1] == large)
        # New code meanwhile has vectors of the large model alone, so that going back is a backfill too.
        repositories["two"].commit({"times.py": CODE + MORE})
        wait_for("the new function", lambda: "longest_word" in found(up))

        assert promote(up, "minilm") == small.model_version
        assert serving_index(db).dims == 384
        assert ended(up) == ["COMPLETED_SUCCESS"] * 2
        after = searcher.count
        wait_for("searches by the small model again", lambda: searcher.count > after + 5)
        searcher.stop()
        assert "longest_word" in found(up)

    assert searcher.wrong == []
    assert searcher.models == [small.model_version, large, small.model_version]
    assert tables(db) == {(small.model_version, "halfvec(384)"), (large, "halfvec(2560)")}
    # The frozen member's: made once, by whichever of the processes loaded it first.
    assert len(list(settings.onnx_path.glob("*/export.json"))) == 1


def found(up: Services) -> list[str]:
    return [result["symbol"] for result in up.searched("the longest of the words in a text")["results"]]
