"""Facts about TCP and the firewall's table of connections, from `/proc`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

from tidegate.doctor.facts import Conntrack, Listener, Network
from tidegate.node.pressure.groups import number

__all__ = ["COUNTERS", "read_conntrack", "read_network"]

COUNTERS: Final = (
    *("ListenOverflows", "ListenDrops", "TCPReqQFullDrop"),
    *("TCPAbortOnMemory", "TCPMemoryPressures", "TCPTimeWaitOverflow", "PassiveOpens"),
)
"""The counters of `/proc/net/netstat` and `/proc/net/snmp` that checks look at."""

_LISTEN: Final = "0A"  # TCP_LISTEN, as /proc/net/tcp writes it


def read_network(root: Path, net: Path, *, sysctls: bool) -> Network:
    """Read the facts of a network namespace.

    Args:
        root: where ``proc`` is.
        net: its `/proc/PID/net`.
        sysctls: whether it is the namespace of this process: those of others cannot be read.
    """
    ipv4 = root / "proc/sys/net/ipv4"
    own = ipv4 if sysctls else Path("/nowhere")
    core = (root / "proc/sys/net/core") if sysctls else Path("/nowhere")
    sockets = _table(net / "sockstat")
    counters = {**_pairs(net / "netstat"), **_pairs(net / "snmp")}
    keepalive = [number(own / f"tcp_keepalive_{name}") for name in ("time", "intvl", "probes")]
    first, interval, probes = (value or 0 for value in keepalive)
    ports = _numbers(own / "ip_local_port_range")
    return Network(
        somaxconn=number(core / "somaxconn"),
        syn_backlog=number(own / "tcp_max_syn_backlog"),
        syncookies=number(own / "tcp_syncookies"),
        ports=(ports[0], ports[1]) if len(ports) == 2 else None,
        most_time_wait=number(own / "tcp_max_tw_buckets"),
        time_wait=sockets.get("tw"),
        most_orphans=number(own / "tcp_max_orphans"),
        orphans=sockets.get("orphan"),
        page=os.sysconf("SC_PAGE_SIZE"),
        # These three are the machine's.
        tcp_mem=_three(ipv4 / "tcp_mem"),
        tcp_pages=sockets.get("mem"),
        rmem=_three(own / "tcp_rmem"),
        wmem=_three(own / "tcp_wmem"),
        keepalive=(first, interval, probes) if first else None,
        migrate_req=number(own / "tcp_migrate_req"),
        abort_on_overflow=number(own / "tcp_abort_on_overflow"),
        counters={name: counters[name] for name in COUNTERS if name in counters},
        listeners=_listeners(net),
    )


def read_conntrack(root: Path, net: Path) -> Conntrack | None:
    """Read how full the table is; None where there is none, or it cannot be seen."""
    directory = root / "proc/sys/net/netfilter"
    count, most = (number(directory / f"nf_conntrack_{name}") for name in ("count", "max"))
    if count is None or not most:
        return None
    return Conntrack(
        count=count,
        most=most,
        established_timeout=number(directory / "nf_conntrack_tcp_timeout_established"),
        dropped=_conntrack_drops(net / "stat/nf_conntrack"),
    )


def _conntrack_drops(path: Path) -> int:
    """Packets dropped and connections forgotten early, over all processors."""
    try:
        header, *rows = path.read_text().splitlines()
    except (OSError, ValueError):
        return 0
    names = header.split()
    total = 0
    for row in rows:
        values = dict(zip(names, row.split(), strict=False))
        total += sum(int(values.get(name, "0"), 16) for name in ("drop", "early_drop"))
    return total


def _listeners(net: Path) -> tuple[Listener, ...]:
    """Ports with a queue of connections, or with several sockets on one address."""
    queues: Counter[int] = Counter()
    sockets: Counter[tuple[str, str]] = Counter()
    for name in ("tcp", "tcp6"):
        try:
            with (net / name).open() as table:
                next(table, None)
                for row in table:
                    _, local, _, state, queue, *_ = row.split(None, 5)
                    if state != _LISTEN:
                        continue
                    # For a socket that listens, the second is what waits to be accepted.
                    queues[int(local[-4:], 16)] += int(queue.partition(":")[2], 16)
                    sockets[name, local] += 1
        except (OSError, ValueError):
            continue
    several: dict[int, int] = {}
    for (_, local), count in sockets.items():
        port = int(local[-4:], 16)
        several[port] = max(several.get(port, 0), count)
    return tuple(
        Listener(port=port, queue=queues[port], sockets=several[port])
        for port in sorted(queues)
        if queues[port] or several[port] > 1
    )


def _table(path: Path) -> dict[str, int]:
    """The line `TCP: inuse 3 orphan 0 ...` of sockstat."""
    try:
        for line in path.read_text().splitlines():
            kind, *words = line.split()
            if kind == "TCP:":
                return {
                    name: int(value) for name, value in zip(words[::2], words[1::2], strict=False)
                }
    except (OSError, ValueError):
        pass
    return {}


def _pairs(path: Path) -> dict[str, int]:
    """Counters whose names are in one line and their values in the next."""
    found: dict[str, int] = {}
    try:
        lines = path.read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            if names.startswith(("TcpExt:", "Tcp:")):
                found.update(zip(names.split()[1:], map(int, values.split()[1:]), strict=False))
    except (OSError, ValueError):
        pass
    return found


def _numbers(path: Path) -> list[int]:
    try:
        return list(map(int, path.read_text().split()))
    except (OSError, ValueError):
        return []


def _three(path: Path) -> tuple[int, int, int] | None:
    values = _numbers(path)
    return (values[0], values[1], values[2]) if len(values) == 3 else None
