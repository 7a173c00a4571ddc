"""Brings cocoindex's index of a directory up to date, as its example for code does: one run, one process.

Arguments: the database, the directory, the model's directory. The last word of its output is the most memory
that it had, in megabytes.
"""

import asyncio
import pathlib
import resource
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import asyncpg
import cocoindex as coco
from cocoindex.connectors import localfs, postgres
from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder
from cocoindex.ops.text import RecursiveSplitter, detect_code_language
from cocoindex.resources.file import PatternFilePathMatcher
from cocoindex.resources.id import IdGenerator
from numpy.typing import NDArray

DATABASE, DIRECTORY, MODEL = sys.argv[1:]
SIZES = {"chunk_size": 1000, "min_chunk_size": 300, "chunk_overlap": 300}
POOL = coco.ContextKey[asyncpg.Pool]("pool")

embedder = SentenceTransformerEmbedder(MODEL, device="cpu")
splitter = RecursiveSplitter()


@dataclass
class CodeEmbedding:
    id: int
    filename: str
    code: str
    embedding: Annotated[NDArray, embedder]
    start_line: int
    end_line: int


@coco.lifespan
async def resources(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    async with asyncpg.create_pool(DATABASE) as pool:
        builder.provide(POOL, pool)
        yield


@coco.fn(memo=True)
async def process_file(file: localfs.File, table: postgres.TableTarget[CodeEmbedding]) -> None:
    path = file.file_path.path
    text = await file.read_text()
    chunks = splitter.split(text, language=detect_code_language(filename=path.name), **SIZES)
    ids = IdGenerator()

    async def process_chunk(chunk: object) -> None:
        table.declare_row(
            row=CodeEmbedding(
                id=await ids.next_id(chunk.text),
                filename=str(path),
                code=chunk.text,
                embedding=await embedder.embed(chunk.text),
                start_line=chunk.start.line,
                end_line=chunk.end.line,
            )
        )

    await coco.map(process_chunk, chunks)


@coco.fn
async def index(directory: pathlib.Path) -> None:
    table = await postgres.mount_table_target(
        POOL, "code_embeddings", await postgres.TableSchema.from_class(CodeEmbedding, primary_key=["id"])
    )
    table.declare_vector_index(column="embedding")
    matcher = PatternFilePathMatcher(included_patterns=["**/*.py"])
    files = localfs.walk_dir(directory, recursive=True, path_matcher=matcher)
    await coco.mount_each(process_file, files.items(), table)


async def main() -> None:
    await coco.App(coco.AppConfig(name="Benchmark"), index, directory=pathlib.Path(DIRECTORY)).update()
    await coco.stop()


asyncio.run(main())
if sys.platform == "linux":  # getrusage's peak would be that of whoever started this, if it had more
    status = pathlib.Path("/proc/self/status").read_text()
    print(
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6
    )
else:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(most / 1e6 if sys.platform == "darwin" else most / 1e3)
