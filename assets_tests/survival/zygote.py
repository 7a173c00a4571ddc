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
from importlib import import_module
from typing import Any

import pipeline.cli

# What the commands import when they need it.
MODULES = (
    "torch",
    "sentence_transformers.sentence_transformer.trainer",
    "pipeline.defs.in_process",
    "pipeline.evaluation.run_report",
    "pipeline.search.api.app",
    "pipeline.training.fine_tuning",
)


def main() -> None:
    for module in MODULES:
        import_module(module)

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
