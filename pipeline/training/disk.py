"""What the operating system refuses while a model is written, as a sentence that names the disk."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import HoneloopError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(directory: Path, what: str) -> Generator[None]:
    """Turns what the block is refused into a HoneloopError.

    Args:
        directory: where is written to.
        what: what is written, as a sentence begins.
    """
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(directory, what) from error
        raise HoneloopError(
            f"{what} could not be written to {directory}: {error.strerror or error}.",
            hint="Check that the directory exists and may be written to, or set HONELOOP_HOME to another.",
        ) from error
    except Exception as error:
        # What is written in Rust has no errno, but says it; of tokenizers it is a plain Exception.
        if any(f"(os error {number})" in str(error) for number in _FULL):
            raise disk_full(directory, what) from error
        if not isinstance(error, SafetensorError):
            raise
        raise HoneloopError(
            f"{what} could not be written to {directory}: {error}.", hint="Check the disk."
        ) from error


def disk_full(directory: Path, what: str, needed: str = "") -> HoneloopError:
    """The error for a disk without room; `needed` may say, in a sentence, how much there has to be."""
    return HoneloopError(
        f"The disk of {directory} is full.{needed}",
        hint=f"Make room, or set HONELOOP_HOME to another disk. {what} was not written; what was there before"
        " is as it was.",
    )
