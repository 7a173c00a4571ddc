"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak(device: str) -> None:
    """Begins measuring anew, where the system can: of a GPU, and of a process on Linux."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # 5 sets the peak of resident memory back to what is resident now; see proc_pid_clear_refs(5).
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return  # then the peak is the process's since it began


def peak_bytes(device: str) -> int:
    """The peak since `reset_peak`: what torch holds on a GPU, else what the process has in memory."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_peak_bytes()


def process_peak_bytes() -> int:
    """The most that this process had in memory; on Linux its own, without what started it. Loads no torch."""
    try:
        status = (_PROCESS / "status").read_text(encoding="ascii")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
