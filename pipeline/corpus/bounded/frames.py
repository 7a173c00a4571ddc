"""The messages of the two processes on their pipe: MessagePack and bytes, the lengths of both in front.

No pickle: whatever a hostile file may make of the process that parses it, the one that asked it reads text,
numbers and bytes, of the types that it expects.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import IO, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

# What is cut out of the largest file that is read is a fraction of it.
MAX_BYTES = 1 << 28

_LENGTHS = struct.Struct("<II")
_ENCODER = msgspec.msgpack.Encoder()


class TooLongError(Exception):
    """A message is longer than any that is meant."""


class NonsenseError(Exception):
    """What arrived is not the message that was expected."""


def write(stream: IO[bytes], message: msgspec.Struct, content: bytes = b"") -> None:
    """Sends a message. Raises TooLongError, and has then sent nothing."""
    packed = _ENCODER.encode(message)
    if len(packed) + len(content) > MAX_BYTES:
        raise TooLongError
    stream.write(_LENGTHS.pack(len(packed), len(content)))
    stream.write(packed)
    stream.write(content)
    stream.flush()


def read(stream: IO[bytes], expected: type[T]) -> tuple[T, bytes]:
    """The next message. Raises EOFError where there is none, or but a part of one; the errors above."""
    packed_length, content_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if packed_length + content_length > MAX_BYTES:
        raise TooLongError
    packed, content = _exactly(stream, packed_length), _exactly(stream, content_length)
    try:
        return _decoder(expected).decode(packed), content
    except msgspec.MsgspecError as error:
        raise NonsenseError(str(error)) from error


@cache
def _decoder(expected: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(expected)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content
