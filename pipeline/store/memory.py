"""How much memory there is: what building an index may use."""

from __future__ import annotations

import os
from pathlib import Path

MEGABYTE = 1024 * 1024
# Where a container is told its limit: cgroup version 2, then 1.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Bytes of memory of this machine, or of this container if it may have less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in LIMITS:
        if limit.exists() and (text := limit.read_text().strip()).isdecimal():  # else "max": no limit
            found.append(int(text))
    return min(found)
