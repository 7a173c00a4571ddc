"""Splits files as cocoindex's example for code does, once for each line of input, and says how long it took.

The first line is a list of files. Each further one asks for a round; the answer has its seconds and chunks.
"""

import json
import os
import sys
import time
from pathlib import Path

# What a library prints is no answer.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from cocoindex.ops.text import RecursiveSplitter, detect_code_language  # noqa: E402

SIZES = {"chunk_size": 1000, "min_chunk_size": 300, "chunk_overlap": 300}


def main() -> None:
    paths = json.loads(sys.stdin.readline())
    files = [
        (Path(path).read_text("utf-8", errors="replace"), detect_code_language(filename=Path(path).name))
        for path in paths
    ]
    splitter = RecursiveSplitter()
    print(json.dumps(len(files)), file=ANSWERS, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        chunks = sum(len(splitter.split(text, language=language, **SIZES)) for text, language in files)
        print(json.dumps([time.perf_counter() - started, chunks]), file=ANSWERS, flush=True)


main()
