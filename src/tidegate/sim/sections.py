"""The sections of a scenario file: what may stand in each, with its default."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting
from tidegate.sim.behaviours import BEHAVIOURS

__all__ = [
    "ArrivalPoint",
    "AutoscaleSection",
    "BalancerSection",
    "ClientsSection",
    "CostsSection",
    "FleetSection",
    "Happening",
    "LivenessSection",
    "LoadSection",
    "NetworkSection",
    "RunSection",
]

_DAY: Final = 86_400.0
_MOST: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class RunSection(Section):
    """The run itself."""

    section: ClassVar[str] = "run"
    duration: float = setting(300.0, "Virtual time.", unit="s", low=1, high=_DAY)
    seed: int = setting(1, "The same seed gives the same run.", low=0, high=1 << 31)
    exact: int = setting(
        100_000, "The most clients that are simulated one by one.", low=0, high=10_000_000
    )
    objects: int = setting(
        20_000,
        "Objects that stand for more clients than these, each for several that act alike.",
        low=100,
        high=10_000_000,
    )


@dataclass(frozen=True, slots=True)
class FleetSection(Section):
    """The nodes. A process with several workers is as many nodes."""

    section: ClassVar[str] = "fleet"
    nodes: int = setting(20, "Nodes at the start.", low=1, high=10_000)
    zones: int = setting(1, "Zones over which the nodes are spread.", low=1, high=100)
    boot: float = setting(
        "30s", "Time from the start of a node until it accepts.", unit="s", low=0, high=3600
    )
    memory: int = setting(
        0,
        "Memory of one node; one that needs more is killed. 0 for any.",
        unit="bytes",
        low=0,
        high=1 << 50,
    )
    speed: float = setting(
        1.0, "Speed of a node's core, of that of the measured one.", low=0.01, high=100
    )


@dataclass(frozen=True, slots=True)
class BalancerSection(Section):
    """The load balancer in front of the nodes, and its health checks."""

    section: ClassVar[str] = "balancer"
    algorithm: str = setting(
        "round-robin",
        "How a node is chosen; agent-check goes by the weights that nodes ask for.",
        choices=("round-robin", "least-connections", "agent-check", "sticky"),
    )
    interval: float = setting(
        2.0, "Time between two checks of a node.", unit="s", low=0.1, high=3600
    )
    timeout: float = setting(
        1.0, "Time in which a node must answer a check.", unit="s", low=0.01, high=3600
    )
    fall: int = setting(3, "Failed checks in a row that take a node out.", low=1, high=1000)
    rise: int = setting(2, "Good checks in a row that bring it back.", low=1, high=1000)
    redispatch: bool = setting(
        True, "Whether an attempt that a node does not accept goes to another node."
    )


@dataclass(frozen=True, slots=True)
class LivenessSection(Section):
    """Who restarts a node that does not answer, such as Kubernetes (the defaults are its own)."""

    section: ClassVar[str] = "liveness"
    enabled: bool = setting(True, "Whether a node that does not answer is restarted.")
    interval: float = setting(10.0, "Time between two probes.", unit="s", low=0.1, high=3600)
    timeout: float = setting(
        1.0, "Time in which a node must answer.", unit="s", low=0.01, high=3600
    )
    fall: int = setting(3, "Failed probes in a row until the restart.", low=1, high=1000)


@dataclass(frozen=True, slots=True)
class AutoscaleSection(Section):
    """Nodes that are added when the others are busy."""

    section: ClassVar[str] = "autoscale"
    enabled: bool = setting(False, "Whether nodes are added.")
    cpu: float = setting(0.7, "Mean share of the CPU that is aimed at.", low=0.01, high=1)
    interval: float = setting(30.0, "Time between two decisions.", unit="s", low=1, high=_DAY)
    most: int = setting(100, "The most nodes.", low=1, high=10_000)


@dataclass(frozen=True, slots=True)
class LoadSection(Section):
    """What a connected client does."""

    section: ClassVar[str] = "load"
    messages: float = setting(0.05, "Messages a second that a client sends.", low=0, high=100_000)
    room: float = setting(10.0, "Members that get a message.", low=0, high=10_000_000)
    size: float = setting(200.0, "Size of a message.", unit="bytes", low=0, high=1 << 30)
    tls: float = setting(0.0, "Share of the clients whose TLS ends in the node.", low=0, high=1)
    stay: float = setting(
        "30m",
        "Mean time that a client stays connected; another one comes then. 0 for ever.",
        unit="s",
        low=0,
        high=365 * _DAY,
    )


@dataclass(frozen=True, slots=True)
class NetworkSection(Section):
    """The network between clients and nodes."""

    section: ClassVar[str] = "network"
    rtt: float = setting(0.05, "Round trip.", unit="s", low=0, high=10)
    loss: float = setting(0.0, "Share of the first packets that are lost.", low=0, high=1)
    backplane: float = setting(
        "1ms",
        "Time until the backplane has answered a node, where there are limits over the fleet.",
        unit="s",
        low=0,
        high=60,
    )


def _cost(doc: str) -> float | None:
    cost: float | None = setting(None, doc + " [default: as measured]", low=0, high=60)
    return cost


@dataclass(frozen=True, slots=True)
class CostsSection(Section):
    """Seconds of CPU, where they are not those of this build or of a file."""

    section: ClassVar[str] = "costs"
    file: str | None = setting(
        None, "JSON file that `tidegate capacity --costs` wrote; beside the scenario."
    )
    cpu_per_connect: float | None = _cost("Of an attempt that is admitted, without TLS.")
    cpu_per_tls_handshake: float | None = _cost("That TLS adds to an attempt.")
    cpu_per_refusal: float = setting(
        60e-6, "Of an attempt that is refused, without TLS.", low=0, high=60
    )
    cpu_per_abandoned: float = setting(
        30e-6, "Of an attempt whose client has gone before it was its turn.", low=0, high=60
    )
    cpu_per_end: float = setting(50e-6, "Of the end of a connection.", low=0, high=60)
    cpu_per_message: float | None = _cost("Of reading one message.")
    cpu_per_delivery: float | None = _cost("Of writing one message to one member.")
    cpu_per_heartbeat: float | None = _cost("Of a ping and its pong.")
    application: float = setting(
        0.0, "That an application spends on each client that is admitted.", low=0, high=60
    )


@dataclass(frozen=True, slots=True)
class ArrivalPoint(Section):
    """A point of an arrival curve."""

    section: ClassVar[str] = "arrive"
    at: float = setting(0.0, "When.", unit="s", low=0, high=_DAY)
    rate: float = setting(0.0, "New clients a second then.", low=0, high=1_000_000)


@dataclass(frozen=True, slots=True)
class ClientsSection(Section):
    """Clients of one kind."""

    section: ClassVar[str] = "clients"
    count: int = setting(10_000, "How many there are at the start.", low=0, high=_MOST)
    behaviour: str = setting(
        "tidegate", "Which client they use, for how it comes back.", choices=tuple(BEHAVIOURS)
    )
    per_address: int = setting(1, "How many share an address.", low=1, high=_MOST)
    tier: str | None = setting(None, "The tier of their tokens.")
    priority: int = setting(0, "The priority of their tokens.", low=0, high=100)
    connected: bool = setting(True, "Whether they are connected at the start.")
    arrive: tuple[ArrivalPoint, ...] = setting(
        (),
        "How many more come, and leave for good after `load.stay`: points of time and rate, with "
        "an even change between them. Without any, another client comes for each that leaves.",
    )

    def _check(self) -> None:
        if not self.count and not self.arrive:
            raise self.error("count", "must be 1 or more, where none arrive")
        times = [point.at for point in self.arrive]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise self.error("arrive", "each point must be later than the one before it")


KINDS: Final = (
    "death",
    "deploy",
    "zone-outage",
    "blip",
    "slow",
    "leak",
    "flash-crowd",
    "retry-bug",
)


@dataclass(frozen=True, slots=True)
class Happening(Section):
    """Something that happens."""

    section: ClassVar[str] = "happenings"
    at: float = setting(30.0, "When.", unit="s", low=0, high=_DAY)
    kind: str = setting("death", "What.", choices=KINDS)
    nodes: int = setting(
        1, "Nodes that it happens to (death, slow, leak); at a time (deploy).", low=1, high=10_000
    )
    zone: int = setting(1, "The zone that fails, from 1.", low=1, high=100)
    duration: float = setting(
        "60s", "How long it lasts, or takes to come.", unit="s", low=0, high=_DAY
    )
    share: float = setting(1.0, "Share of the clients (blip, retry-bug).", low=0, high=1)
    factor: float = setting(
        10.0,
        "How many times as many clients (flash-crowd), or as slow (slow).",
        low=1,
        high=10_000,
    )
    rate: int = setting(
        "10MiB", "Bytes a second that are lost (leak).", unit="bytes", low=0, high=1 << 40
    )
    mode: str = setting(
        "rolling",
        "How a deploy goes: node after node, or to as many new nodes at once.",
        choices=("rolling", "blue-green"),
    )
    where: str = setting(
        "clients",
        "What is cut by a blip: clients from the network, or the balancer from the nodes.",
        choices=("clients", "balancer"),
    )
    restarts: bool = setting(True, "Whether nodes that died are started again.")
