"""What each session was shown of late, so that opening a snippet is known to answer a search."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cachetools import LRUCache

# An agent asks a few things at once and opens what it likes best; what it saw an hour ago it no longer means.
SEARCHES_KEPT = 20
SESSIONS_KEPT = 1000


class ShownSnippets:
    """Which search showed which snippet, by session. For many threads.

    A session is None where the client has none (the protocol of 2026-07-28 over HTTP): nothing is remembered
    for it then, because an opening that is put down to another agent's search would teach a falsehood.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: LRUCache[str, dict[str, frozenset[int]]] = LRUCache(SESSIONS_KEPT)

    def add(self, session: str | None, search_id: str | None, snippet_ids: Iterable[int]) -> None:
        """Remembers what a search showed. One without a name was not recorded: nothing can refer to it."""
        if session is None or search_id is None:
            return
        with self._lock:
            searches = self._sessions.get(session, {})
            searches[search_id] = frozenset(snippet_ids)
            while len(searches) > SEARCHES_KEPT:
                del searches[next(iter(searches))]
            self._sessions[session] = searches

    def last_search(self, session: str | None, snippet_id: int) -> str | None:
        """The last search of the session that showed the snippet; None if none did."""
        if session is None:
            return None
        with self._lock:
            searches = self._sessions.get(session, {})
            return next((name for name in reversed(searches) if snippet_id in searches[name]), None)
