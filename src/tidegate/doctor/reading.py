"""Reading the facts of this machine: `/proc`, `/sys`, control groups and systemd.

Nothing here needs to be root, and nothing is changed. What cannot be read stays None.
"""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Final

import psutil

from tidegate.doctor.clock import read_time
from tidegate.doctor.facts import Container, Descriptors, Facts, Group, Kernel, Memory, Process
from tidegate.doctor.network import read_conntrack, read_network
from tidegate.doctor.systemd import read_unit
from tidegate.errors import UsageError
from tidegate.node.pressure.descriptors import descriptors_open
from tidegate.node.pressure.groups import count_of, groups, number
from tidegate.node.pressure.memory import MemoryFiles

__all__ = ["read"]

_NO_LIMIT_V1: Final = 1 << 60  # version 1 says "no limit" with nearly 2^63


def read(pid: int | None = None, root: Path = Path("/")) -> Facts:
    """Read the facts.

    Args:
        pid: the process to judge; None for one that would be started here.
        root: where ``proc`` and ``sys`` are.

    Raises:
        UsageError: there is no such process.
    """
    unseen: list[str] = []
    process = _process(root, pid, unseen)
    memory = _memory(root)
    linux = platform.system() == "Linux"
    if not linux:
        unseen.append(f"settings and counters of the kernel: {platform.system()} has no /proc")
    # The namespace of the process has its own network.
    net = root / "proc" / ("self" if pid is None else str(pid)) / "net"
    other = pid is not None and _namespace(root, pid) != _namespace(root, None)
    if other:
        unseen.append(f"sysctls of process {pid}: it is in another network namespace")
    return Facts(
        root=os.geteuid() == 0,
        writable=not other and os.access(root / "proc/sys/net/core/somaxconn", os.W_OK),
        container=_container(root, pid),
        kernel=Kernel(system=platform.system(), release=platform.release(), cpus=_cpus()),
        descriptors=_descriptors(root),
        process=process,
        unit=read_unit(root, pid, unseen) if linux else None,
        network=read_network(root, net, sysctls=not other),
        conntrack=None if other else read_conntrack(root, net),
        memory=memory,
        group=_group(root, "self" if pid is None else pid, memory.total if memory else None),
        time=read_time(root),
        unseen=tuple(unseen),
    )


def _cpus() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _descriptors(root: Path) -> Descriptors:
    try:
        # Allocated, free and most (proc_sys_fs(5)); the second is always 0.
        used, _, most = map(int, (root / "proc/sys/fs/file-nr").read_text().split())
    except (OSError, ValueError):
        return Descriptors()
    return Descriptors(per_process=number(root / "proc/sys/fs/nr_open"), most=most, used=used)


def _process(root: Path, pid: int | None, unseen: list[str]) -> Process | None:
    if pid is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Process(soft=_limit(soft), hard=_limit(hard))
    directory = root / f"proc/{pid}"
    if not directory.is_dir():
        raise UsageError(f"--pid {pid}: there is no such process")
    soft_limit, hard_limit = _limits(directory, unseen, pid)
    status = _fields(directory / "status")
    return Process(
        pid=pid,
        name=status.get("Name", ""),
        soft=soft_limit,
        hard=hard_limit,
        used=_open(directory, pid, unseen),
        resident=_kilobytes(status.get("VmRSS")),
        swapped=_kilobytes(status.get("VmSwap")),
    )


def _limits(directory: Path, unseen: list[str], pid: int) -> tuple[int | None, int | None]:
    try:
        for line in (directory / "limits").read_text().splitlines():
            if line.startswith("Max open files"):
                soft, hard = line.split()[3:5]
                return (
                    None if soft == "unlimited" else int(soft),
                    None if hard == "unlimited" else int(hard),
                )
    except (OSError, ValueError) as error:
        unseen.append(f"limits of process {pid}: {_why(error)}")
    return None, None


