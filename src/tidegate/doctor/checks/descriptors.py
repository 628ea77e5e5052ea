"""File descriptors: of the process, of the service, and of the machine."""

from __future__ import annotations

from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.engine.descriptors import Shares

__all__ = ["CHECKS", "fitting", "needed"]

_OWN: Final = 32  # listeners, the poller, logs
_FULL: Final = 0.95
_NEARLY_FULL: Final = 0.8
_OURS: Final = "tidegate"
_PROXIES: Final = ("caddy", "envoy", "haproxy", "nginx", "traefik")


def descriptors(facts: Facts, load: Load) -> Finding | None:
    """Each connection takes a file descriptor, and the process may not have enough of them.

    Looks at the process of `--pid`, or else at the service `tidegate.service`, or else at what a
    server would get that is started from here: Tidegate raises its soft limit to the hard one
    (`ulimit -Hn`), other servers may not. A proxy needs two for each client. Tidegate keeps a
    [share](../guide/operations.md#file-descriptors) for attempts and the admin listener. In a
    container the limit is the engine's `--ulimit nofile`; pods inherit that of containerd.
    """
    process, unit = facts.process, facts.unit
    if process is None:
        return None
    each, ours = 1, True
    if process.pid is not None:
        limit, ours = process.soft, process.name == _OURS
        each = 2 if process.name in _PROXIES else 1
        subject = f"Process {process.pid} ({process.name})"
    elif unit is not None:
        limit, subject = unit.hard, unit.name
    else:
        limit, subject = process.hard, "A server that is started here"
    if limit is None:
        return None
    fit = fitting(limit) if ours else (limit - _OWN) // each
    if fit >= load.connections:
        return None
    why = (
        "A proxy has two connections for each client, and each is a file descriptor. "
        if each > 1
        else "Each connection is a file descriptor. "
    )
    return Finding(
        Severity.ERROR,
        f"{subject} may have {limit:,} descriptors: {max(0, fit):,} of {load.connections:,} "
        f"connections fit",
        f"{why}When they are used up, new clients are refused, and a program that does not expect "
        f"it stops accepting (EMFILE).",
        *fixes.descriptors(facts, needed(each * load.connections)),
    )


def descriptors_used(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """A running process has used up nearly all of its descriptors.

    Looks at the process of `--pid`: a warning at 80 % of its soft limit, an error at 95 %.
    """
    process = facts.process
    if process is None or process.used is None or process.soft is None:
        return None
    share = process.used / max(1, process.soft)
    if share < _NEARLY_FULL:
        return None
    return Finding(
        Severity.ERROR if share >= _FULL else Severity.WARNING,
        f"Process {process.pid} has {process.used:,} of {process.soft:,} descriptors open",
        "At the limit it can accept nobody, and open no file either.",
        *fixes.descriptors(facts, 2 * process.soft),
    )


def nr_open(facts: Facts, load: Load) -> Finding | None:
    """`fs.nr_open` is the highest value that a descriptor limit can have, and it is too low."""
    most, wanted = facts.descriptors.per_process, needed(load.connections, exact=True)
    if most is None or most >= wanted:
        return None
    return Finding(
        Severity.ERROR,
        f"fs.nr_open is {most:,}: no process may have the {wanted:,} descriptors that "
        f"{load.connections:,} connections need",
        "No hard limit can be raised beyond it, by root either.",
        *fixes.sysctl(facts, "fs.nr_open", str(needed(load.connections))),
    )


def file_max(facts: Facts, load: Load) -> Finding | None:
    """`fs.file-max` bounds the open files of the whole machine, and too few are left.

    An error when the load does not fit beside what is open, a warning when 80 % are in use.
    """
    machine = facts.descriptors
    if machine.most is None or machine.used is None:
        return None
    process = facts.process
    others = machine.used - ((process.used or 0) if process else 0)
    short = others + load.connections > machine.most
    if not short and machine.used < _NEARLY_FULL * machine.most:
        return None
    return Finding(
        Severity.ERROR if short else Severity.WARNING,
        f"The machine has {machine.used:,} of {machine.most:,} files open (fs.file-max)",
        "Beyond it, no program can open a file or accept a connection (ENFILE).",
        *fixes.sysctl(
            facts, "fs.file-max", str(2 * (others + needed(load.connections, exact=True)))
        ),
    )


CHECKS: Final[tuple[Check, ...]] = (descriptors, descriptors_used, nr_open, file_max)


def fitting(limit: int) -> int:
    """How many connections Tidegate holds with so many descriptors."""
    return max(0, Shares.of(limit).connections - _OWN)


def needed(connections: int, *, exact: bool = False) -> int:
    """The descriptors with which Tidegate holds so many connections.

    Args:
        exact: the least that will do; else the next power of two, which is easier to read.
    """
    low, high = connections, 2 * connections + 1024
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fitting(middle) >= connections else (middle + 1, high)
    return low if exact else 1 << (low - 1).bit_length()
