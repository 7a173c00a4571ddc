"""What a backup says of itself.

The file is a ZIP of text and safetensors; `unzip` opens it. Its last member is the manifest, which has what
every other member must hash to, and its comment has the manifest's own SHA-256: what was cut off, damaged
or edited is recognised before anything of it is used. That is no signature: whoever can write the file can
write another.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

FORMAT = 1
MANIFEST = "manifest.json"
OPENING = "honeloop-backup.txt"
QUEUE = "queue.jsonl"
MADE_LAST = "made_last.json"
SEAL = b"honeloop-backup sha256:"
CHUNK = 1 << 20

ABOUT = b"""A backup of Honeloop: everything that cannot be made again. `honeloop restore FILE` reads it.

tables/<name>.copy      rows, as COPY of Postgres writes them (text); their columns are in manifest.json
checkpoints/<version>/  fine-tuned models: safetensors and JSON
queue.jsonl             searches that were answered and not yet in the database
made_last.json          what Dagster had made last, by asset
manifest.json           versions, numbers of rows, and the SHA-256 of every file
"""


class Member(BaseModel):
    """What a member must be: its length in bytes and its SHA-256 in hexadecimal digits."""

    length: int
    sha256: str


class Table(BaseModel):
    """A table's columns, in the order of its member, and its number of rows."""

    columns: list[str]
    rows: int


class Model(BaseModel):
    """A model version whose checkpoint is in the file."""

    version: str
    name: str
    state: str


class Manifest(BaseModel):
    """What a backup holds and where it is from.

    Attributes:
        format: Of the file.
        honeloop: The version that wrote it.
        created_at: When the database was read: the moment that the backup is of.
        home: Of which home.
        checkpoints: Where that home's checkpoints lay.
        postgres: The server's version.
        pgvector: Its extension's version.
        migrations: Those in force, by their ids: the schema that the rows are of.
        tables: By name.
        sequences: The last number given, by table and column (`feedback.id`).
        queued: How many searches stand in `queue.jsonl`.
        models: Whose checkpoints are in it.
        left_out: What should be in it and is not, a sentence each.
        members: Every other file in it, by name.
    """

    format: int
    honeloop: str
    created_at: datetime
    home: str
    checkpoints: str
    postgres: str
    pgvector: str
    migrations: list[str]
    tables: dict[str, Table]
    sequences: dict[str, int]
    queued: int
    models: list[Model]
    left_out: list[str]
    members: dict[str, Member] = {}


def table_member(table: str) -> str:
    """The name of the member with a table's rows."""
    return f"tables/{table}.copy"


def checkpoint_prefix(version: str) -> str:
    """What the names of the files of a checkpoint begin with."""
    return f"checkpoints/{version}/"
