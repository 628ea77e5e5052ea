"""What the doctor knows of a machine, as values: read from it, or recorded in a file.

None means that it could not be seen; `Facts.unseen` says why where that is worth knowing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from tidegate.errors import UsageError

__all__ = [
    "Backplane",
    "Conntrack",
    "Container",
    "Descriptors",
    "Facts",
    "Group",
    "Kernel",
    "Listener",
    "Memory",
    "Network",
    "Process",
    "Through",
    "Time",
    "Unit",
    "dump",
    "load",
]


Container: TypeAlias = Literal["", "docker", "kubernetes", "podman"]
"""What a process runs in."""


class _Fact(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One group of facts. Unknown names in a file are an error: a misspelt fact would be none."""


class Kernel(_Fact, frozen=True):
    """The system."""

    system: str = "Linux"
    release: str = ""
    cpus: int | None = None
    """Processors that this process may use."""


class Descriptors(_Fact, frozen=True):
    """File descriptors of the whole machine (proc_sys_fs(5))."""

    per_process: int | None = None
    """`fs.nr_open`, the most that a hard limit can be."""
    most: int | None = None
    """`fs.file-max`."""
    used: int | None = None


class Process(_Fact, frozen=True):
    """The process that is judged: that of `--pid`, or one that would be started from here."""

    pid: int | None = None
    """None where there is none yet."""
    name: str = ""
    soft: int | None = None
    """The soft limit of descriptors; None for no limit."""
    hard: int | None = None
    used: int | None = None
    """Descriptors that are open."""
    resident: int | None = None
    """Bytes in memory."""
    swapped: int | None = None
    """Bytes that were moved to swap."""


class Unit(_Fact, frozen=True):
    """A service of systemd."""

    name: str
    hard: int | None = None
    """`LimitNOFILE=`; None for no limit."""
    soft: int | None = None
    """`LimitNOFILESoft=`."""


class Listener(_Fact, frozen=True):
    """A TCP port that somebody listens on."""

    port: int
    queue: int = 0
    """Connections that wait to be accepted, over all its sockets."""
    sockets: int = 1
    """Sockets that listen on the same address and port (SO_REUSEPORT); the most of any address."""


class Network(_Fact, frozen=True):
    """TCP of this network namespace (tcp(7), and ip-sysctl of the kernel's documentation)."""

    somaxconn: int | None = None
    syn_backlog: int | None = None
    syncookies: int | None = None
    ports: tuple[int, int] | None = None
    """First and last port of outgoing connections."""
    most_time_wait: int | None = None
    time_wait: int | None = None
    most_orphans: int | None = None
    orphans: int | None = None
    page: int = 4096
    """Bytes of a page, the unit of `tcp_mem` and `tcp_pages`."""
    tcp_mem: tuple[int, int, int] | None = None
    """Pages: below no pressure, pressure, most."""
    tcp_pages: int | None = None
    """Pages in use."""
    rmem: tuple[int, int, int] | None = None
    wmem: tuple[int, int, int] | None = None
    keepalive: tuple[int, int, int] | None = None
    """Seconds to the first probe, seconds between two, and how many."""
    migrate_req: int | None = None
    abort_on_overflow: int | None = None
    counters: dict[str, int] = {}
    """Counts since the boot, by their names in `/proc/net/netstat` (only those looked at)."""
    listeners: tuple[Listener, ...] = ()
    """Ports with a queue, or with several sockets."""


class Conntrack(_Fact, frozen=True):
    """The table of connections of the firewall (nf_conntrack)."""

    count: int
    most: int
    established_timeout: int | None = None
    """Seconds after which a silent connection is forgotten."""
    dropped: int = 0
    """Packets dropped or connections forgotten early because the table was full, since the boot."""


class Memory(_Fact, frozen=True):
    """Memory of the machine, in bytes."""

    total: int
    available: int
    """What programs can still have without swapping."""
    swap: int = 0
    swapped: int = 0
    huge_pages: str = ""
    """Transparent huge pages: always, madvise or never."""


