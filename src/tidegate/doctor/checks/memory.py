"""Memory: of the machine, of the container, and what connections take of it."""

from __future__ import annotations

from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import PROCESS, Check, Finding, Load, Severity
from tidegate.doctor.fixes import Fix
from tidegate.text import size

__all__ = ["CHECKS"]

_FULL: Final = 0.97
_NEARLY_FULL: Final = 0.9
_SWAPPED: Final = 0.1  # of the memory
_SWAPPED_BYTES: Final = 16 << 20
_MIB: Final = 1 << 20


def memory(facts: Facts, load: Load) -> Finding | None:
    """The connections do not fit into the memory that is free.

    An idle connection takes about 0.8 KB in Tidegate and 4.2 KB in the kernel, and 15.5 KB more
    where TLS ends in Tidegate; a server without connections takes 64 MB. It is compared with what
    the machine has available, or with what is left of the limit of the container or service. What
    your own code keeps for a connection comes on top of it.
    """
    left, whose = _left(facts)
    if left is None or load.memory <= left:
        return None
    fit = max(0, (left - PROCESS) // load.each)
    return Finding(
        Severity.ERROR,
        f"{load.connections:,} connections take {size(load.memory)}, and {whose} has "
        f"{size(left)} left: about {fit:,} fit",
        f"Each takes {size(load.each)}, that of the kernel included{_tls(load)}. Beyond it the "
        f"kernel kills the process.",
        *_more(facts, load.memory + load.buffers, fit),
    )


def memory_buffers(facts: Facts, load: Load) -> Finding | None:
    """The connections fit while they are idle, but not with full buffers.

    `buffers.max_bytes` bounds unfinished messages and what waits for clients that do not read.
    """
    left, whose = _left(facts)
    if left is None or not load.memory <= left < load.memory + load.buffers:
        return None
    spare = max(1, (left - load.memory) * 3 // 4 // _MIB)
    return Finding(
        Severity.WARNING,
        f"{load.connections:,} idle connections fit, but buffers.max_bytes "
        f"({size(load.buffers)}) does not beside them: {whose} has {size(left)} left",
        "Slow clients may fill the buffers, and then the kernel kills the process.",
        *fixes.setting("buffers.max_bytes", f"{spare}MiB"),
    )


def memory_limit(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The container or service has nearly used up its memory, or was killed for that.

    A warning at 90 % of the limit, an error at 97 %; what the kernel can drop at once is left out.
    """
    group = facts.group
    share = (group.memory_used or 0) / group.memory if group.memory else 0.0
    if share < _NEARLY_FULL and not group.kills:
        return None
    killed = f", and {group.kills:,} processes were killed" if group.kills else ""
    return Finding(
        Severity.ERROR if share >= _FULL else Severity.WARNING,
        f"{fixes.place(facts)} has used {size(group.memory_used or 0)} of {size(group.memory or 0)}"
        f"{killed}",
        "At the limit the kernel kills a process, and all its clients come back at once.",
        *_more(facts, 2 * (group.memory or 0)),
    )


def swap(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The process, or much of the machine's memory, is in swap.

    Heartbeats touch every connection, so what was moved away must be read back each time.
    """
    process, machine = facts.process, facts.memory
    moved = (process.swapped or 0) if process else 0
    if moved > _SWAPPED_BYTES and process is not None:
        title = f"{size(moved)} of process {process.pid} are in swap"
    elif machine is not None and machine.swapped > _SWAPPED * machine.total:
        title = f"{size(machine.swapped)} of memory are in swap, of {size(machine.total)}"
    else:
        return None
    return Finding(
        Severity.WARNING,
        title,
        "The event loop waits for the disk, and all clients wait with it.",
        *fixes.sysctl(facts, "vm.swappiness", "1"),
    )


def huge_pages(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Transparent huge pages are on for every program.

    A process may then take up to 2 MB for each piece of memory that it touches, and the kernel
    stops it now and then to join pages. With many small objects, as connections are, it gains
    little.
    """
    if facts.memory is None or facts.memory.huge_pages != "always":
        return None
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    where = "  # on the host" if facts.container else ""
    return Finding(
        Severity.NOTE,
        "Transparent huge pages are on for every program",
        "Memory may look larger than it is, and the kernel may pause the process to join pages.",
        f"echo madvise | {fixes.sudo(facts)}tee {path}{where}",
        "transparent_hugepage=madvise  # in GRUB_CMDLINE_LINUX of /etc/default/grub",
    )


CHECKS: Final[tuple[Check, ...]] = (memory, memory_buffers, memory_limit, swap, huge_pages)


def _left(facts: Facts) -> tuple[int | None, str]:
    """The bytes that the server can have, and of what; what it has already is among them."""
    own = (facts.process.resident or 0) if facts.process else 0
    machine = facts.memory.available + own if facts.memory else None
    group = facts.group
    if group.memory is not None:
        limited = group.memory - (group.memory_used or 0) + own
        if machine is None or limited < machine:
            return min(limited, group.memory), fixes.place(facts).replace("The ", "the ")
    return machine, "the machine"


def _more(facts: Facts, wanted: int, fit: int | None = None) -> Fix:
    """More memory, or fewer connections."""
    mebibytes = -(-wanted * 5 // 4 // _MIB)
    fewer = "" if fit is None else fixes.setting("limits.connections", fit).fix
    if facts.group.memory is None:
        return Fix(fewer)
    if facts.container == "kubernetes":
        return Fix(
            f"resources: {{limits: {{memory: {mebibytes}Mi}}}}  # of the container", instead=fewer
        )
    if facts.container:
        return Fix(f"{facts.container} run --memory={mebibytes}m ...", instead=fewer)
    name = facts.unit.name if facts.unit else "tidegate.service"
    more = f"{fixes.sudo(facts)}systemctl set-property {name} MemoryMax={mebibytes}M"
    return Fix(more, instead=fewer)


def _tls(load: Load) -> str:
    return ", and most of it is OpenSSL's: let a proxy do TLS" if load.tls else ""
