"""The messages of the two processes: JSON and bytes, the lengths of both in front.

JSON and no pickle: whatever a hostile file may make of the process that parses it, the one that asked it
reads text.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

# What is cut out of the largest file that is read is a fraction of it.
MAX_BYTES = 1 << 28

_LENGTHS = struct.Struct("<II")


class TooLongError(Exception):
    """A message is longer than any that is meant."""


def write(stream: IO[bytes], message: dict[str, Any], content: bytes = b"") -> None:
    """Sends a message; bytes in it as hexadecimal digits. Raises TooLongError, and has then sent nothing."""
    text = json.dumps(message, ensure_ascii=False, default=bytes.hex).encode()
    if len(text) + len(content) > MAX_BYTES:
        raise TooLongError
    stream.write(_LENGTHS.pack(len(text), len(content)))
    stream.write(text)
    stream.write(content)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """The next message. Raises EOFError where there is none, or but a part of one; TooLongError."""
    text_length, content_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if text_length + content_length > MAX_BYTES:
        raise TooLongError
    return json.loads(_exactly(stream, text_length)), _exactly(stream, content_length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content
