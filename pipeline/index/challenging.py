"""The challenger: the model version whose index stands beside the one that serves, for interleaving.

Its index serves nobody by itself, holds that model's vectors only, as every index version does, and is kept
while it is the challenger. What does not belong here: building it (search/challenger.py).
"""

from __future__ import annotations

from pipeline.errors import BadInputError
from pipeline.index.serving import ServingIndex, verified_index
from pipeline.store.connections import Connection


def challenger_version(connection: Connection) -> str | None:
    """The model version chosen, unless it serves; None: there is none."""
    row = connection.execute(
        "SELECT c.model_version FROM challengers c JOIN model_versions m ON m.version = c.model_version"
        " WHERE c.until IS NULL AND m.state <> 'serving'"
    ).fetchone()
    return None if row is None else row[0]


def challenging_index(connection: Connection) -> ServingIndex | None:
    """The challenger's index version; None if it has none that was verified, or there is no challenger."""
    version = challenger_version(connection)
    return None if version is None else verified_index(connection, version)


def choose_challenger(connection: Connection, model_version: str) -> bool:
    """From now on it is this model version, and no other; whether that is new.

    Raises:
        BadInputError: it serves: there would be nothing to compare.
    """
    # The lock lets one choose at a time, and the state cannot change before this is committed.
    connection.execute("LOCK TABLE challengers IN SHARE ROW EXCLUSIVE MODE")
    row = connection.execute(
        "SELECT state FROM model_versions WHERE version = %s FOR SHARE", [model_version]
    ).fetchone()
    if row is not None and row[0] == "serving":
        raise BadInputError(
            f"{model_version[:12]} serves: there is nothing to compare it with.",
            hint="Name another version; `honeloop models` lists them.",
        )
    known = connection.execute("SELECT model_version FROM challengers WHERE until IS NULL").fetchone()
    if known == (model_version,):
        return False
    dismiss_challenger(connection)
    connection.execute("INSERT INTO challengers (model_version) VALUES (%s)", [model_version])
    return True


def dismiss_challenger(connection: Connection, model_version: str | None = None) -> str | None:
    """Ends the comparison, of this model version only if one is named; the version it was, None if none."""
    row = connection.execute(
        "UPDATE challengers SET until = now() WHERE until IS NULL"
        " AND (%(version)s::text IS NULL OR model_version = %(version)s) RETURNING model_version",
        {"version": model_version},
    ).fetchone()
    return None if row is None else row[0]
