"""How many workers `server.workers` asks for."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path
from typing import Final

from tidegate.node.pressure.groups import groups

__all__ = ["cores", "workers_of"]

_ROOT: Final = Path("/")


def workers_of(workers: int) -> int:
    """Return how many workers there are: 0 asks for one for each core."""
    return workers or cores()


def cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use: its own, and what a container gets of them."""
    affinity = hasattr(os, "sched_getaffinity")
    own = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    for group in groups(root, "cpu"):
        try:
            if group.version == 2:
                quota, period = (group.directory / "cpu.max").read_text().split()
            else:
                quota = (group.directory / "cpu.cfs_quota_us").read_text()
                period = (group.directory / "cpu.cfs_period_us").read_text()
            if int(quota) > 0:
                own = min(own, ceil(int(quota) / int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # "max" too: no quota
    return max(1, own)
