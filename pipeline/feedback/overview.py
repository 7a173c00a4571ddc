"""What there is to learn from: eligible pairs by what they are, what was dropped and why, position bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any

from pipeline.config import Settings
from pipeline.feedback import store
from pipeline.feedback.pairs import FeedbackPair, FeedbackPairs, pairs_in
from pipeline.feedback.position_bias import PositionBias
from pipeline.store.connections import Connection, Database

_KEPT = """
SELECT count(*) FILTER (WHERE expired_at IS NOT NULL), (SELECT count(*) FROM forgotten),
    (SELECT coalesce(sum(searches), 0)::bigint FROM search_days)
FROM searches
"""


@dataclass(frozen=True)
class OtherPairs:
    """Pairs that people's judgements did not make, before the caps for each split; other rooms know them.

    Attributes:
        by_language: How many, by the language of the code.
        dropped: How much makes none, by reason.
    """

    by_language: dict[str, int]
    dropped: dict[str, int]

    @classmethod
    def of(cls, languages: Iterable[str], dropped: Mapping[str, int]) -> OtherPairs:
        """The pairs of code in these languages, one each."""
        return cls(counted(languages), {reason: count for reason, count in dropped.items() if count})


@dataclass(frozen=True)
class Overview:
    """Everything `honeloop feedback stats` tells of feedback.

    Attributes:
        counts: How much feedback there is.
        found: The pairs that it makes, and what it does not.
        others: What else makes pairs, by origin.
        commits_left_out: How many commits make none, by reason, before any function of them is looked at.
        expired: Judged searches that have lost their names.
        counted_days: Searches that are counted by day only, those among them.
        forgotten: People who asked to be forgotten.
    """

    counts: store.FeedbackStats
    found: FeedbackPairs
    others: dict[str, OtherPairs]
    commits_left_out: dict[str, int]
    expired: int
    counted_days: int
    forgotten: int

    def to_json(self) -> dict[str, Any]:
        """As `honeloop feedback stats --json` prints it."""
        pairs = self.found.pairs
        by_language = counted(pair.language for pair in pairs)
        return {
            **asdict(self.counts),
            "pairs": len(pairs),
            "dropped": self.found.dropped,
            "eligible": {
                "by_origin": {
                    "feedback": len(pairs),
                    **{origin: sum(other.by_language.values()) for origin, other in self.others.items()},
                },
                "by_judgement": counted(pair.judgement for pair in pairs),
                "by_language": by_language,
                "by_origin_and_language": {
                    "feedback": by_language,
                    **{origin: other.by_language for origin, other in self.others.items()},
                },
                "by_day": days(pairs),
            },
            "dropped_by_origin": {
                "feedback": self.found.dropped,
                **{origin: other.dropped for origin, other in self.others.items()},
            },
            "commits_left_out": self.commits_left_out,
            "weight": {
                "total": round(sum(pair.weight for pair in pairs), 3),
                "by_judgement": {
                    judgement: round(sum(pair.weight for pair in pairs if pair.judgement == judgement), 3)
                    for judgement in counted(pair.judgement for pair in pairs)
                },
            },
            "negatives": counted(negative.reason for pair in pairs for negative in pair.negatives),
            "position_bias": bias_json(self.found.position_bias),
            "expired_searches": self.expired,
            "searches_counted_by_day": self.counted_days,
            "forgotten_people": self.forgotten,
        }


def collect(
    db: Database, settings: Settings, others: dict[str, OtherPairs], commits_left_out: dict[str, int]
) -> Overview:
    """Gathers it, all from one moment.

    Args:
        db: The database.
        settings: See "Feedback and training set" there.
        others: Pairs of other origins.
        commits_left_out: How many commits make none, by reason.
    """
    with db.connect() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        counts = store.read_stats(connection)
        return Overview(counts, pairs_in(connection, settings), others, commits_left_out, *_kept(connection))


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def days(pairs: Iterable[FeedbackPair]) -> dict[str, int]:
    """How many pairs rest on a latest judgement of each day (UTC), the latest day first."""
    found = Counter(pair.at.astimezone(UTC).date().isoformat() for pair in pairs)
    return dict(sorted(found.items(), reverse=True))


def bias_json(bias: PositionBias) -> dict[str, Any]:
    """How likely each rank is looked at, whence that is known, and what is missing for the data to say it."""
    return {
        "method": "estimated" if bias.examination.estimated else "table",
        "examination_by_rank": {
            str(rank): likely for rank, likely in enumerate(bias.examination.by_rank, start=1)
        },
        "comparable": bias.comparable,
        "evidence_by_rank": {str(rank): found for rank, found in enumerate(bias.evidence, start=1)},
        "missing_by_rank": {str(rank): lacking for rank, lacking in bias.missing.items()},
    }


def _kept(connection: Connection) -> tuple[int, int, int]:
    row = connection.execute(_KEPT).fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    expired, forgotten, counted_days = row
    return expired, counted_days, forgotten
