"""What is to be deployed: the settings, how many connections, which nodes; and what follows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from tidegate.addresses import authority, unbracketed
from tidegate.core.settings import Settings
from tidegate.engine.descriptors import Shares
from tidegate.errors import UsageError

__all__ = ["File", "Node", "Plan", "parse_node", "parse_nodes"]

_ROUTE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LEAST_DESCRIPTORS: Final = 1024
_EVEN: Final = 1024  # limits are rounded up to a multiple of it
_OWN_BYTES: Final = 96 << 20  # the interpreter, the modules, and what grows with nothing
# An idle connection takes about 1.5 KB in the process and 3 KB in the kernel, which counts for the
# memory of a container. The rest is for what is on its way.
_CONNECTION_BYTES: Final = 12 << 10
_TLS_BYTES: Final = 16 << 10  # what OpenSSL keeps for a connection beside that


@dataclass(frozen=True, slots=True)
class Node:
    """Where one node listens for clients.

    Attributes:
        route: its `server.route`; empty where it has none.
    """

    host: str
    port: int
    route: str = ""

    def __str__(self) -> str:
        return authority(self.host, self.port)


@dataclass(frozen=True, slots=True)
class File:
    """One file that was written.

    Attributes:
        name: where it goes in a folder of its own, such as `grafana/dashboard.json`.
        text: its content.
        path: where it belongs on a machine; empty where it belongs to no machine.
    """

    name: str
    text: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What files are written for.

    Attributes:
        settings: those of each node.
        nodes: all nodes.
        version: the version of Tidegate that they run.
        program: the path of `tidegate` on the machine.
        tls: a PEM file with certificate chain and key, for proxies that end TLS; empty for none.
        valkey: whether a Valkey for all nodes is deployed beside them.
    """

    settings: Settings
    nodes: tuple[Node, ...]
    version: str
    program: str = "/usr/local/bin/tidegate"
    tls: str = ""
    valkey: bool = False

    def holding(self, connections: int) -> Plan:
        """The same with so many connections on each node."""
        limits = replace(self.settings.limits, connections=ceil(connections / self.workers))
        return replace(self, settings=replace(self.settings, limits=limits))

    @property
    def workers(self) -> int:
        """Processes of each node. One for each core counts as one: which machine is not known."""
        return max(1, self.settings.server.workers)

    @property
    def routed(self) -> bool:
        """Whether clients come back to their nodes by `server.route`."""
        return all(node.route for node in self.nodes)

    @property
    def spans(self) -> bool:
        """Whether limits hold over all nodes, so that none depends on where clients go."""
        url = self.settings.backplane.url
        counts = self.valkey or (
            url is not None and not url.startswith(("nats:", "tls:", "kafka", "ws"))
        )
        return counts and self.settings.fleet.limits

    @property
    def limit(self) -> int:
        """Connections of each process."""
        return self.settings.limits.connections

    @property
    def connections(self) -> int:
        """Connections on each node, in all its processes."""
        return self.limit * self.workers

    @property
    def all_connections(self) -> int:
        """Connections on all nodes together."""
        return self.connections * len(self.nodes)

    @property
    def descriptors(self) -> int:
        """The limit of descriptors with which a process holds its connections, and some spare."""
        limit = _rounded(max(_LEAST_DESCRIPTORS, self.limit + self.limit // 20))
        while Shares.of(limit).connections < self.limit:
            limit += _EVEN
        return limit

    @property
    def backlog(self) -> int:
        """Connections that the kernel queues for a node."""
        return self.settings.server.backlog

    @property
    def memory(self) -> int:
        """Memory of a node in MiB: its own, that of its connections, and of all buffers."""
        each = _CONNECTION_BYTES + (_TLS_BYTES if self.settings.tls.certificate else 0)
        needed = _OWN_BYTES + self.limit * each + self.settings.most_kept
        # Of workers, one more process supervises.
        needed = needed * self.workers + (_OWN_BYTES if self.workers > 1 else 0)
        return ceil(needed / (64 << 20)) * 64

    @property
    def two_admin_ports(self) -> str:
        """The admin ports of the two processes on one machine, without their last digit.

        8001 makes 8011 and 8012.
        """
        tens = self.settings.admin.port // 10 + 1
        return str(tens + 1 if tens == self.settings.server.port // 10 else tens)

    @property
    def drain_seconds(self) -> int:
        """The longest that a node takes to end after SIGTERM, and 5 s."""
        settings = self.settings
        if settings.drain.on_sigterm:
            return ceil(settings.drain.window + settings.server.close_timeout) + 5
        return ceil(settings.server.shutdown_timeout) + 5

    @property
    def silence(self) -> int:
        """Seconds after which a proxy may take a connection for dead: more than two pings apart.

        Under pressure pings are rarer (`zones.ping_interval`).
        """
        beat = self.settings.heartbeat
        slowest = max((beat.interval, *self.settings.zones.ping_interval))
        return ceil(2 * slowest + beat.timeout)

    @property
    def changed(self) -> Iterator[tuple[str, str]]:
        """Variables for the settings that are not the defaults, for nodes in containers.

        Secrets, addresses and paths of files are left out: these are not the same there.
        """
        for name, known, value in self.settings.items():
            if value == known.default or known.secret or known.sections or name in _LEFT_OUT:
                continue
            yield variable(name), _text(value)

    @property
    def secrets(self) -> Iterator[str]:
        """The names of secret settings that are set; `admin.token` always, containers need it."""
        for name, known, value in self.settings.items():
            if known.secret and (value or name == "admin.token") and name not in _LEFT_OUT:
                yield name


_LEFT_OUT: Final = (
    "server.host",
    "server.port",
    "server.route",
    "admin.enabled",
    "admin.host",
    "admin.port",
    "agent_check.host",
    "agent_check.port",
    "tls.certificate",
    "tls.key",
    "tls.key_password",
    "log.format",
    "proxies.trusted",
    "auth.public_key",
)


def variable(name: str) -> str:
    """The variable of the environment for a setting."""
    return f"TIDEGATE_{name.replace('.', '_').upper()}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def parse_node(text: str, port: int) -> Node:
    """Read `host:port`, `[::1]:8000` or a host; `port` is for those that name none.

    `route=` may stand in front, for nodes that have `server.route`.

    Raises:
        UsageError: it is none of them.
    """
    route, equals, where = text.rpartition("=")
    host, colon, number = where.rpartition(":")
    bare = not colon or where.endswith("]") or (":" in host and not host.startswith("["))
    if bare:
        host, number = where, str(port)
    host = unbracketed(host)
    good = host and not set(host) & set(" /\"'@#{}[]\\\n\t") and number.isascii()
    if not good or not number.isdigit() or not 0 < int(number) < 65536:
        raise UsageError(f"--node {text!r}: must be like 10.0.0.5:8000 or node-1:8000")
    if equals and not _ROUTE.fullmatch(route):
        raise UsageError(f"--node {text!r}: a route is 1 to 64 letters, digits, _ or -")
    return Node(host, int(number), route)


def parse_nodes(texts: Sequence[str], port: int) -> tuple[Node, ...]:
    """Read several nodes as `parse_node` does.

    Raises:
        UsageError: one is none, or routes are missing or not different.
    """
    nodes = tuple(parse_node(text, port) for text in texts)
    routes = [node.route.lower() for node in nodes if node.route]
    if routes and len(routes) < len(nodes):
        raise UsageError("--node: give all nodes a route, as in a=10.0.0.5:8000, or none of them")
    if len(set(routes)) < len(routes):
        raise UsageError("--node: routes must be different, also without regard to case")
    return nodes


def _rounded(number: int) -> int:
    return ceil(number / _EVEN) * _EVEN
