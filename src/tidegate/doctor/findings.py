"""What a check finds, and the load that a machine is judged for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tidegate.addresses import unix_path
from tidegate.core.settings import Settings
from tidegate.costs import MEASURED
from tidegate.doctor.facts import Facts

__all__ = ["CONNECTION", "KERNEL", "PROCESS", "TLS", "Check", "Finding", "Load", "Severity"]

CONNECTION: Final = int(MEASURED.bytes_per_connection)
"""Bytes of an idle connection with a user and a room in Tidegate."""

KERNEL: Final = int(MEASURED.kernel_bytes_per_connection)
"""Bytes of an idle TCP socket in the kernel."""

TLS: Final = int(MEASURED.tls_bytes_per_connection)
"""Bytes that OpenSSL keeps for an idle connection beside that."""

PROCESS: Final = int(MEASURED.process_bytes)
"""Bytes of a server without connections."""


class Severity(IntEnum):
    """How bad a finding is; the highest one is the exit code of the doctor."""

    NOTE = 0
    """Good to know; nothing is wrong."""
    WARNING = 1
    """It will hurt under load, or has done so."""
    ERROR = 2
    """The load does not fit, or clients are refused or cut off now."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    severity: Severity
    title: str
    """What is wrong, with the figures."""
    why: str
    """Why it matters."""
    fix: str = ""
    """The line that fixes it now."""
    keep: str = ""
    """The line with which it stays so, where the first one lasts until a restart only."""
    instead: str = ""
    """Another way to fix it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a machine is judged for."""

    connections: int
    backlog: int = 4096
    heartbeat: float = 30.0
    """Seconds between two pings."""
    tls: bool = False
    """Whether TLS ends in Tidegate."""
    buffers: int = 128 << 20
    """Bytes that all outboxes and unfinished messages may have."""
    proxy_here: bool = False
    """Whether a proxy on the same machine connects over TCP."""

    @classmethod
    def of(cls, settings: Settings, connections: int | None = None) -> Load:
        """Return the load that settings allow, or that of so many connections under them."""
        over_tcp = any(unix_path(host) is None for host in settings.server.host)
        here = any(
            network.startswith(("127.", "::1", "localhost")) for network in settings.proxies.trusted
        )
        return cls(
            connections=settings.limits.connections if connections is None else connections,
            backlog=settings.server.backlog,
            heartbeat=settings.heartbeat.interval,
            tls=settings.tls.certificate is not None,
            buffers=settings.most_kept,
            proxy_here=over_tcp and here,
        )

    @property
    def each(self) -> int:
        """Bytes that an idle connection takes, the kernel's included."""
        return CONNECTION + KERNEL + (TLS if self.tls else 0)

    @property
    def memory(self) -> int:
        """Bytes that the server takes with all connections idle."""
        return PROCESS + self.connections * self.each


Check = Callable[[Facts, Load], Finding | None]
"""Looks at the facts; its name is the id of what it finds, its docstring the reference of it."""
