"""TCP: ports, memory of sockets, TIME_WAIT, orphans, keepalive."""

from __future__ import annotations

from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.text import duration, size

__all__ = ["CHECKS"]

_NEARLY_FULL: Final = 0.8
_PORTS: Final = 64_512  # 1024 to 65535
_PAGE_EACH: Final = 4096  # bytes: one page of buffers for each connection
_LARGE_DEFAULT: Final = 1 << 20
_LARGE_LEAST: Final = 1 << 16
_PATIENCE: Final = 60.0  # seconds: the timeout of many proxies and carriers


def port_range(facts: Facts, load: Load) -> Finding | None:
    """A proxy on this machine runs out of ports for its connections to the server.

    A connection is told from others by both addresses and both ports (RFC 9293 3.3.1). A server
    has the same port for all its clients, so the range does not bound it. A proxy opens one
    connection for each client, all from its own address to the same address and port of the
    server: each needs a port of `net.ipv4.ip_local_port_range`. A Unix socket needs none. It is a
    warning where `proxies.trusted` names this machine, and a note elsewhere.
    """
    if facts.network.ports is None:
        return None
    first, last = facts.network.ports
    span = last - first + 1
    if span >= load.connections or not load.proxy_here:
        if span >= load.connections or load.connections <= 0:
            return None
        return Finding(
            Severity.NOTE,
            f"A proxy on this machine could hold {span:,} connections to one address",
            "The server itself needs no such ports. A proxy needs one for each client "
            "(net.ipv4.ip_local_port_range), or a Unix socket.",
        )
    if load.connections <= _PORTS:
        fix = fixes.sysctl(facts, "net.ipv4.ip_local_port_range", "1024 65535")
    else:
        fix = fixes.setting("server.host", "unix:/run/tidegate/t.sock")
    return Finding(
        Severity.ERROR,
        f"The proxy on this machine has {span:,} ports for {load.connections:,} connections",
        "Each of its connections to the server takes a port. Beyond that it answers 502 or 503. "
        "A Unix socket takes none.",
        *fix,
    )


