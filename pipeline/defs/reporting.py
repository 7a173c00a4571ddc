"""Between the rooms and Dagster's event log: progress and errors go in, figures and pictures come out.

What does not belong here: what the figures are; each asset says that.
"""

import base64
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from pipeline.defs.progress_lines import ended_line, so_far_line, started_line
from pipeline.errors import DatabaseAwayError, HoneloopError
from pipeline.progress import Advance, Progress
from pipeline.store.failures import explained

# How often a long stage says in the log how far it is, in seconds.
SAY_EVERY = 30.0


class LogProgress:
    """Progress that goes to Dagster's log, and on to another one (the terminal, in process)."""

    def __init__(self, log: dg.DagsterLogManager, onward: Progress, say_every: float = SAY_EVERY) -> None:
        self._log = log
        self._onward = onward
        self._say_every = say_every

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        """Logs the stage's start and end, and between them every now and then how far it is."""
        started = said = time.monotonic()
        done = 0
        self._log.info(started_line(description, total))
        with self._onward.stage(description, total) as forward:

            def advance(count: int) -> None:
                nonlocal done, said
                done += count
                forward(count)
                if time.monotonic() - said >= self._say_every:
                    said = time.monotonic()
                    self._log.info(so_far_line(description, done, total))

            yield advance
        self._log.info(ended_line(description, time.monotonic() - started))

    def note(self, message: str) -> None:
        """One line in the log, and onward."""
        self._log.info(message)
        self._onward.note(message)


@contextmanager
def reported(
    log: dg.DagsterLogManager, onward: Progress, say_every: float = SAY_EVERY
) -> Generator[LogProgress]:
    """Progress for the block; an error that a person can mend becomes a failure that says so."""
    try:
        yield LogProgress(log, onward, say_every)
    except Exception as error:
        known = error if isinstance(error, HoneloopError) else explained(error)
        if known is None:
            raise
        # What else is unavailable, such as room on a cluster, has been waited for already.
        away = isinstance(known, DatabaseAwayError)
        raise dg.Failure(
            description=str(known),
            metadata={
                "message": known.message,
                "hint": known.hint,
                "exit_code": known.exit_code,
                "database_away": away,
            },
            allow_retries=away,
        ) from error


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A markdown table, or "none" without rows; `|` and line breaks in cells are escaped."""
    if not rows:
        return dg.MetadataValue.md("none")
    lines = [
        "| " + " | ".join(headings) + " |",
        "|" + "---|" * len(headings),
        *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows),
    ]
    return dg.MetadataValue.md("\n".join(lines))


def counts_table(heading: str, counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """A two-column table of counts, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table([heading, "count"], [[name, f"{count:,}"] for name, count in ordered])


def code_block(code: str, language: str = "", caption: str = "") -> dg.MarkdownMetadataValue:
    """Code as markdown, at most 40 lines of it."""
    lines = code.splitlines()
    shown = "\n".join(lines[:40]) + ("\n…" if len(lines) > 40 else "")
    # A fence longer than any in the code cannot be closed by it.
    fence = "`" * max(3, 1 + max((len(run) for run in _backtick_runs(shown)), default=0))
    return dg.MetadataValue.md(f"{caption}\n\n{fence}{language}\n{shown}\n{fence}".strip())


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG as markdown with the picture inside."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def materialized(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> dict[str, Any] | None:
    """The metadata, as plain values, that `asset` was last materialized with; None if it never was."""
    record = _last_record(instance, asset, partition)
    if record is None or record.asset_materialization is None:
        return None
    return plain(record.asset_materialization.metadata)


def materialized_at(instance: dg.DagsterInstance, asset: str) -> float | None:
    """When `asset` was last materialized, in seconds since 1970; None if it never was."""
    record = _last_record(instance, asset, None)
    return None if record is None else record.timestamp


def last_version(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> str | None:
    """The data version that `asset` was last materialized with; None if it never was."""
    record = _last_record(instance, asset, partition)
    if record is None or record.asset_materialization is None:
        return None
    return (record.asset_materialization.tags or {}).get("dagster/data_version")


def _last_record(instance: dg.DagsterInstance, asset: str, partition: str | None) -> dg.EventLogRecord | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition is not None else None
        ),
        limit=1,
    ).records
    return records[0] if records else None


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata values without their wrapping."""
    return {key: getattr(value, "value", value) for key, value in metadata.items()}


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\r", "").replace("\n", "<br>")


def _backtick_runs(text: str) -> list[str]:
    import re

    return re.findall(r"`+", text)
