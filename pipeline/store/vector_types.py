"""pgvector's types on a connection, by classes that are made once.

`pgvector.psycopg.register_vector` makes eight classes for every connection, and psycopg remembers each class
that it was ever given: some 60 kB per connection, for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector, Vector
from pgvector.psycopg import halfvec, vector
from psycopg.adapt import Dumper, Loader
from psycopg.types import TypeInfo

# Of each type that is used here: whose values it takes, and what writes and reads them as text and in binary.
_TYPES: Mapping[str, tuple[tuple[type, ...], tuple[type[Dumper], ...], tuple[type[Loader], ...]]] = {
    "vector": (
        (Vector, np.ndarray),
        (vector.VectorDumper, vector.VectorBinaryDumper),
        (vector.VectorLoader, vector.VectorBinaryLoader),
    ),
    "halfvec": (
        (HalfVector,),
        (halfvec.HalfVectorDumper, halfvec.HalfVectorBinaryDumper),
        (halfvec.HalfVectorLoader, halfvec.HalfVectorBinaryLoader),
    ),
}


def register_vectors(connection: psycopg.Connection[Any]) -> None:
    """Lets a connection send and read `vector` and `halfvec`. Leaves no transaction open.

    Raises:
        psycopg.ProgrammingError: its database has no pgvector.
    """
    with connection.transaction():  # every database gives the types numbers of its own
        rows = connection.execute(
            "SELECT typname, oid, typarray FROM pg_type"
            " WHERE oid IN (to_regtype('vector'), to_regtype('halfvec'))"
        ).fetchall()
    if len(rows) < len(_TYPES):
        raise psycopg.ProgrammingError("the types of pgvector are not in this database")
    for name, oid, array_oid in rows:
        values, dumpers, loaders = _TYPES[name]
        TypeInfo(name, oid, array_oid).register(connection)
        for dumper in dumpers:
            for value in values:
                connection.adapters.register_dumper(value, _numbered(dumper, oid))
        for loader in loaders:
            connection.adapters.register_loader(oid, loader)


@cache
def _numbered(dumper: type[Dumper], oid: int) -> type[Dumper]:
    """The same, for the type of this number."""
    return type(dumper.__name__, (dumper,), {"oid": oid})
