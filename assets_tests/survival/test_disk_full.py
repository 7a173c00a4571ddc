"""A disk that fills up while a checkpoint is written or vectors are loaded: a small one, mounted for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import torch
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from safetensors import SafetensorError

from assets_tests.index.click_corpus import add_functions, register, serve, store_vectors
from assets_tests.survival.conftest import Code
from assets_tests.survival.homes import Home, temporary_directory
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import DatabaseAwayError, HoneloopError
from pipeline.index.building import build_index
from pipeline.index.embeddings import ensure_embedding_table
from pipeline.index.serving import index_counts, serving_index
from pipeline.index.tables import copy_vectors
from pipeline.progress import Silent
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.store.server import database_url
from pipeline.training.checkpoints import find_checkpoint, verify_checkpoint, write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.handover import hand_over, handed_over
from pipeline.training.leftovers import unfinished
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_state import Part, StateStore

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root may mount a small disk"
)
MEGABYTE = 1 << 20


@contextmanager
def small_disk(path: Path, size: int) -> Generator[Path]:
    """A file system of so many bytes, in memory."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "honeloop-test", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def leave_free(disk: Path, size: int) -> Path:
    """Fills the disk up to so many bytes with a file, which is given."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - size)
    return filler


@pytest.mark.parametrize("share", [0.1, 1.001], ids=["before", "while writing"])
def test_while_a_checkpoint_is_written(
    tmp_path: Path, minilm: Encoder, untrained: FineTuned, few_pairs: TrainingSet, share: float
) -> None:
    """There is room for a share of the weights: too little to begin, or for them and nothing else."""
    settings = Settings(home=tmp_path, device="cpu")
    weights = sum(each.numel() * each.element_size() for each in untrained.model.state_dict().values())
    directory = settings.checkpoints_path
    with small_disk(directory, 120 * MEGABYTE):
        filler = leave_free(directory, int(share * weights))
        with pytest.raises(HoneloopError) as failure:
            write_checkpoint(untrained, minilm, few_pairs, directory)
        assert failure.value.message.startswith(f"The disk of {directory} is full.")
        assert "Make room" in failure.value.hint
        assert sorted(path.name for path in directory.iterdir()) == [".lock", "filler"]
        filler.unlink()
        checkpoint = write_checkpoint(untrained, minilm, few_pairs, directory)
        assert verify_checkpoint(checkpoint.path) == []
        found = find_checkpoint(settings, untrained.recipe_key)
        assert found is not None
        assert found.version == checkpoint.version


def test_while_a_trained_model_is_handed_over(tmp_path: Path, untrained: FineTuned) -> None:
    directory = tmp_path / "training" / untrained.recipe_key
    with small_disk(directory.parent, 100 * MEGABYTE) as disk:
        filler = leave_free(disk, 20 * MEGABYTE)
        with pytest.raises(HoneloopError, match=f"The disk of {disk} is full") as failure:
            hand_over(untrained, directory)
        assert "The fine-tuned model was not written" in failure.value.hint
        assert unfinished(disk) == []
        assert not handed_over(directory)
        filler.unlink()
        hand_over(untrained, directory)
        assert handed_over(directory)


def test_while_the_state_of_a_training_is_saved(tmp_path: Path) -> None:
    """There is room for half of it: it stays free, until there is enough."""

    def save(step: int) -> None:
        tensors = {"weight": torch.full((MEGABYTE // 4,), float(step))}
        store.save({"step": step}, {name: Part(f"{name}-{step}", tensors) for name in ("weights", "moments")})

    with small_disk(tmp_path / "disk", 10 * MEGABYTE) as disk:
        directory = disk / "training.work"
        store = StateStore(directory, "a" * 64)
        save(1)
        before = sorted(path.name for path in directory.iterdir())
        filler = leave_free(disk, MEGABYTE * 3 // 2)
        for step in (2, 3, 4):
            with pytest.raises((OSError, SafetensorError), match="No space left"):
                save(step)
            assert sorted(path.name for path in directory.iterdir()) == before
        found = StateStore(directory, "a" * 64).load()
        assert found is not None
        assert found.account == {"step": 1}
        filler.unlink()
        save(5)
        found = StateStore(directory, "a" * 64).load()
        assert found is not None
        assert found.account == {"step": 5}


@pytest.fixture
def tablespace(db: Database, server_settings: Settings) -> Iterator[Path]:
    """A small disk, and the test's database on it."""
    name = conninfo_to_dict(db.url)["dbname"]
    admin = database_url(server_settings, "template1")
    with temporary_directory() as path, small_disk(path / "disk", 40 * MEGABYTE) as disk:
        place = disk / "place"
        place.mkdir()
        owner = Path(server_settings.home_path / "postgres").stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        statements = sql.SQL("CREATE TABLESPACE small_disk LOCATION {}").format(sql.Literal(str(place)))
        move = sql.SQL("ALTER DATABASE {} SET TABLESPACE {}")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(statements)
            connection.execute(move.format(sql.Identifier(str(name)), sql.Identifier("small_disk")))
        try:
            yield disk
        finally:
            (disk / "filler").unlink(missing_ok=True)
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(move.format(sql.Identifier(str(name)), sql.Identifier("pg_default")))
                connection.execute("DROP TABLESPACE small_disk")


