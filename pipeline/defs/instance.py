"""The Dagster instance in <HONELOOP_HOME>/dagster: the same for the command line, the web page and the
daemon.

What does not belong here: what is stored in it and where the server is (storage.py).
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.defs.pools import EMBEDDING, TRAINING
from pipeline.defs.storage import dagster_url
from pipeline.store.home import usable_home

CONFIGURATION = "dagster.yaml"
# Of a process's own connections to Dagster's database: one is kept for each of its three stores, and so many
# more are made when threads ask at once.
MORE = 20
RECYCLED_SECONDS = 3600
NO_TIMEOUT = 0


def dagster_home(settings: Settings) -> Path:
    """<HONELOOP_HOME>/dagster, made if need be, with the project's dagster.yaml in it."""
    home = usable_home(settings) / "dagster"
    home.mkdir(exist_ok=True)
    unfinished = home / f".{CONFIGURATION}.{os.getpid()}"
    shutil.copyfile(PROJECT_ROOT / CONFIGURATION, unfinished)
    os.replace(unfinished, home / CONFIGURATION)
    return home


def make_pools(settings: Settings) -> None:
    """Makes the pools known before the first run; a limit that somebody set stays.

    Dagster would learn of a pool by the first runs that use it, and launch all of those at once.

    Raises:
        HoneloopError: as `open_instance`.
    """
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        known = {limit.name for limit in storage.get_pool_limits()}
        for pool in (TRAINING, EMBEDDING):
            if pool not in known:
                storage.initialize_concurrency_limit_to_default(pool)


@contextmanager
def open_instance(settings: Settings) -> Generator[dg.DagsterInstance]:
    """The instance for work in this process, its storage made if need be.

    Standard output and error are left alone: Dagster's default would send them through files, and they
    belong to the command line.

    Raises:
        HoneloopError: the database server cannot be started or reached.
    """
    reference = InstanceRef.from_dir(
        str(dagster_home(settings)),
        overrides={
            "storage": {
                "custom": {
                    "module": "pipeline.defs.storage",
                    "class": "HoneloopStorage",
                    "config": {"postgres_url": dagster_url(settings)},
                }
            },
            "compute_logs": {
                "module": "dagster._core.storage.noop_compute_log_manager",
                "class": "NoOpComputeLogManager",
                "config": {},
            },
        },
    )
    with dg.DagsterInstance.from_ref(reference) as instance:
        # By default each of some two hundred statements of a run makes a connection, and with it a process of
        # the server's.
        instance.optimize_for_webserver(NO_TIMEOUT, pool_recycle=RECYCLED_SECONDS, max_overflow=MORE)
        yield instance
