"""Connections of any server on this machine, from `/proc/net/tcp` and `/proc/net/tcp6`."""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from heapq import nlargest
from ipaddress import IPv6Address
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from tidegate.top.sample import Count, Kernel, Port

__all__ = ["KernelWatch"]

# The numbers of the states in the kernel's include/net/tcp_states.h, with the names of ss(8).
_STATES: Final = {
    "01": "estab",
    "02": "syn-sent",
    "03": "syn-recv",
    "04": "fin-wait-1",
    "05": "fin-wait-2",
    "06": "time-wait",
    "07": "close",
    "08": "close-wait",
    "09": "last-ack",
    "0B": "closing",
    "0C": "syn-recv",
}
_LISTEN: Final = "0A"
_TOP: Final = 10
# What an IPv4 address begins with in the table of IPv6: ::ffff:0:0/96, in words of this machine.
_MAPPED: Final = "0" * 16 + f"{struct.unpack('=I', bytes((0, 0, 255, 255)))[0]:08X}"


_EMPTY: Final = "00000000:00000000"


class _Socket(NamedTuple):
    """A row of the table, as text: there may be very many, and few numbers of them matter."""

    remote: str
    state: str
    queues: str
    """Bytes not sent and not read, in hexadecimal."""
    rest: str

    @property
    def unsent(self) -> int:
        return 0 if self.queues == _EMPTY else int(self.queues[:8], 16)

    @property
    def unread(self) -> int:
        return 0 if self.queues == _EMPTY else int(self.queues[9:], 16)

    @property
    def inode(self) -> str:
        return self.rest.split(None, 5)[4]


class KernelWatch:
    """Looks at the tables of TCP; each look also says what came since the one before.

    Args:
        ports: the ports to look at; empty for all that somebody listens on.
        root: where ``proc`` is.
    """

    def __init__(self, ports: Collection[int] = (), root: Path = Path("/")) -> None:
        self._wanted = frozenset(ports)
        self._root = root
        self._before: tuple[float, Counter[str]] | None = None
        self._owners: dict[str, str] = {}

    def read(self) -> Kernel | None:
        """Look once; None where there are no such tables."""
        net = self._root / "proc/net"
        if not (net / "tcp").exists():
            return None
        tables = _sockets(net)
        listening = {
            port: [each for each in sockets if each.state == _LISTEN]
            for port, sockets in tables.items()
        }
        numbers = self._wanted or {port for port, found in listening.items() if found}
        self._learn_owners({each.inode for port in numbers for each in listening.get(port, ())})
        ports = [self._port(number, tables.get(number, [])) for number in numbers]
        ports.sort(key=lambda port: (-sum(port.states.values()), port.port))
        opens, drops = self._rates(net)
        return Kernel(ports, opens, drops)

    def _port(self, number: int, sockets: list[_Socket]) -> Port:
        listening = [each for each in sockets if each.state == _LISTEN]
        open_ones = [each for each in sockets if each.state in _STATES]
        peers = Counter(each.remote.removeprefix(_MAPPED).partition(":")[0] for each in open_ones)
        behind = [each for each in open_ones if each.queues != _EMPTY]
        slowest = nlargest(_TOP, behind, key=lambda each: each.unsent)
        return Port(
            port=number,
            owner=next((self._owners[each.inode] for each in listening), ""),
            states=dict(Counter(_STATES[each.state] for each in open_ones)),
            # Of a socket that listens, "unread" is what waits to be accepted.
            queue=sum(each.unread for each in listening),
            unread=sum(each.unread for each in behind),
            unsent=sum(each.unsent for each in behind),
            top_addresses=[Count(_address(peer), count) for peer, count in peers.most_common(_TOP)],
            slowest=[Count(_peer(each.remote), each.unsent) for each in slowest if each.unsent],
        )

    def _rates(self, net: Path) -> tuple[float | None, float | None]:
        counters, now = _counters(net), monotonic()
        before, self._before = self._before, (now, counters)
        if before is None:
            return None, None
        seconds = max(1e-3, now - before[0])
        opens = (counters["PassiveOpens"] - before[1]["PassiveOpens"]) / seconds
        drops = (counters["ListenDrops"] - before[1]["ListenDrops"]) / seconds
        return max(0.0, opens), max(0.0, drops)

    def _learn_owners(self, inodes: set[str]) -> None:
        """Find the programs of listening sockets; each socket is looked for once."""
        missing = inodes - self._owners.keys()
        self._owners = {inode: self._owners.get(inode, "") for inode in inodes}
        if missing:
            for inode, name in _programs(self._root / "proc"):
                if inode in missing:
                    self._owners[inode] = name


def _sockets(net: Path) -> dict[int, list[_Socket]]:
    """All sockets by their port here."""
    found: dict[str, list[_Socket]] = defaultdict(list)
    for name in ("tcp", "tcp6"):
        try:
            with (net / name).open() as table:
                next(table, None)
                for row in table:
                    _, local, *columns = row.split(None, 5)
                    found[local[-4:]].append(_Socket(*columns))
        except (OSError, ValueError, TypeError):
            continue
    return {int(port, 16): sockets for port, sockets in found.items()}


def _counters(net: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for name in ("snmp", "netstat"):
        try:
            lines = (net / name).read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=False):
                if names.startswith(("Tcp:", "TcpExt:")):
                    pairs = zip(names.split()[1:], map(int, values.split()[1:]), strict=False)
                    found.update(dict(pairs))
        except (OSError, ValueError):
            continue
    return found


def _programs(proc: Path) -> Iterator[tuple[str, str]]:
    """The sockets of all programs that may be seen: inode and name."""
    for process in proc.iterdir() if proc.is_dir() else ():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_text().strip()
            for descriptor in os.scandir(process / "fd"):
                target = os.readlink(descriptor.path)
                if target.startswith("socket:["):
                    yield target[8:-1], name
        except OSError:  # it belongs to somebody else, or has ended
            continue


def _peer(text: str) -> str:
    address, _, port = text.removeprefix(_MAPPED).partition(":")
    shown = _address(address)
    return f"[{shown}]:{int(port, 16)}" if ":" in shown else f"{shown}:{int(port, 16)}"


def _address(text: str) -> str:
    """An address as /proc/net/tcp writes it: words of 32 bits in the order of this machine."""
    packed = b"".join(
        struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8)
    )
    return socket.inet_ntoa(packed) if len(packed) == 4 else str(IPv6Address(packed))
