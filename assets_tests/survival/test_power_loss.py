"""A machine that loses its power: what is on a disk at one moment, with all that was only in memory gone.

The disk is a file that holds an ext4, mounted; what was written but not forced to it is in the system's
memory and not in that file, so that a copy of the file is what a machine without power would start from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from assets_tests.search.test_spool import NOWHERE, a_record
from assets_tests.survival.homes import temporary_directory, wait_until
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search import spool as spool_module
from pipeline.search.spool import SearchSpool, open_queue, queue_path
from pipeline.training.checkpoints import verify_checkpoint, write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root may mount a disk"
)
MEGABYTE = 1 << 20


@contextmanager
def mounted(image: Path, place: Path) -> Generator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    # It writes nothing by itself in the time that a test takes: only what was asked for reaches the disk.
    done = subprocess.run(
        ["mount", "-o", "loop,commit=600", str(image), str(place)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def disk(path: Path, size: int) -> Generator[tuple[Path, Path]]:
    """An image of so many bytes, and where it is mounted."""
    image = path / "disk.img"
    with image.open("wb") as file:
        file.truncate(size)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be made here")
    with mounted(image, path / "mounted") as place:
        yield image, place


@contextmanager
def after_the_loss(image: Path) -> Generator[Path]:
    """The disk as it was at this moment, mounted by a machine that starts again."""
    copy = image.with_suffix(".copy")
    shutil.copyfile(image, copy)
    with mounted(copy, image.parent / "again") as place:
        yield place


def kept(queue: Path) -> set[str]:
    with closing(open_queue(queue)) as file:
        return {search for (search,) in file.execute("SELECT search_id FROM records").fetchall()}


def test_the_queue_of_searches_is_on_the_disk_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away, and the next attempt to reach it, which has it forced there, takes a minute."""
    monkeypatch.setattr(spool_module, "FIRST_WAIT_SECONDS", 60.0)
    with temporary_directory() as path, disk(path, 32 * MEGABYTE) as (image, place):
        settings = Settings(home=place / "home")
        within = queue_path(settings).relative_to(place)
        with SearchSpool(settings, NOWHERE) as spool:
            assert spool.record(a_record("the first"))
            assert wait_until(lambda: spool._away)
            time.sleep(1)
            records = [a_record(f"query {number}") for number in range(50)]
            for record in records:
                assert spool.record(record)
            answered = {record.search_id for record in records}
            time.sleep(2)
            with after_the_loss(image) as found:
                assert kept(found / within) > answered
            # What came in within the last moments may be lost; the queue is whole all the same.
            assert spool.record(a_record("the last"))
            with after_the_loss(image) as found:
                assert kept(found / within) >= answered
            assert wait_until(lambda: spool.depth == 52)


def test_a_checkpoint_that_was_written_is_whole(
    minilm: Encoder, untrained: FineTuned, few_pairs: TrainingSet
) -> None:
    with temporary_directory() as path, disk(path, 256 * MEGABYTE) as (image, place):
        written = write_checkpoint(untrained, minilm, few_pairs, place / "checkpoints")
        with after_the_loss(image) as found:
            left = found / written.path.relative_to(place)
            assert left.is_dir()
            assert verify_checkpoint(left) == []
