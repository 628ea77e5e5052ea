"""The firewall's table of connections (nf_conntrack)."""

from __future__ import annotations

from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.text import duration

__all__ = ["CHECKS"]

_NEARLY_FULL: Final = 0.8
_FULL: Final = 0.95


def conntrack(facts: Facts, load: Load) -> Finding | None:
    """The firewall's table of connections is full, or too small for the load.

    When it is full, the kernel drops packets of all new connections, of SSH too, and only
    `nf_conntrack: table full, dropping packet` in its log says so. A warning at 80 % or where the
    load does not fit beside what is in it, an error at 95 %. It is there where a firewall with
    states, NAT or Docker is; the count is that of this network namespace.
    """
    table = facts.conntrack
    if table is None:
        return None
    share = table.count / table.most
    if share >= _NEARLY_FULL:
        severity = Severity.ERROR if share >= _FULL else Severity.WARNING
        title = f"The firewall's table has {table.count:,} of {table.most:,} connections"
    elif load.connections > table.most:
        severity = Severity.ERROR
        title = (
            f"The firewall's table holds {table.most:,} connections, and "
            f"{load.connections:,} should be held"
        )
    else:
        return None
    wanted = 1 << (2 * max(table.count, load.connections) - 1).bit_length()
    return Finding(
        severity,
        title,
        "When it is full the kernel drops every new connection to this machine, silently for the "
        "client: it times out.",
        *fixes.sysctl(facts, "net.netfilter.nf_conntrack_max", str(wanted)),
    )


def conntrack_drops(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Packets were dropped since the boot because the firewall's table was full."""
    table = facts.conntrack
    if table is None or not table.dropped:
        return None
    return Finding(
        Severity.WARNING,
        f"The firewall dropped {table.dropped:,} packets or connections since the boot: its table "
        f"was full",
        "Each was a client that could not connect, or one that was forgotten early. The line shows "
        "when it was.",
        f"{fixes.sudo(facts)}dmesg -T | grep 'table full'",
    )


def conntrack_timeout(facts: Facts, load: Load) -> Finding | None:
    """The firewall forgets quiet connections before the next heartbeat.

    `nf_conntrack_tcp_timeout_established` is five days by default. Some set it to a minute to keep
    the table small.
    """
    table = facts.conntrack
    if table is None or table.established_timeout is None:
        return None
    if table.established_timeout > load.heartbeat:
        return None
    return Finding(
        Severity.ERROR,
        f"The firewall forgets connections that are silent for "
        f"{duration(table.established_timeout)}, and heartbeats come every {load.heartbeat:g} s",
        "Packets of a forgotten connection are dropped: the client sees 1006, or nothing at all.",
        *fixes.sysctl(
            facts,
            "net.netfilter.nf_conntrack_tcp_timeout_established",
            str(int(max(3600, 4 * load.heartbeat))),
        ),
    )


CHECKS: Final[tuple[Check, ...]] = (conntrack, conntrack_drops, conntrack_timeout)
