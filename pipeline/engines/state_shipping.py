"""The states of a training on their way home: of each the files that are not there, and what is kept of it.

That a file was sent does not mean that it is there: of a state that home had no room for, nothing is kept. So
home answers each state with what it has, and the node goes by that with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engines.training_shipping import Arrivals, send_files
from pipeline.errors import HoneloopError
from pipeline.training.training_state import STATE, file_name, hashes_in

if TYPE_CHECKING:
    from pipeline.training.following import Send
    from pipeline.training.training_state import StateStore

# The SHA-256 of files, by the names of the parts of a state that stand in them.
Kept = Mapping[str, str]


class StateSender:
    """Sends home, from a node, each state that is saved there.

    Args:
        directory: where they are saved; the state that is there now came from home.
        send: sends a message.
        taken: see `send_files`.
        answer: waits for what home has, once it has dealt with a state.
    """

    def __init__(
        self, directory: Path, send: Send, taken: Callable[[], object], answer: Callable[[], Kept]
    ) -> None:
        self._directory = directory
        self._send = send
        self._taken = taken
        self._answer = answer
        self._unanswered = False
        self._at_home: Kept = {}
        # One that is damaged is said to be by who loads it; home has nothing of it then.
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._at_home = hashes_in((directory / STATE).read_bytes())

    def send_saved(self) -> None:
        """Sends what home does not have of the state that was saved, then `("saved", content of STATE)`.

        Home's answer is waited for before the next one is sent: the training goes on meanwhile.
        """
        if self._unanswered:
            self._unanswered = False
            self._at_home = self._answer()
        content = (self._directory / STATE).read_bytes()
        new = [
            file_name(name)
            for name, digest in hashes_in(content).items()
            if self._at_home.get(name) != digest
        ]
        send_files(self._directory, new, self._send, self._taken)
        self._send(("saved", content))
        self._unanswered = True


class StateReceiver:
    """Takes states at home, each whole or not at all.

    Args:
        store: of the training, here.
        arrivals: where files arrive.
        note: told of a state that cannot be kept.
    """

    def __init__(self, store: StateStore, arrivals: Arrivals, note: Callable[[str], None]) -> None:
        self._store = store
        self._arrivals = arrivals
        self._note = note
        self._failed: Exception | None = None  # what kept a piece of the present state from being written

    def take(self, name: str, piece: Any, digest: str | None) -> None:
        """Takes a piece of a file; see `Arrivals.take`. What goes wrong is said with the whole state."""
        if self._failed is None:
            try:
                self._arrivals.take(name, piece, digest)
            except (OSError, HoneloopError) as error:
                self._failed = error

    def keep(self, content: bytes) -> bool:
        """Puts the state in place of which all pieces were taken; whether that went well.

        Args:
            content: what STATE holds.
        """
        failed, self._failed = self._failed, None
        if failed is None:
            try:
                self._store.adopt(content, self._arrivals.directory)
            except (OSError, HoneloopError) as error:
                failed = error
        self._arrivals.clear()
        if failed is not None:
            self._note(f"The training goes on, but its state could not be saved: {failed}")
        return failed is None
