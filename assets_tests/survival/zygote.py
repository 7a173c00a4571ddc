"""A process that has imported everything, computes nothing, and forks the real command line on demand.

Importing torch and Dagster takes longer than most of what is tested with them. What is forked is the command
as `honeloop` runs it: its own process group, its own environment, and nothing done yet but imports.

Run as a module: reads a JSON object per line (arguments, environment, and files for its output) and prints
the child's process id, and later a line with that and its exit code.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
from typing import Any


def main() -> None:
    import sentence_transformers  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from sentence_transformers import SentenceTransformerTrainer  # noqa: F401  # pyright: ignore

    import pipeline.cli
    import pipeline.defs.in_process
    import pipeline.evaluation.run_report
    import pipeline.search.api.app
    import pipeline.training.fine_tuning

    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    children: set[int] = set()
    while True:
        if selector.select(timeout=0.02):
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                selector.close()
                become(order)
                pipeline.cli.main()
                return
            children.add(pid)
            print(pid, flush=True)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.discard(pid)
                print(pid, os.waitstatus_to_exitcode(status), flush=True)


def become(order: dict[str, Any]) -> None:
    """Makes this process what was ordered."""
    os.setsid()
    for number, (path, mode) in enumerate(
        ((os.devnull, os.O_RDONLY), (order["out"], os.O_WRONLY), (order["errors"], os.O_WRONLY))
    ):
        descriptor = os.open(path, mode | (os.O_CREAT if number else 0), 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["honeloop", *order["arguments"]]


if __name__ == "__main__":
    main()
