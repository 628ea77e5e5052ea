"""How much of the memory there is, is used: of the container's, or else of the machine's.

What ends a process in a container is the limit of its control group, or of one above it, and what
counts for that is the whole group: other processes, and what the kernel keeps for its sockets. So
with such a limit the reading is the group's working set as a share of it: all its memory but the
file pages that the kernel can drop at once. Without one it is what this process has resident, as a
share of the machine's memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import psutil

__all__ = ["Memory"]


class _Version(NamedTuple):
    """Where a version of control groups says what (cgroups(7), and the kernel's own pages)."""

    limit: str
    usage: str
    droppable: str


_V1: Final = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Version("memory.max", "memory.current", "inactive_file")


class _Group(NamedTuple):
    """One control group that this process is in."""

    directory: Path
    version: _Version


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
        self._groups = _groups(root)

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

    def _of_group(self, group: _Group) -> float | None:
        directory, version = group
        limit = _number(directory / version.limit)
        # "max" in version 2, and more than any machine has in version 1: no limit.
        if not limit or limit >= self._total:
            return None
        usage = _number(directory / version.usage)
        if usage is None:
            return None
        droppable = _of_stat(directory / "memory.stat", version.droppable)
        return max(0, usage - droppable) / limit


def _own_resident() -> Callable[[], int]:
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def _groups(root: Path) -> list[_Group]:
    """The control groups of this process that may limit its memory, the innermost first."""
    try:
        entries = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    paths: dict[_Version, str] = {}
    for entry in entries:
        number, controllers, path = entry.split(":", 2)
        if number == "0":
            paths[_V2] = path
        elif "memory" in controllers.split(","):
            paths[_V1] = path
    found: list[_Group] = []
    for mount in mounts:
        place, _, kind = mount.partition(" - ")
        filesystem, _, options = kind.split(" ", 2)
        version = None
        if filesystem == "cgroup2":
            version = _V2
        elif filesystem == "cgroup" and "memory" in options.split(","):
            version = _V1
        if version in paths:
            _, _, _, mounted, point, *_ = place.split(" ")
            for directory in _directories(_unescaped(mounted), _unescaped(point), paths[version]):
                group = _Group(root / directory.relative_to("/"), version)
                if group not in found and (group.directory / version.limit).exists():
                    found.append(group)
    return found


def _directories(mounted: str, point: str, path: str) -> list[PurePosixPath]:
    """The directory of a control group and those above it, up to where they are mounted."""
    top = PurePosixPath(point)
    # In a container the mount often begins at the container's own group. A path that is not
    # below it, or leads out of it, belongs to another namespace: only the mount is known then.
    if not PurePosixPath(path).is_relative_to(mounted) or ".." in PurePosixPath(path).parts:
        return [top]
    inside = PurePosixPath(path).relative_to(mounted)
    return [top / inside, *(top / part for part in inside.parents)]


def _unescaped(text: str) -> str:
    # proc_pid_mountinfo(5): space, tab, newline and backslash are written in octal.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _of_stat(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        return 0
    return 0
