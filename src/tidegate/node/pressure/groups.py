"""The control groups that a process is in, and those above them (cgroups(7))."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["Group", "count_of", "groups", "number"]


class Group(NamedTuple):
    """One control group that a process is in."""

    directory: Path
    version: int
    """1 or 2: files have other names in each."""


def groups(root: Path, controller: str, pid: int | str = "self") -> list[Group]:
    """The control groups of a process under one controller, the innermost first.

    Those above the mount point cannot be seen. Empty where nothing can be read.

    Args:
        root: where ``proc`` and ``sys`` are.
        controller: "memory" or "cpu".
        pid: of which process.
    """
    try:
        entries = (root / f"proc/{pid}/cgroup").read_text().splitlines()
        mounts = (root / f"proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    paths: dict[int, str] = {}
    for entry in entries:
        hierarchy, controllers, path = entry.split(":", 2)
        if hierarchy == "0":
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    found: list[Group] = []
    for mount in mounts:
        place, _, kind = mount.partition(" - ")
        filesystem, _, options = kind.split(" ", 2)
        version = 0
        if filesystem == "cgroup2":
            version = 2
        elif filesystem == "cgroup" and controller in options.split(","):
            version = 1
        if version in paths:
            _, _, _, mounted, point, *_ = place.split(" ")
            for directory in _directories(_unescaped(mounted), _unescaped(point), paths[version]):
                group = Group(root / directory.relative_to("/"), version)
                if group not in found:
                    found.append(group)
    return found


def number(path: Path) -> int | None:
    """The whole number that a file holds; None where it holds none ("max") or cannot be read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def count_of(path: Path, name: str) -> int:
    """One count of a file with a name and a number a line; 0 where it is not there."""
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        return 0
    return 0


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
