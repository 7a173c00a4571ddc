"""What a person did with a snippet that a search showed them, recorded as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args
from uuid import UUID

from pipeline.corpus.store import can_be_stored
from pipeline.errors import BadInputError
from pipeline.feedback.confidence import Judgement
from pipeline.store.connections import Connection, Database

JUDGEMENTS: tuple[str, ...] = get_args(Judgement)
MAX_DWELL_MS = 2**31 - 1


class ExpiredSearchError(BadInputError):
    """The search has expired: a judgement now would name somebody where all names were taken away."""


@dataclass(frozen=True)
class FeedbackResult:
    """Whether there was anything new in it: saying the same twice adds nothing."""

    added: bool


def add_feedback(
    db: Database,
    search_id: str,
    snippet_id: int,
    judgement: str,
    *,
    dwell_ms: int | None = None,
    user: str | None = None,
) -> FeedbackResult:
    """Records one judgement of a snippet that was shown in a search. What was said before is kept.

    Args:
        db: Where to.
        search_id: The search, as its answer named it.
        snippet_id: One of the snippets of that answer.
        judgement: click, copy, accept or reject.
        dwell_ms: How long the person stayed on it, in milliseconds.
        user: Who; None: whoever searched.

    Raises:
        BadInputError: the judgement is none of the four, the dwell time is negative or absurd, the name is no
            text, there is no such search, or the snippet was not shown in it.
        ExpiredSearchError: the search has expired.
    """
    if judgement not in JUDGEMENTS:
        raise BadInputError(
            f"{judgement!r} is not a judgement.",
            hint=f"It is one of {', '.join(JUDGEMENTS)}.",
            field="judgement",
        )
    if dwell_ms is not None and not 0 <= dwell_ms <= MAX_DWELL_MS:
        raise BadInputError(
            f"A dwell time of {dwell_ms} ms cannot be.",
            hint="Give milliseconds, 0 or more.",
            field="dwell_ms",
        )
    if not can_be_stored(user):
        raise BadInputError(
            "The user's name has characters that are no text.",
            hint="Send it as valid UTF-8.",
            field="user",
        )
    user = name_of(user)
    try:
        search = UUID(search_id)
    except (ValueError, AttributeError, TypeError):
        raise _unknown_search(search_id) from None
    with db.connect() as connection:
        # The lock makes two simultaneous clicks on one button one piece of feedback.
        shown = connection.execute(
            "SELECT FROM impressions WHERE search_id = %s AND snippet_id = %s FOR UPDATE",
            [search, snippet_id if 0 < snippet_id < 2**63 else 0],  # 0 is nobody's id
        ).fetchone()
        # After that lock, which waits for searches that are expiring now.
        known = connection.execute(
            "SELECT expired_at IS NOT NULL FROM searches WHERE id = %s", [search]
        ).fetchone()
        if known is None:
            raise _unknown_search(search_id)
        if known[0]:
            raise ExpiredSearchError(
                f"Search {search_id} has expired, and nobody can judge it any more.",
                hint="Search again, and judge that.",
                field="search_id",
            )
        if shown is None:
            raise BadInputError(
                f"Snippet {snippet_id} was not shown in search {search_id}.",
                hint="Feedback is about what was shown: take a snippet_id from that search's results.",
                field="snippet_id",
            )
        if _already_said(connection, search, snippet_id, judgement, dwell_ms=dwell_ms, user=user):
            return FeedbackResult(added=False)
        connection.execute(
            "INSERT INTO feedback (search_id, snippet_id, judgement, dwell_ms, user_name, at) "
            # Not now(): of two transactions that began in one order and met at the lock in the other, the
            # one that speaks last has the last word. Nor before what was said already, if the clock went
            # back.
            "SELECT id, %s, %s, %s, coalesce(%s, user_name), greatest(clock_timestamp(),"
            " (SELECT max(at) FROM feedback WHERE search_id = %s AND snippet_id = %s))"
            " FROM searches WHERE id = %s",
            [snippet_id, judgement, dwell_ms, user, search, snippet_id, search],
        )
    return FeedbackResult(added=True)


def name_of(user: str | None) -> str | None:
    """A name without the space around it, or one person would be two; a blank one is nobody's."""
    return (user or "").strip() or None


def _already_said(
    connection: Connection,
    search: UUID,
    snippet_id: int,
    judgement: str,
    *,
    dwell_ms: int | None,
    user: str | None,
) -> bool:
    """Whether the person's last word (explicit) or some earlier sign (click, copy) already says it."""
    said = connection.execute(
        "SELECT f.judgement, f.dwell_ms FROM feedback f JOIN searches s ON s.id = f.search_id "
        "WHERE f.search_id = %s AND f.snippet_id = %s "
        "AND coalesce(f.user_name, s.user_name) IS NOT DISTINCT FROM coalesce(%s, s.user_name) "
        "ORDER BY f.at, f.id",
        [search, snippet_id, user],
    ).fetchall()
    if judgement in {"accept", "reject"}:
        explicit = [earlier for earlier, _ in said if earlier in {"accept", "reject"}]
        return bool(explicit) and explicit[-1] == judgement
    # A longer stay is news: it is what tells a glance from reading.
    return any(
        earlier == judgement and (dwell_ms is None or (dwell is not None and dwell >= dwell_ms))
        for earlier, dwell in said
    )


def _unknown_search(search_id: str) -> BadInputError:
    return BadInputError(
        f"There is no search {search_id!r}.",
        hint="Take the search_id that `honeloop search` printed; searches that nobody judged expire in time.",
        field="search_id",
    )