@contextmanager
def or_nobody_is_let_in() -> Generator[None]:
    """Autovacuum may make the server write a file for the next who comes; where it cannot, it says why."""
    said: list[str] = []
    try:
        yield
    except DatabaseAwayError as error:
        said = [error.message, error.hint]
    assert not said or ("The disk that holds the database is full" in said[0] and "Make room" in said[1])


def test_while_vectors_are_loaded_and_an_index_is_built(
    db: Database, settings: Settings, minilm: Encoder, code: Code, tablespace: Path
) -> None:
    functions, vectors = code
    add_functions(db, functions)
    store_vectors(db, minilm, functions[:200], vectors[:200])
    register(db, minilm)
    with db.connect() as connection:
        table = ensure_embedding_table(connection, minilm)
        connection.execute("UPDATE snippets SET vanished_at = now() WHERE id > 200")
    serve(db, minilm, settings)
    before = search(db, minilm, "open a file", record=False)
    anew = settings.model_copy(update={"hnsw_m": 8})
    filler = leave_free(tablespace, 64 * 1024)

    hashes = [function.content_hash for function in functions[200:]]
    with (
        pytest.raises(HoneloopError, match=r"disk that holds the database is full: .*No space left") as full,
        db.connect() as connection,
    ):
        copy_vectors(connection, table, minilm.version, hashes, vectors[200:])
    assert "Make room" in full.value.hint
    with pytest.raises(HoneloopError, match="disk that holds the database is full"):
        build_index(db, minilm.version, anew, Silent())
    # What serves answers as it did, from the full disk.
    with or_nobody_is_let_in():
        after = search(db, minilm, "open a file", record=False)
        assert [each.snippet_id for each in after.results] == [each.snippet_id for each in before.results]
        assert {count.state for count in index_counts(db)} <= {"serving", "failed", "building"}

    filler.unlink()
    after = search(db, minilm, "open a file", record=False)
    assert [each.snippet_id for each in after.results] == [each.snippet_id for each in before.results]
    with db.connect() as connection:
        assert copy_vectors(connection, table, minilm.version, hashes, vectors[200:]) == len(hashes)
    report = build_index(db, minilm.version, anew, Silent())
    assert report.rows == 200
    assert sorted(count.state for count in index_counts(db)) == ["failed", "ready", "serving"]
    assert serving_index(db).index_version_id == after.index_version_id


@pytest.mark.slow
def test_a_database_whose_whole_disk_is_full(minilm: Encoder, code: Code) -> None:
    """Its log of changes cannot grow either, so that it stops; with room again, it recovers."""
    with temporary_directory() as path, small_disk(path / "home", 200 * MEGABYTE) as disk:
        functions, vectors = code
        home = Home(disk)
        db = home.database()
        add_functions(db, functions[:60])
        store_vectors(db, minilm, functions[:60], vectors[:60])
        serve(db, minilm, home.settings)
        before = search(db, minilm, "open a file", record=False)
        filler = leave_free(disk, 0)
        with pytest.raises(HoneloopError) as failure:
            while True:
                with db.connect() as connection:
                    connection.execute("CREATE TABLE much AS SELECT * FROM generate_series(1, 99999)")
                    connection.execute("DROP TABLE much")
        assert "full" in failure.value.message or "went away" in failure.value.message
        filler.unlink()
        after = search(home.database(), minilm, "open a file", record=False)
        assert [each.snippet_id for each in after.results] == [each.snippet_id for each in before.results]
        anew = home.settings.model_copy(update={"hnsw_m": 8})
        assert build_index(home.database(), minilm.version, anew, Silent()).rows == 60
        home.leave()