def tcp_memory(facts: Facts, load: Load) -> Finding | None:
    """The kernel has too little memory for the buffers of all sockets (`net.ipv4.tcp_mem`).

    It has three numbers, in pages: beyond the second the kernel makes windows smaller, beyond the
    third it drops data. An idle connection has no buffers. It is a warning where one page for each
    connection passes the second number, or 80 % of it are in use, and an error where it is passed.
    """
    network = facts.network
    if network.tcp_mem is None:
        return None
    _, pressure, _ = network.tcp_mem
    wanted = load.connections * _PAGE_EACH // network.page
    used = network.tcp_pages or 0
    if used >= _NEARLY_FULL * pressure:
        severity = Severity.ERROR if used >= pressure else Severity.WARNING
        title = (
            f"Buffers of TCP have {size(used * network.page)}, and beyond "
            f"{size(pressure * network.page)} the kernel makes windows smaller"
        )
    elif wanted > pressure:
        severity = Severity.WARNING
        title = (
            f"net.ipv4.tcp_mem lets TCP have {size(pressure * network.page)}: less than a page for "
            f"each of {load.connections:,} connections"
        )
    else:
        return None
    memory = facts.memory.total // network.page if facts.memory else 0
    target = max(2 * wanted, 2 * used, pressure)
    if memory:
        target = max(pressure, min(target, memory // 4))
    value = f"{target * 3 // 4} {target} {target * 3 // 2}"
    return Finding(
        severity,
        title,
        "Under pressure every connection becomes slow, and at the third number the kernel drops "
        "data and closes connections without a word.",
        *fixes.sysctl(facts, "net.ipv4.tcp_mem", value),
    )


def tcp_memory_drops(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Connections were reset since the boot because TCP had no memory left (`TCPAbortOnMemory`).

    Either `net.ipv4.tcp_mem` was used up, or there were more orphans than
    `net.ipv4.tcp_max_orphans`.
    """
    counters = facts.network.counters
    aborted, pressures = counters.get("TCPAbortOnMemory", 0), counters.get("TCPMemoryPressures", 0)
    if not aborted and not pressures:
        return None
    return Finding(
        Severity.WARNING if aborted else Severity.NOTE,
        f"TCP ran short of memory {pressures:,} times since the boot, and reset {aborted:,} "
        f"connections",
        "Clients that do not read fill the kernel's buffers. Lower outbox.kernel_bytes, or raise "
        "net.ipv4.tcp_mem. The line shows what is in use now.",
        "grep TCP: /proc/net/sockstat; sysctl net.ipv4.tcp_mem",
    )


def socket_buffers(facts: Facts, load: Load) -> Finding | None:
    """Each socket may take very much memory before the kernel holds it back.

    `net.ipv4.tcp_rmem` and `tcp_wmem` have a minimum, which a socket gets even under pressure, a
    default, and a maximum for fast connections. Advice for file servers sets all three to
    megabytes. A warning where a minimum is over 64 KiB or a default over 1 MiB.
    """
    defaults = {"tcp_rmem": "4096 131072 6291456", "tcp_wmem": "4096 16384 4194304"}
    for name, values in (("tcp_rmem", facts.network.rmem), ("tcp_wmem", facts.network.wmem)):
        if values is None or (values[0] <= _LARGE_LEAST and values[1] <= _LARGE_DEFAULT):
            continue
        return Finding(
            Severity.WARNING,
            f"net.ipv4.{name} gives each socket {size(max(values[0], values[1]))} from the start: "
            f"{size(max(values[:2]) * load.connections)} for {load.connections:,}",
            "Clients that send fast or do not read can take that much of the kernel's memory each.",
            *fixes.sysctl(facts, f"net.ipv4.{name}", defaults[name]),
        )
    return None


def time_wait(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """There are nearly as many connections in TIME_WAIT as may be.

    TIME_WAIT takes no descriptor and about 250 bytes. A server does not mind it. A proxy does: it
    keeps the port of the connection for a minute. Beyond `net.ipv4.tcp_max_tw_buckets` the kernel
    leaves it out, and late packets of an old connection can end a new one (RFC 1337).
    """
    network = facts.network
    overflowed = network.counters.get("TCPTimeWaitOverflow", 0)
    most, now = network.most_time_wait or 0, network.time_wait or 0
    full = bool(most) and now >= _NEARLY_FULL * most
    if not full and not overflowed:
        return None
    return Finding(
        Severity.WARNING if full else Severity.NOTE,
        f"{now:,} connections are in TIME_WAIT, of {most:,} that may be; {overflowed:,} did "
        f"without it since the boot",
        "It costs the server little, but a proxy on this machine runs out of ports. Let it keep "
        "its connections open, or use a Unix socket.",
        *fixes.sysctl(facts, "net.ipv4.tcp_max_tw_buckets", str(max(262_144, 2 * most))),
    )


def orphans(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Many connections are closed here, and their clients do not take what was sent last.

    Beyond `net.ipv4.tcp_max_orphans` the kernel resets them, so clients miss the close frame.
    """
    now, most = facts.network.orphans, facts.network.most_orphans
    if now is None or not most or now < _NEARLY_FULL * most:
        return None
    return Finding(
        Severity.WARNING,
        f"{now:,} of {most:,} connections that may be without a process are there",
        "Beyond it the kernel resets connections that are about to close. Each may hold 64 KB.",
        *fixes.sysctl(facts, "net.ipv4.tcp_max_orphans", str(2 * most)),
    )


def keepalive(facts: Facts, load: Load) -> Finding | None:
    """Nothing finds dead clients within a minute, and nothing keeps quiet ones alive.

    Proxies, firewalls and mobile carriers forget connections that are silent for 30 s to some
    minutes. `heartbeat.interval` over 60 s does not help against it. The keepalive of the kernel
    (`net.ipv4.tcp_keepalive_time`) begins after two hours, and only where a program asks for it.
    """
    if load.heartbeat <= _PATIENCE:
        return None
    kernel = ""
    if facts.network.keepalive is not None:
        first, interval, count = facts.network.keepalive
        kernel = f" The kernel's own keepalive would take {duration(first + interval * count)}."
    return Finding(
        Severity.WARNING,
        f"heartbeat.interval is {load.heartbeat:g} s: many proxies and carriers forget silent "
        f"connections before that",
        f"Their clients see 1006, and the server keeps dead connections for as long.{kernel}",
        *fixes.setting("heartbeat.interval", 30),
    )


CHECKS: Final[tuple[Check, ...]] = (
    *(port_range, tcp_memory, tcp_memory_drops, socket_buffers),
    *(time_wait, orphans, keepalive),
)
