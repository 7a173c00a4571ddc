"""What `honeloop status` tells: gathered from the database and from Dagster's storage."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.commands.common import output, shown_url
from pipeline.commands.settings import PREFIX, shown_values
from pipeline.corpus.repositories import list_repositories
from pipeline.errors import HoneloopError
from pipeline.feedback.pairs import stats
from pipeline.index.serving import index_counts, serving_index
from pipeline.promotion.registry import list_models
from pipeline.store.server import dagster_database
from pipeline.workbench import Workbench

RUNS_SHOWN = 5


def collect_status(bench: Workbench) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "home": str(bench.settings.home_path),
        "database": _database(bench),
        "sources": [
            {
                "name": repository.name,
                "kind": repository.kind,
                "location": repository.location,
                "ref": repository.ref,
                "commit": repository.commit_id,
                "extracted_at": repository.extracted_at,
                "snippets": repository.report.get("snippets_live", 0),
                "problems": repository.report.get("problems", []),
            }
            for repository in list_repositories(bench.db)
        ],
        "snippets": _snippets(bench),
        "feedback": asdict(stats(bench.db)),
        "serving": _serving(bench),
        "indexes": [asdict(index) for index in index_counts(bench.db)],
        "runs": _runs(bench),
        "settings": {PREFIX + name.upper(): value for name, value in shown_values(bench.settings).items()},
    }


def print_status(found: dict[str, Any]) -> None:
    """The same for people."""
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    database = found["database"]
    table.add_row(
        "database",
        f"{'embedded' if database['embedded'] else 'your own'}: Postgres {database['postgres']}, pgvector "
        f"{database['pgvector']}, {database['size_bytes'] / 1e6:,.0f} MB\n{database['url']}",
    )
    table.add_row(
        "sources",
        "\n".join(
            f"{source['name']} ({source['kind']} {source['location']}): {source['snippets']:,} snippets"
            for source in found["sources"]
        )
        or "none: `honeloop source add NAME LOCATION`, or `honeloop run` for the default ones",
    )
    snippets = found["snippets"]
    languages = ", ".join(f"{name} {count:,}" for name, count in snippets["by_language"].items())
    table.add_row("snippets", f"{snippets['live']:,} in {snippets['contents']:,} distinct texts  {languages}")
    feedback = found["feedback"]
    kinds = ", ".join(f"{name} {count:,}" for name, count in feedback["feedback"].items())
    table.add_row(
        "feedback",
        f"{feedback['total']:,} judgements, {feedback['searches']:,} searches answered here  {kinds}",
    )
    serving = found["serving"]
    table.add_row(
        "serving",
        "nothing yet: `honeloop run`"
        if serving is None
        else f"{serving['name']} {serving['model_version'][:12]}, {serving['dims']:,} dims, index version "
        f"{serving['index_version']}: {serving['rows']:,} texts, recall@10 {serving['recall_at_10']:.3f}, "
        f"words count {serving['lexical_weight']:g} in the ranking, crowds {serving['crowding_weight']:g}",
    )
    table.add_row(
        "last runs",
        "\n".join(
            f"{run['started']:%Y-%m-%d %H:%M:%S}  {run['status'].lower():9}  {run['what']}"
            if run["started"]
            else f"{'':19}  {run['status'].lower():9}  {run['what']}"
            for run in found["runs"]
        )
        or "none yet",
    )
    output().print(table, markup=False)  # a path may have brackets


def _database(bench: Workbench) -> dict[str, Any]:
    with bench.db.connect() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_database_size(current_database()),"
            " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
        ).fetchone()
    assert row is not None  # no FROM: always one row
    return {
        "embedded": bench.settings.database_url is None,
        "url": shown_url(bench.db.url),
        "postgres": row[0],
        "size_bytes": row[1],
        "pgvector": row[2],
    }


def _snippets(bench: Workbench) -> dict[str, Any]:
    with bench.db.connect() as connection:
        by_language: dict[str, int] = dict(
            connection.execute(
                "SELECT language, count(*) FROM snippets WHERE vanished_at IS NULL GROUP BY language"
                " ORDER BY count(*) DESC, language"
            ).fetchall()
        )
        row = connection.execute(
            "SELECT count(DISTINCT content_hash), count(DISTINCT content_hash) FILTER (WHERE c.documentation"
            " IS NOT NULL) FROM snippets s JOIN contents c USING (content_hash) WHERE vanished_at IS NULL"
        ).fetchone()
    assert row is not None  # an aggregate always returns one row
    return {
        "live": sum(by_language.values()),
        "contents": row[0],
        "documented": row[1],
        "by_language": by_language,
    }


def _serving(bench: Workbench) -> dict[str, Any] | None:
    try:
        serving = serving_index(bench.db)
    except HoneloopError:  # nothing serves yet
        return None
    (name,) = [model.name for model in list_models(bench.db) if model.version == serving.model_version]
    return {
        "name": name,
        "model_version": serving.model_version,
        "dims": serving.dims,
        "index_version": serving.index_version_id,
        "rows": serving.rows,
        "recall_at_10": serving.recall_at_10,
        "lexical_weight": serving.lexical_weight,
        "crowding_weight": serving.crowding_weight,
    }


def _runs(bench: Workbench) -> list[dict[str, Any]]:
    """The newest Dagster runs; none if Dagster has no database yet, which is not made for this."""
    name = dagster_database(bench.settings)
    with bench.db.connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            return []
    from datetime import UTC, datetime

    from pipeline.defs.instance import open_instance

    with open_instance(bench.settings) as instance:
        records = instance.get_run_records(limit=RUNS_SHOWN)
    return [
        {
            "id": record.dagster_run.run_id,
            "status": record.dagster_run.status.value,
            "what": _what(record.dagster_run),
            "started": datetime.fromtimestamp(record.start_time, UTC) if record.start_time else None,
            "ended": datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None,
        }
        for record in records
    ]


def _what(run: Any) -> str:
    assets = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ())) or run.job_name
    partition = run.tags.get("dagster/partition")
    return f"{assets} ({partition})" if partition else assets
