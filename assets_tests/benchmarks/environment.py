"""A user's settings kept out of the benchmarks: those measure the defaults, in databases of their own.

Each `HONELOOP_…` variable is a setting wherever `Settings` is made, in this process and in those that it
starts: a benchmark would fill the user's database, or compare another encoder than it says. So what imports
this package, and all that runs a benchmark does, takes them out of its environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

PREFIX = "HONELOOP_"
PEER_PYTHON = "HONELOOP_COCOINDEX_PYTHON"  # the interpreter that the peer is installed for
ROOTS = "HONELOOP_BENCH_ROOTS"  # directories with code, separated as those of PATH are
# What users are told to set for benchmarks; the last for `quantised_search`, which writes it down.
OWN = (PEER_PYTHON, ROOTS, "HONELOOP_INDEX_BUILD_WORKERS")
# Names what a benchmark gave to a process that it started, which imports this package, too.
GIVEN = "HONELOOP_BENCH_GIVEN"


def leave_out_settings() -> None:
    """Takes the settings out of the environment, and says on stderr which they were, if there were any."""
    kept = {*OWN, GIVEN, *os.environ.get(GIVEN, "").split()}
    ignored = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in kept)
    for name in ignored:
        del os.environ[name]
    if ignored:
        print(f"Ignored, as benchmarks measure what is set by default: {', '.join(ignored)}", file=sys.stderr)


@contextmanager
def given(**settings: str) -> Generator[None]:
    """Gives settings, by their names in small letters, to the processes that are started meanwhile."""
    variables = {PREFIX + name.upper(): value for name, value in settings.items()}
    os.environ.update(variables, **{GIVEN: " ".join(variables)})
    try:
        yield
    finally:
        for name in (GIVEN, *variables):
            del os.environ[name]
