"""What is asked for, and of which machine."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

import msgspec

from tidegate.costs import MEASURED, Costs
from tidegate.errors import UsageError

__all__ = ["Machine", "Table", "Workload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A load."""

    connections: int
    rate: float
    """Messages a second that one connection sends."""
    published: float
    """Messages a second that no client sends: your backend does, in all."""
    size: float
    """Bytes of a message, without what the protocol adds."""
    room: float
    """Members that get a message."""
    tls: float
    """Share of the connections whose TLS ends in Tidegate, 0 to 1."""
    connects: float
    """New connections a second."""
    storm: float | None
    """Seconds within which all come back at once; None for no storm."""
    heartbeat: float
    """Seconds between two pings of a connection."""
    buffers: float
    """Bytes that all slow clients together may have in outboxes (`buffers.max_bytes`)."""

    @property
    def messages(self) -> float:
        """Messages a second, of all."""
        return self.connections * self.rate + self.published

    @property
    def deliveries(self) -> float:
        """Messages a second that are written to members."""
        return self.messages * self.room

    def of(self, connections: int) -> Workload:
        """The same with another number of connections; what your backend publishes stays."""
        scale = connections / self.connections
        return replace(self, connections=connections, connects=self.connects * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one machine has."""

    cores: float
    memory: float
    """Bytes that the server can have."""
    bandwidth: float
    """Bits a second, in each direction."""
    descriptors: int | None
    """The limit of one process; None for none."""
    sources: dict[str, str]
    """By the names above: where the figure is from."""


@dataclass(frozen=True, slots=True)
class Table:
    """Costs, and where each is from."""

    costs: Costs = MEASURED
    given: Set[str] = frozenset()
    """Names of the costs that came from a file; the others are of this build."""
    name: str = ""
    """Of the file."""

    @classmethod
    def load(cls, text: bytes, name: str) -> Table:
        """The costs of a file that `tidegate capacity --costs` wrote.

        What the file does not have, or has null for, is taken from this build's.

        Raises:
            UsageError: it holds something else.
        """
        try:
            costs = msgspec.json.decode(text, type=Costs)
            given = {key for key, value in msgspec.json.decode(text).items() if value is not None}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"--costs {name}: {error}") from None
        if costs.cpu_per_tls_handshake is None:
            costs = msgspec.structs.replace(
                costs, cpu_per_tls_handshake=MEASURED.cpu_per_tls_handshake
            )
        return cls(costs, given, name)

    def cost(self, key: str) -> float:
        """One figure: bytes or seconds."""
        return float(getattr(self.costs, key))

    def source(self, key: str) -> str:
        """Where it is from: the name of the file, or "measured" for this build."""
        return self.name if key in self.given else "measured"
