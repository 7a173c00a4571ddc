"""Tells a webhook what went wrong. Its address is a secret: who knows it can write there."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from typing import IO, NoReturn
from urllib.parse import urlsplit

from pydantic import SecretStr

from pipeline.errors import BadInputError, HoneloopError

TIMEOUT_SECONDS = 3.0
# Dagster reports up to five failures in one tick, which has a minute.
ATTEMPTS = 3
PAUSE_SECONDS = 0.5
LONGEST_TEXT = 3000


class Webhook:
    """An incoming webhook that takes `{"text": …}`, as Slack, Mattermost and others have them.

    Args:
        address: http:// or https://; None: nobody is told anything.

    Raises:
        BadInputError: the address is no such URL; it is not repeated.
    """

    def __init__(self, address: SecretStr | None) -> None:
        self._address = address
        if address is not None:
            parts = urlsplit(address.get_secret_value())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise BadInputError(
                    "HONELOOP_ALERT_WEBHOOK is no http:// or https:// address.",
                    hint="Give the whole address of the incoming webhook, or unset it.",
                )

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return self._address is not None

    def send(self, text: str) -> None:
        """Posts the text, with another two attempts if that fails; does nothing without an address.

        Raises:
            HoneloopError: it could not be delivered; why, without the address.
        """
        if self._address is None:
            return
        why = ""
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE_SECONDS * attempt)
            why = self._post(self._address.get_secret_value(), text)
            if not why:
                return
        raise HoneloopError(
            f"An alert could not be delivered in {ATTEMPTS} attempts: {why}.",
            hint="Check HONELOOP_ALERT_WEBHOOK, and who answers there.",
        )

    def _post(self, address: str, text: str) -> str:
        """Why it failed; empty if it did not. No exception leaves here: it could name the address."""
        if len(text) > LONGEST_TEXT:
            text = f"{text[:LONGEST_TEXT]} …"
        for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # the three that Slack reads
            text = text.replace(sign, escaped)
        try:
            request = urllib.request.Request(
                address,
                data=json.dumps({"text": text}).encode(),
                headers={"Content-Type": "application/json", "User-Agent": "honeloop"},
            )
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            return f"it answers with {error.code}"
        except urllib.error.URLError as error:
            return f"it cannot be reached ({type(error.reason).__name__})"
        except (OSError, ValueError, HTTPException) as error:
            return f"it cannot be reached ({type(error).__name__})"
        return ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirection would send the text, and what its path tells, to somebody else."""

    def redirect_request(  # noqa: PLR0917  (as the standard library calls it)
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> NoReturn:
        raise urllib.error.HTTPError("", code, "redirected", headers, fp)


_OPENER = urllib.request.build_opener(_NoRedirects)
