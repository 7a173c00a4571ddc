"""The connection to the NATS server: opened once, and opened again whenever the server goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.settings.nats import shown_address

# At the start: a wrong address should be seen at once. Later the server may be away for any time.
CONNECT_SECONDS = 5.0
RECONNECT_SECONDS = 1
SCHEMES = ("nats", "tls")
# A server that is gone without a word is noticed after two of these.
PING_SECONDS = 20
FLUSH_SECONDS = 10.0


class OrderedClient(Client):
    """A client whose round trips prove what was sent before them.

    nats-py 2.16 writes a PING straight to the socket, ahead of the commands that wait in its buffer. Its
    answer then says nothing of these: after `flush` a subscription may still be unknown to the server, and a
    message that comes between the answer and the end of a subscription is dropped by `drain`.
    """

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._pongs.append(asyncio.Future() if future is None else future)
        await self._send_command(b"PING\r\n")
        await self._flush_pending()


class Link:
    """A connection that comes back by itself, and says when it goes and comes.

    Args:
        settings: Address and credentials.
        say: Told `disconnected`, `reconnected` and `error`.
    """

    def __init__(self, settings: Settings, say: Callable[[str, dict[str, Any]], None]) -> None:
        self.client = OrderedClient()
        self._settings = settings
        self._say = say
        self._closed = asyncio.Event()
        self._tried = False
        self._ending = False
        self._last_error = ""

    async def open(self) -> None:
        """Connects.

        Raises:
            UnavailableError: no server answers, or it does not let us in.
            BadInputError: the address or the credentials file cannot be right.
        """
        settings = self._settings
        addresses = _addresses(settings)
        _require_credentials(settings)
        self._tried = True
        try:
            await asyncio.wait_for(
                self.client.connect(
                    addresses,
                    name="honeloop embed-worker",
                    user_credentials=settings.nats_credentials,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_closed,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_SECONDS,
                    ping_interval=PING_SECONDS,
                ),
                CONNECT_SECONDS,
            )
        except (TimeoutError, OSError, errors.Error) as error:
            why = self._last_error or str(error) or type(error).__name__
            await self.close()
            raise UnavailableError(
                f"The NATS server at {settings.shown_nats_url} cannot be used: {why}.",
                hint="Check that it runs, HONELOOP_NATS_URL and HONELOOP_NATS_CREDENTIALS.",
            ) from error

    async def until_closed_or(self, event: asyncio.Event) -> None:
        """Waits for the event.

        Raises:
            UnavailableError: the server closed the connection for good.
        """
        tasks = [asyncio.create_task(each.wait()) for each in (event, self._closed)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if not event.is_set():
            raise UnavailableError(
                f"The NATS server closed the connection: {self._last_error or 'it gave no reason'}.",
                hint="Check what this user may do there, and start the worker again.",
            )

    async def close(self) -> None:
        """Closes it, whatever state it is in."""
        self._ending = True
        if not self._tried:
            return
        with suppress(errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(self.client.close(), FLUSH_SECONDS)

    async def _on_error(self, error: Exception) -> None:
        # A server that refuses us says so and hangs up, and either may be what arrives; in the attempts that
        # follow, what it said once tells more than that it hung up again.
        if not (isinstance(error, ConnectionError) and self._last_error and not self.client.is_connected):
            self._last_error = str(error) or type(error).__name__
        # That it went away is said in words of our own, and while it is away every attempt fails.
        if self.client.is_connected and not isinstance(error, errors.StaleConnectionError):
            self._say("error", {"error": self._last_error})

    async def _on_disconnected(self) -> None:
        if not self._ending:
            self._say("disconnected", {"url": self._settings.shown_nats_url})

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        self._say("reconnected", {"url": self._settings.shown_nats_url})

    async def _on_closed(self) -> None:
        self._closed.set()


def _addresses(settings: Settings) -> list[str]:
    found = [address.strip() for address in settings.nats_url.split(",")]
    found = [address if "://" in address else f"nats://{address}" for address in found]
    for address in found:
        try:
            parts = urlsplit(address)
            right = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # a port that is no number
            right = False
        if not right:
            raise BadInputError(
                f"{shown_address(address)} is not the address of a NATS server.",
                hint="Set HONELOOP_NATS_URL to one such as nats://127.0.0.1:4222.",
            )
    return found


def _require_credentials(settings: Settings) -> None:
    file = settings.nats_credentials
    if file is None:
        return
    if not file.is_file():
        raise BadInputError(f"There is no credentials file {file}.", hint="Set HONELOOP_NATS_CREDENTIALS.")
    try:
        import nkeys  # noqa: F401  # pyright: ignore
    except ModuleNotFoundError as error:
        raise HoneloopError(
            "A credentials file needs the package nkeys, which is not installed.",
            hint='Install it: pip install "nats-py[nkeys]".',
        ) from error
