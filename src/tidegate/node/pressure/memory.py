"""How much of the memory there is, is used: of the container's, or else of the machine's.

What ends a process in a container is the limit of its control group, or of one above it, and what
counts for that is the whole group: other processes, and what the kernel keeps for its sockets. So
with such a limit the reading is the group's working set as a share of it: all its memory but the
file pages that the kernel can drop at once. Without one it is what this process has resident, as a
share of the machine's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tidegate.node.pressure.groups import Group, count_of, groups, number

__all__ = ["Memory", "MemoryFiles"]


class MemoryFiles(NamedTuple):
    """Where a version of control groups says what of memory (the kernel's own pages)."""

    limit: str
    usage: str
    droppable: str
    """Of `memory.stat`: the file pages that the kernel can drop at once."""

    @classmethod
    def of(cls, group: Group) -> MemoryFiles:
        """Return the names in this control group."""
        return _FILES[group.version]


_FILES: Final = {
    1: MemoryFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: MemoryFiles("memory.max", "memory.current", "inactive_file"),
}


class Memory:
    """Reads the memory in use.

    Args:
        root: where ``proc`` and ``sys`` are.
        resident: the resident bytes of this process.
        total: the bytes of memory that the machine has.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        resident: Callable[[], int] | None = None,
        total: int | None = None,
    ) -> None:
        self._resident = _own_resident() if resident is None else resident
        self._total = int(psutil.virtual_memory().total) if total is None else total
        self._groups = [
            group
            for group in groups(root, "memory")
            if (group.directory / MemoryFiles.of(group).limit).exists()
        ]

    def share(self) -> float | None:
        """The share in use, 0 to 1: the highest of all limits that this process is under.

        None when it cannot be read just now, as without a free file descriptor.
        """
        shares = [share for share in map(self._of_group, self._groups) if share is not None]
        if shares:
            return min(1.0, max(shares))
        try:
            return min(1.0, self._resident() / self._total)
        except (OSError, psutil.Error):
            return None

    def _of_group(self, group: Group) -> float | None:
        directory, files = group.directory, MemoryFiles.of(group)
        limit = number(directory / files.limit)
        # "max" in version 2, and more than any machine has in version 1: no limit.
        if not limit or limit >= self._total:
            return None
        usage = number(directory / files.usage)
        if usage is None:
            return None
        droppable = count_of(directory / "memory.stat", files.droppable)
        return max(0, usage - droppable) / limit


def _own_resident() -> Callable[[], int]:
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)
