"""Whether the service can answer searches now."""

from __future__ import annotations

import logging

import psycopg

from pipeline.errors import HoneloopError, UnavailableError
from pipeline.search.api.schemas import HealthOut
from pipeline.search.api.service import Service
from pipeline.search.api.threads import Threads

DATABASE_SECONDS = 3.0
MODEL_SECONDS = 2.0

_log = logging.getLogger(__name__)


async def health(service: Service, threads: Threads) -> HealthOut:
    """Asks the database, and then the engine whether its model is there. Takes a few seconds at the most.

    The reasons name no addresses: anybody may ask. The log has them.
    """
    depth = None
    try:
        depth = await threads.watch(service.queue_depth, DATABASE_SECONDS)
        await threads.watch(service.database_index, DATABASE_SECONDS)
    except (TimeoutError, HoneloopError, psycopg.Error) as error:
        if isinstance(error, UnavailableError) and error.__cause__ is None:
            return HealthOut(status="unavailable", reason=error.message, database="ok", queue_depth=depth)
        _log.warning("Not healthy: the database: %s", type(error).__name__)
        reason = "The database does not answer."
        return HealthOut(status="unavailable", reason=reason, database="away", queue_depth=depth)
    try:
        serving = await threads.watch(lambda: service.engine.serving(0), MODEL_SECONDS)
    except TimeoutError:
        reason = "The model is not loaded yet, or every connection is busy."
    except (HoneloopError, psycopg.Error) as error:
        _log.warning("Not healthy: %s", error)
        reason = "The model that serves cannot be used; the log says why."
    else:
        behind = service.engine.behind
        return HealthOut(
            status="ok",
            reason=None
            if behind is None
            else f"Index version {behind} is not answered from: its model cannot be used; the log says why.",
            database="ok",
            model_version=serving.index.model_version,
            index_version_id=serving.index.index_version_id,
            queue_depth=depth,
        )
    return HealthOut(status="unavailable", reason=reason, database="ok", queue_depth=depth)
