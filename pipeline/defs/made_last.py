"""What assets were last made with, into a backup and out of one.

Runs are history and stay behind: what they did is in the database. But the next step reads what the one
before it made from its last materialization (upstream.py), and how much feedback was learned from stands
there too; so these are kept, and reported again after a restore, without the run. Vectors and the index are
not among them: after a restore there are none.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from pipeline.config import Settings
from pipeline.defs.instance import open_instance
from pipeline.store.connections import Database
from pipeline.store.server import dagster_database

ASSETS = (
    "search_feedback",
    "training_set",
    "fine_tuned_model",
    "model_checkpoint",
    "model_evaluation",
    "promoted_model",
)
# Which state of its inputs it was made from; the events meant by other tags are not there any more.
TAGS = ("dagster/data_version", "dagster/code_version", "dagster/input_data_version")
# Figures and names; not tables and pictures for people, which may hold what somebody asked.
PLAIN = (
    dg.TextMetadataValue,
    dg.IntMetadataValue,
    dg.FloatMetadataValue,
    dg.BoolMetadataValue,
)


def made_last(settings: Settings, db: Database) -> list[dict[str, Any]]:
    """What each asset was last made with, as JSON-able values; nothing if Dagster never ran here."""
    with db.connect() as connection:
        name = dagster_database(settings)
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            return []
    with open_instance(settings) as instance:
        found = (_last(instance, asset) for asset in ASSETS)
        return [_plain(made) for made in found if made is not None]


def report_made_last(settings: Settings, made: Iterable[Mapping[str, Any]], said: str) -> int:
    """Reports what `made_last` gave; returns how many assets that were.

    Args:
        settings: Say where Dagster is.
        made: What `made_last` gave.
        said: Where it is from, for people.
    """
    count = 0
    with open_instance(settings) as instance:
        for each in made:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    asset_key=each["asset"],
                    metadata={**each["metadata"], "restored": said},
                    tags=each["tags"],
                )
            )
            count += 1
    return count


def _last(instance: dg.DagsterInstance, asset: str) -> dg.AssetMaterialization | None:
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return records[0].asset_materialization if records else None


def _plain(made: dg.AssetMaterialization) -> dict[str, Any]:
    return {
        "asset": made.asset_key.to_user_string(),
        "metadata": {name: each.value for name, each in made.metadata.items() if isinstance(each, PLAIN)},
        "tags": {name: tag for name, tag in (made.tags or {}).items() if name.startswith(TAGS)},
    }
