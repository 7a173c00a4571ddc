"""Where Dagster keeps its runs and events: the database `dagster` on the server that Honeloop uses.

What does not belong here: Honeloop's own tables (store/, and the rooms).

A class of our own, so that `dagster dev -w workspace.yaml` finds the server without any set-up: a URL in
`dagster.yaml` would have to be in the environment first, and the embedded server be running.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import psycopg
from dagster import StringSource
from dagster._config import Field, UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresRunStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from pipeline.config import Settings, load_settings
from pipeline.errors import HoneloopError
from pipeline.store.connections import create_database
from pipeline.store.server import dagster_database, database_url, listens_here


def dagster_url(settings: Settings) -> str:
    """The URL of Dagster's database, made if it is not there, in the form that SQLAlchemy gives to psycopg2.

    Raises:
        HoneloopError: the server cannot be started or reached.
    """
    name = dagster_database(settings)
    url = database_url(settings, name)
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:  # not there yet, or the server is not
        try:
            create_database(settings, name)
        except psycopg.Error as error:
            raise HoneloopError(
                f"Dagster's database {name!r} cannot be opened or made: {str(error).strip()}.",
                hint=f"Make it on your server: CREATE DATABASE {name}.",
            ) from error
    scheme, _, rest = url.partition("://")
    # SQLAlchemy 2.1 would take a bare postgresql:// to psycopg 3, which dagster-postgres cannot use.
    return f"postgresql+psycopg2://{rest}" if scheme in ("postgresql", "postgres") else f"{scheme}://{rest}"


def is_on_this_machine(instance: dg.DagsterInstance) -> bool:
    """Whether only processes of this machine can reach an instance's storage: the embedded server has it."""
    storage = instance.run_storage
    return isinstance(storage, PostgresRunStorage) and listens_here(
        make_url(storage.postgres_url).query.get("host")
    )


@event.listens_for(QueuePool, "checkout")
def require_alive(dbapi_connection: Any, record: object, proxy: object) -> None:
    """Asks a connection that the web server has kept whether it is one; SQLAlchemy makes another if not.

    Dagster has no setting for it. Without it, the first requests after the server was started again fail.
    """
    del record, proxy
    try:
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:
        raise DisconnectionError from error


class HoneloopStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage on Honeloop's server, found through `HONELOOP_HOME` and
    `HONELOOP_DATABASE_URL`.

    Config: `postgres_url`, optional, for whoever has the settings in hand already.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """One optional field."""
        return {"postgres_url": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterPostgresStorage:
        """Opens the storage; its tables are made on first use."""
        url = config_value.get("postgres_url") or dagster_url(load_settings())
        return DagsterPostgresStorage(postgres_url=url, should_autocreate_tables=True, inst_data=inst_data)
