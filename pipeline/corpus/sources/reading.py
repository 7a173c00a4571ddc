"""Reads one file of a file system that others may be writing to."""

from __future__ import annotations

import os
import stat

from pipeline.corpus.sources.base import FileTooLargeError, FileUnreadableError


def read_regular_file(path: str, max_bytes: int, *, follow_link: bool) -> bytes:
    """The bytes of a regular file.

    Opening neither follows a symbolic link (unless asked to) nor waits on a pipe, whatever the path has
    become since it was listed.

    Raises:
        FileTooLargeError: it has more than `max_bytes`.
        FileUnreadableError: it cannot be opened or read, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_link else os.O_NOFOLLOW)
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileUnreadableError("not a regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise FileUnreadableError(error.strerror or str(error)) from error
    if len(content) > max_bytes:
        raise FileTooLargeError
    return content