def _open(directory: Path, pid: int, unseen: list[str]) -> int | None:
    """How many descriptors a process has open."""
    if pid == os.getpid():
        return descriptors_open()
    try:
        # Linux 6.2 and later say it as the size; before, the directory is counted.
        listed = os.listdir(directory / "fd")
    except OSError as error:
        unseen.append(f"descriptors of process {pid}: {_why(error)}")
        return None
    return len(listed)


def _memory(root: Path) -> Memory | None:
    fields = _fields(root / "proc/meminfo")
    total, available = _kilobytes(fields.get("MemTotal")), _kilobytes(fields.get("MemAvailable"))
    if total is None or available is None:
        machine = psutil.virtual_memory()
        return Memory(total=int(machine.total), available=int(machine.available))
    swap = _kilobytes(fields.get("SwapTotal")) or 0
    return Memory(
        total=total,
        available=available,
        swap=swap,
        swapped=swap - (_kilobytes(fields.get("SwapFree")) or 0),
        huge_pages=_chosen(root / "sys/kernel/mm/transparent_hugepage/enabled"),
    )


def _group(root: Path, pid: int | str, total: int | None) -> Group:
    memory: tuple[int, int | None, Path, int] | None = None
    for group in groups(root, "memory", pid):
        files = MemoryFiles.of(group)
        limit = number(group.directory / files.limit)
        if limit is None or limit >= (total or _NO_LIMIT_V1):
            continue
        used = number(group.directory / files.usage)
        if used is not None:
            droppable = count_of(group.directory / "memory.stat", files.droppable)
            used = max(0, used - droppable)
        left = limit - (used or 0)
        if memory is None or left < memory[0] - (memory[1] or 0):
            memory = (limit, used, group.directory, group.version)
    cpus: float | None = None
    periods = throttled = 0
    for group in groups(root, "cpu", pid):
        own = _quota(group.directory, group.version)
        if own is not None and (cpus is None or own < cpus):
            cpus = own
            periods = count_of(group.directory / "cpu.stat", "nr_periods")
            throttled = count_of(group.directory / "cpu.stat", "nr_throttled")
    kills = 0
    if memory is not None:
        events = "memory.events" if memory[3] == 2 else "memory.oom_control"
        kills = count_of(memory[2] / events, "oom_kill")
    return Group(
        version=memory[3] if memory else 2,
        memory=memory[0] if memory else None,
        memory_used=memory[1] if memory else None,
        kills=kills,
        cpus=cpus,
        periods=periods,
        throttled=throttled,
    )


def _quota(directory: Path, version: int) -> float | None:
    """Processors' worth of time that a control group may have."""
    try:
        if version == 2:
            quota, period = (directory / "cpu.max").read_text().split()
        else:
            quota = (directory / "cpu.cfs_quota_us").read_text()
            period = (directory / "cpu.cfs_period_us").read_text()
        given = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # "max" too
    return given if given > 0 else None


def _container(root: Path, pid: int | None) -> Container:
    """Which container the process is in, by the traces that each engine leaves."""
    if pid is not None:
        try:
            inside = (root / f"proc/{pid}/cgroup").read_text()
        except OSError:
            inside = ""
        names: dict[str, Container] = {
            "kubepods": "kubernetes",
            "docker": "docker",
            "libpod": "podman",
        }
        for trace, name in names.items():
            if trace in inside:
                return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    return "docker" if (root / ".dockerenv").exists() else ""


def _namespace(root: Path, pid: int | None) -> str:
    try:
        return os.readlink(root / f"proc/{'self' if pid is None else pid}/ns/net")
    except OSError:
        return ""


def _fields(path: Path) -> dict[str, str]:
    """A file of lines such as `MemTotal: 8 kB`."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}


def _kilobytes(text: str | None) -> int | None:
    try:
        return int((text or "").split()[0]) * 1024
    except (IndexError, ValueError):
        return None


def _chosen(path: Path) -> str:
    """The word in brackets, as in `always [madvise] never`."""
    try:
        return path.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return ""


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def _why(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error)
    return f"{said} (root can)" if isinstance(error, PermissionError) else said
