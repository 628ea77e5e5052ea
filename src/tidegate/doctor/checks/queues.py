"""The queues in front of `accept`: SYN queue and accept queue."""

from __future__ import annotations

from typing import Final

from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity

__all__ = ["CHECKS"]

_MANY: Final = 0.001  # of all connections
_FULL: Final = 0.5  # of somaxconn
_ALWAYS: Final = 2


def somaxconn(facts: Facts, load: Load) -> Finding | None:
    """`net.core.somaxconn` caps the accept queue below `server.backlog`.

    The queue holds connections that the kernel has opened and the server has not taken yet. After a
    restart or a network failure, thousands come within a few milliseconds. Every server on the
    machine has this cap. It counts when a server begins to listen: restart it afterwards.
    """
    value = facts.network.somaxconn
    if value is None or value >= load.backlog:
        return None
    return Finding(
        Severity.WARNING,
        f"net.core.somaxconn is {value:,}: the backlog of {load.backlog:,} is cut to it",
        "When many clients connect at once, the kernel drops those that do not fit into the queue, "
        "and each tries again after 1, 3 and 7 s. Restart the server after the change.",
        *fixes.sysctl(facts, "net.core.somaxconn", str(load.backlog)),
    )


def syn_backlog(facts: Facts, load: Load) -> Finding | None:
    """Half-open connections are dropped, because there are no SYN cookies for them.

    With `net.ipv4.tcp_syncookies = 1`, the default, `tcp_max_syn_backlog` does not matter: the
    kernel answers with a cookie when the queue is full. With 0 it drops. With 2, which is for
    tests, it always sends cookies, which lose window scaling and selective acknowledgements.
    """
    network = facts.network
    if network.syncookies == _ALWAYS:
        title = "net.ipv4.tcp_syncookies is 2: every connection is opened by a cookie"
        why = "A cookie loses TCP options: large windows and selective acknowledgements are off."
    elif network.syncookies == 0 and (network.syn_backlog or 0) < load.backlog:
        title = (
            f"net.ipv4.tcp_syncookies is off, and only {network.syn_backlog or 0:,} connections "
            f"may be half open"
        )
        why = "A burst of connects or a SYN flood fills the queue, and real clients are dropped."
    else:
        return None
    return Finding(
        Severity.WARNING, title, why, *fixes.sysctl(facts, "net.ipv4.tcp_syncookies", "1")
    )


def listen_overflows(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Connections were dropped since the boot because an accept queue was full.

    `ListenOverflows` in `/proc/net/netstat`. A warning at one in a thousand connections, a note
    below that. The count is of all servers in this network namespace, and stays until the next
    boot: see whether it still grows.
    """
    counters = facts.network.counters
    dropped = counters.get("ListenOverflows", 0)
    if not dropped:
        return None
    opened = counters.get("PassiveOpens", 0)
    many = dropped >= _MANY * (opened + dropped)
    return Finding(
        Severity.WARNING if many else Severity.NOTE,
        f"{dropped:,} connections were dropped since the boot: an accept queue was full",
        "Each of these clients waited for a second or longer. A server did not accept fast enough, "
        "or its backlog is too small. The line shows whether the count still grows.",
        "nstat -z TcpExtListenOverflows TcpExtListenDrops; sleep 10; nstat TcpExtListenOverflows",
    )


def syn_drops(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Half-open connections were dropped since the boot (`TCPReqQFullDrop`)."""
    dropped = facts.network.counters.get("TCPReqQFullDrop", 0)
    if not dropped or facts.network.syncookies == 0:  # syn_backlog says that they are off
        return None
    return Finding(
        Severity.NOTE,
        f"{dropped:,} half-open connections were dropped since the boot",
        "SYN cookies were off at that time, or a program asked the kernel for none.",
        "nstat -z TcpExtTCPReqQFullDrop TcpExtTCPReqQFullDoCookies",
    )


def accept_queue(facts: Facts, load: Load) -> Finding | None:
    """Connections wait to be accepted just now, and the queue is half full or more."""
    room = min(facts.network.somaxconn or load.backlog, load.backlog)
    worst = max(facts.network.listeners, key=lambda each: each.queue, default=None)
    if worst is None or worst.queue < _FULL * room:
        return None
    return Finding(
        Severity.ERROR,
        f"{worst.queue:,} connections wait on port {worst.port} to be accepted",
        "What listens there is too slow, or hangs. Clients connect and get no answer. The line "
        "shows the program.",
        f"{fixes.sudo(facts)}ss -ltnp 'sport = :{worst.port}'",
    )


def abort_on_overflow(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """`net.ipv4.tcp_abort_on_overflow` resets clients for which the accept queue has no room."""
    if facts.network.abort_on_overflow != 1:
        return None
    return Finding(
        Severity.WARNING,
        "net.ipv4.tcp_abort_on_overflow is on: a full accept queue resets clients",
        "Without it the kernel lets a client try again, and a burst of a second passes unseen.",
        *fixes.sysctl(facts, "net.ipv4.tcp_abort_on_overflow", "0"),
    )


def migrate_req(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Several processes listen on one port, and a restart of one resets those in its queue.

    With SO_REUSEPORT each socket has a queue of its own. With `net.ipv4.tcp_migrate_req = 1`
    (Linux 5.14) the kernel gives what waits in the queue of a closed one to the others.
    """
    shared = [each for each in facts.network.listeners if each.sockets > 1]
    if facts.network.migrate_req != 0 or not shared:
        return None
    ports = ", ".join(str(each.port) for each in shared)
    return Finding(
        Severity.WARNING,
        f"Several sockets listen on port {ports}, and net.ipv4.tcp_migrate_req is off",
        "When one of the processes ends, the clients in its queue are reset, although others could "
        "take them.",
        *fixes.sysctl(facts, "net.ipv4.tcp_migrate_req", "1"),
    )


CHECKS: Final[tuple[Check, ...]] = (
    *(somaxconn, syn_backlog, listen_overflows, syn_drops),
    *(accept_queue, abort_on_overflow, migrate_req),
)