class Group(_Fact, frozen=True):
    """The control group that limits the process, with the tightest limits of those above it."""

    version: int = 2
    memory: int | None = None
    """Bytes that it may have; None for no limit."""
    memory_used: int | None = None
    """Its working set."""
    kills: int = 0
    """Processes that were killed because it had no memory left."""
    cpus: float | None = None
    """Processors' worth of time that it may have; None for no limit."""
    periods: int = 0
    throttled: int = 0
    """Periods in which it had to wait, of `periods`."""


class Time(_Fact, frozen=True):
    """Clock and randomness."""

    source: str = ""
    sources: tuple[str, ...] = ()
    synchronized: bool | None = None
    entropy: int | None = None
    """Bits that the kernel says it has; 256 is full since Linux 5.18."""


class Through(_Fact, frozen=True):
    """What a proxy in front did with connections through it."""

    url: str
    server: str = ""
    """The header `Server` of what answered."""
    error: str = ""
    """Why there was no response; empty where there was one."""
    status: int | None = None
    """Status of an ordinary attempt."""
    reason: str = ""
    """`X-Rejection-Reason` of it: Tidegate itself answered."""
    subprotocol: bool | None = None
    """Whether our subprotocol was agreed on."""
    native: bool = False
    """Whether Tidegate answered in its native protocol."""
    page_status: int | None = None
    """Status of an attempt from a page of the same host."""
    page_reason: str = ""
    foreign_status: int | None = None
    """Status of an attempt from a page of another site."""
    foreign_reason: str = ""
    own_address: str = ""
    """The address that the attempts came from."""
    seen_address: str = ""
    """The address that the server has of them; empty where the admin API could not be asked."""
    forged_address: str = ""
    """The address that `X-Forwarded-For` of the attempt claimed."""
    largest_head: int | None = None
    """Bytes of the largest request head that went through."""
    refused_head: int | None = None
    """Bytes of the smallest that did not."""
    refused_head_status: int | None = None
    round_trip: float | None = None
    """Seconds from a ping to its pong, the slowest of several; None if one did not come."""
    held: float | None = None
    """Seconds that a quiet connection was held."""
    cut: bool = False
    """Whether it broke in that time."""
    close_code: int | None = None
    """The code of the close frame that it broke with; None without one."""
    pings: int = 0
    """Pings of the server in that time."""
    longest_silence: float = 0.0
    """Seconds without a byte, the longest stretch, and the last one where it broke."""
    certificate_days: float | None = None
    """Days for which the certificate is still valid."""


class Backplane(_Fact, frozen=True):
    """The server between the nodes."""

    url: str
    """Without user and password."""
    error: str = ""
    """Why it cannot be used; empty where it can."""
    server: str = ""
    """`valkey`, `redis` or `kafka`; of Kafka no more is known than how far away it is."""
    version: str = ""
    role: str = ""
    """`master` or `slave`."""
    replicas: int = 0
    memory: int | None = None
    """Bytes that it may use; None for no bound."""
    memory_used: int = 0
    policy: str = ""
    """`maxmemory-policy`."""
    appends: bool = False
    """Whether it writes down every command (AOF)."""
    saves: bool | None = None
    """Whether it saves now and then (RDB)."""
    round_trip: float | None = None
    """Seconds from a ping to its answer, the slowest of several."""


class Facts(_Fact, frozen=True):
    """All that is known."""

    root: bool = False
    """Whether they were read as root; if not, commands that need it begin with sudo."""
    writable: bool = False
    """Whether sysctls can be changed from here: in most containers they cannot."""
    container: Container = ""
    """Empty outside."""
    kernel: Kernel = Kernel()
    descriptors: Descriptors = Descriptors()
    process: Process | None = None
    unit: Unit | None = None
    network: Network = Network()
    conntrack: Conntrack | None = None
    memory: Memory | None = None
    group: Group = Group()
    time: Time = Time()
    through: Through | None = None
    backplane: Backplane | None = None
    unseen: tuple[str, ...] = ()
    """What could not be read, and why."""


def load(text: bytes) -> Facts:
    """Facts from a file that `dump` wrote.

    Raises:
        UsageError: it holds something else.
    """
    try:
        return msgspec.json.decode(text, type=Facts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"these are no facts of a machine: {error}") from None


def dump(facts: Facts) -> bytes:
    """Facts as JSON, to be kept or edited."""
    return msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"
