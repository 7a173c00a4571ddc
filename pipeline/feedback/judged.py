"""All that people did, put together: by query in any spelling, by snippet's content, by person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC

from pipeline.feedback import store
from pipeline.feedback.confidence import Signal
from pipeline.feedback.grouping import group_key

# How the web page names a browser whose person has said no name.
ANONYMOUS = "web:"


@dataclass
class Judged:
    """All that was done with one content for one query, by person."""

    signals: dict[str, list[Signal]] = field(default_factory=dict[str, list[Signal]])
    newest_id: int = 0


@dataclass
class Group:
    """All that was done for one query, however it was spelled."""

    query: str
    judged: dict[bytes, Judged] = field(default_factory=dict[bytes, Judged])

    def liked(self) -> frozenset[bytes]:
        """What anybody clicked, copied or accepted for the query."""
        return frozenset(
            content_hash
            for content_hash, judged in self.judged.items()
            if any(signal.judgement != "reject" for signals in judged.signals.values() for signal in signals)
        )


def grouped(events: Iterable[store.Event]) -> dict[bytes, Group]:
    """The events, the oldest first, by the key of their query's group."""
    groups: dict[bytes, Group] = {}
    keys: dict[str, bytes] = {}
    for event in events:
        key = keys.get(event.query) or keys.setdefault(event.query, group_key(event.query))
        group = groups.setdefault(key, Group(" ".join(event.query.split())))
        judged = group.judged.setdefault(event.content_hash, Judged())
        judged.newest_id = max(judged.newest_id, event.id)
        judged.signals.setdefault(_person(event, key), []).append(
            Signal(
                event.judgement,
                event.rank,
                event.dwell_ms,
                str(event.search_id),
                event.at,
                event.id,
                event.by_searcher,
            )
        )
    return groups


def is_nameless(person: str) -> bool:
    """Whether a person, as `grouped` tells them apart, said no name."""
    return person.startswith(("nobody:", f"name:{ANONYMOUS}"))


def _person(event: store.Event, key: bytes) -> str:
    """Who it was, as far as that can be told.

    Without a name, whoever asks one query on one day is one person: the same search over and over is more
    likely one script than many people. Imported lines without a name are a person each.
    """
    if event.user is not None:
        return f"name:{event.user}"
    if event.imported:
        return f"line:{event.id}"
    return f"nobody:{key.hex()}:{event.at.astimezone(UTC).date()}"
