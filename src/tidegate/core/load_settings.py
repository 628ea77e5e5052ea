"""The settings of load: how much there may be, and what happens when it is too much.

Part of ``core.settings``, which is where to import them from. The words on a default say why it
is what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from tidegate.core.fields import Section, setting

__all__ = [
    "POLICIES",
    "BreakerSettings",
    "DrainSettings",
    "LimitsSettings",
    "MessagesSettings",
    "OutboxSettings",
    "PacingSettings",
    "SheddingSettings",
    "Tier",
    "WaitingRoomSettings",
    "ZonesSettings",
]

POLICIES: Final = (
    *("breaker", "pacing", "shedding"),
    *("connections", "per_ip", "per_user", "tiers"),
    "messages",
)
"""What can be tried out without effect (``limits.dry_run``), by the name of its setting."""

_ALL: Final = "all"
_MOST: Final = 10_000_000
_FASTEST: Final = 1_000_000
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class LimitsSettings(Section):
    """How many connections there may be. 0 means none at all."""

    section: ClassVar[str] = "limits"
    connections: int = setting(10_000, "Connections on this server.", low=0, high=_MOST)
    per_ip: int = setting(100, "Connections from one address.", low=0, high=_MOST)
    per_user: int = setting(10, "Connections of one user.", low=0, high=_MOST)
    per_room: int = setting(10_000, "Connections in one room.", low=0, high=_MOST)
    rooms_per_connection: int = setting(100, "Rooms that a connection is in.", low=0, high=10_000)
    dry_run: tuple[str, ...] = setting(
        (),
        "Policies whose refusals are counted and logged, but not done.",
        choices=(*POLICIES, _ALL),
    )

    def is_dry(self, policy: str) -> bool:
        """Whether one of POLICIES is only tried out."""
        return policy in self.dry_run or _ALL in self.dry_run


@dataclass(frozen=True, slots=True)
class Tier(Section):
    """The limits of one tier of users, as the ``tier`` claim of their tokens names it."""

    section: ClassVar[str] = "tiers.*"
    per_user: int | None = setting(
        None,
        "Connections of one user of this tier, in place of limits.per_user.",
        low=0,
        high=_MOST,
    )
    connections: int | None = setting(
        None, "Connections of all users of this tier together.", low=0, high=_MOST
    )
    reserved: float = setting(
        0.0, "Share of limits.connections that is kept for this tier.", low=0, high=1
    )


@dataclass(frozen=True, slots=True)
class PacingSettings(Section):
    """How fast new connections are let in. Whoever is too early is given a time to come back."""

    section: ClassVar[str] = "pacing"
    enabled: bool = setting(
        True, "Whether new connections are paced; on, since a herd would stall those who are in."
    )
    rate: float = setting(
        2000.0,
        "New connections a second; half of what a core takes with tokens; 10,000 are back in 5 s.",
        low=0.1,
        high=_FASTEST,
    )
    burst: int = setting(
        1000,
        "New connections that may come at once; 1,000 are half a second's worth.",
        low=1,
        high=_MOST,
    )


def _range(low: float, high: float, doc: str, *, most: float, unit: str = "") -> Any:
    doc += " at which the pressure is 0 and at which it is 1; empty to leave it out."
    return setting((low, high), doc, unit=unit, low=0, high=most, length=2)


@dataclass(frozen=True, slots=True)
class SheddingSettings(Section):
    """What pressure is, and who is refused under it. Measured and shown also when off."""

    section: ClassVar[str] = "shedding"
    enabled: bool = setting(
        False,
        "Whether pressure refuses and closes connections; off, since a busy core may be normal.",
    )
    warning: float = setting(
        0.70, "Pressure that is a warning; 0.70 leaves time to act.", low=0.01, high=1
    )
    critical: float = setting(
        0.85, "Pressure that is critical; 0.85 is past any normal peak.", low=0.01, high=1
    )
    emergency: float = setting(
        0.95, "Pressure that is an emergency; 0.95 is the last moment to help.", low=0.01, high=1
    )
    hysteresis: float = setting(
        0.05,
        "How far below its threshold a zone is left; 0.05 is more than signals tremble.",
        low=0,
        high=0.5,
    )
    hold: float = setting(
        5.0,
        "Time below it before a zone is left; 5 s outlast a gap between bursts.",
        unit="s",
        low=0,
        high=3600,
    )
    smoothing: float = setting(
        2.0,
        "Time over which CPU and loop lag are averaged; one busy second is no emergency.",
        unit="s",
        low=0.1,
        high=60,
    )
    critical_acceptance: float = setting(
        0.5,
        "Share of newcomers without priority that critical lets in; half halves the growth.",
        low=0,
        high=1,
    )
    min_priority: int = setting(
        50, "Priority of a token from which pressure refuses and closes nobody.", low=0, high=100
    )
    connections: tuple[float, ...] = _range(0.0, 1.0, "Shares of limits.connections", most=1)
    loop_lag: tuple[float, ...] = _range(0.05, 0.5, "Delays of the event loop", most=60, unit="s")
    cpu: tuple[float, ...] = _range(0.80, 1.0, "CPU time a second, in cores,", most=64)
    memory: tuple[float, ...] = _range(0.70, 0.95, "Shares of the memory there is", most=1)
    descriptors: tuple[float, ...] = _range(
        0.70, 0.98, "Shares of the file descriptors there are", most=1
    )
    buffered: tuple[int, ...] = _range(
        64 * _MIB, 512 * _MIB, "Bytes in all outboxes", most=1024 * _GIB, unit="bytes"
    )
    idle_after: float = setting(
        300.0,
        "Time without messages after which an emergency may close a connection.",
        unit="s",
        low=1,
        high=_DAY,
    )
    shed_every: float = setting(
        60.0,
        "Time between such closes; a minute shows what the last ones did.",
        unit="s",
        low=1,
        high=_DAY,
    )
    shed_share: float = setting(
        0.10, "Most of all connections that are closed at a time.", low=0, high=1
    )

    def _check(self) -> None:
        if not self.warning < self.critical:
            raise self.error("critical", "must be above shedding.warning")
        if not self.critical < self.emergency:
            raise self.error("emergency", "must be above shedding.critical")
        if not self.hysteresis < self.warning:
            raise self.error("hysteresis", "must be below shedding.warning")
        for name, (low, high) in self.ranges().items():
            if not low < high:
                raise self.error(name, "must have the lower value first")

    def ranges(self) -> dict[str, tuple[float, ...]]:
        """The low and the high end of every signal that counts, by its name."""
        every = {
            "connections": self.connections,
            "loop_lag": self.loop_lag,
            "cpu": self.cpu,
            "memory": self.memory,
            "descriptors": self.descriptors,
            "buffered": self.buffered,
        }
        return {name: ends for name, ends in every.items() if ends}


def _each(values: tuple[float, ...], doc: str, *, low: float, high: float, unit: str = "") -> Any:
    return setting(values, doc, unit=unit, low=low, high=high, length=3)


@dataclass(frozen=True, slots=True)
class ZonesSettings(Section):
    """What is left in the zones warning, critical and emergency: a value for each, or none."""

    section: ClassVar[str] = "zones"
    broadcast: tuple[bool, ...] = setting(
        (True, True, False),
        "Whether clients may send to rooms; one message to many is what costs most.",
        length=3,
    )
    max_message_size: tuple[int, ...] = _each(
        (512 * _KIB, 64 * _KIB, 16 * _KIB),
        "Most that messages.max_size is; text still fits when files do not.",
        unit="bytes",
        low=1,
        high=_GIB,
    )
    messages_per_second: tuple[float, ...] = _each(
        (50.0, 20.0, 5.0),
        "Most that messages.per_second is; people still type when programs must wait.",
        low=0.01,
        high=_FASTEST,
    )
    ping_interval: tuple[float, ...] = _each(
        (45.0, 60.0, 120.0),
        "Least that heartbeat.interval is; the dead are found later, for fewer pings.",
        unit="s",
        low=0.1,
        high=_DAY,
    )


@dataclass(frozen=True, slots=True)
class WaitingRoomSettings(Section):
    """The line in front of a full or shedding server."""

    section: ClassVar[str] = "waiting_room"
    enabled: bool = setting(
        False, "Whether there is a line; off, since clients have to know what waiting means."
    )
    places: int = setting(
        500, "Places in the line; each may hold a socket open.", low=1, high=1_000_000
    )
    max_wait: float = setting(
        30.0, "Time that one may wait; few people wait longer.", unit="s", low=1, high=3600
    )
    secret: str | None = setting(
        None,
        "Key that signs tickets, the same on all nodes; not set, they are good at one process.",
        pattern=r"[!-~]{32,}",
        wording="at least 32 printable ASCII characters without spaces",
        secret=True,
    )
    ticket_grace: float = setting(
        10.0,
        "Time past its return for which a ticket keeps its place; clients and networks are late.",
        unit="s",
        low=0,
        high=3600,
    )


@dataclass(frozen=True, slots=True)
class BreakerSettings(Section):
    """The circuit breaker: too many rejections take the node out of rotation for a while."""

    section: ClassVar[str] = "breaker"
    enabled: bool = setting(
        False, "Whether there is a breaker; off, since it needs other nodes that take over."
    )
    rejections: int = setting(1000, "Rejections within the window that open it.", low=1, high=_MOST)
    window: float = setting(10.0, "Time over which rejections count.", unit="s", low=0.1, high=3600)
    open_for: float = setting(
        10.0,
        "Time out of rotation; as long as a load balancer needs.",
        unit="s",
        low=0.1,
        high=_DAY,
    )
    probes: int = setting(
        20, "Admissions that close it again; as many rejections open it again.", low=1, high=_MOST
    )


@dataclass(frozen=True, slots=True)
class MessagesSettings(Section):
    """What a client may send. A rate of 0 is no limit."""

    section: ClassVar[str] = "messages"
    max_size: int = setting(_MIB, "Size of a message, inflated.", unit="bytes", low=1, high=_GIB)
    max_fragments: int = setting(1024, "Frames of one message.", low=1, high=1_000_000)
    fragment_timeout: float = setting(
        60.0, "Time from the first to the last frame of a message.", unit="s", low=0.1, high=3600
    )
    per_second: float = setting(
        100.0,
        "Messages a second from one connection; 100 is more than a person sends.",
        low=0,
        high=_FASTEST,
    )
    burst: int = setting(
        200, "Messages that may come at once; two seconds' worth.", low=1, high=_MOST
    )
    bytes_per_second: int = setting(
        0,
        "Bytes a second from one connection; off, since TCP holds back who sends too much.",
        low=0,
        high=_GIB,
    )
    bytes_burst: int = setting(
        2 * _MIB,
        "Bytes that may come at once; one message of max_size always may.",
        unit="bytes",
        low=1,
        high=_GIB,
    )
    joins_per_second: float = setting(
        20.0,
        "Joins a second, beyond as many at once as there may be rooms: a client that is back.",
        low=0,
        high=_FASTEST,
    )
    control_per_second: float = setting(
        20.0,
        "Pings and pongs a second, or at once; a heartbeat is far below one.",
        low=0,
        high=_FASTEST,
    )
    abuse_after: int = setting(
        20,
        "Messages refused within 10 s that close a connection; one that heeds delays has few.",
        low=1,
        high=_MOST,
    )

    @property
    def bytes_at_once(self) -> int:
        """The burst of bytes that is in force: room for one message of ``max_size`` at least."""
        return max(self.bytes_burst, self.max_size)


@dataclass(frozen=True, slots=True)
class OutboxSettings(Section):
    """What is kept for a slow connection, and what becomes of it."""

    section: ClassVar[str] = "outbox"
    max_bytes: int = setting(
        _MIB,
        "Bytes kept for a connection that does not take them.",
        unit="bytes",
        low=1024,
        high=_GIB,
    )
    max_age: float = setting(
        10.0,
        "Time that they are kept; what is older is no news, and the peer likely gone.",
        unit="s",
        low=0.1,
        high=3600,
    )
    policy: str = setting(
        "disconnect",
        "What happens beyond that; a client sees a disconnect, but not a gap in a room.",
        choices=("disconnect", "drop_oldest", "drop_newest"),
    )


@dataclass(frozen=True, slots=True)
class DrainSettings(Section):
    """How a server leaves that is asked to."""

    section: ClassVar[str] = "drain"
    on_sigterm: bool = setting(
        True,
        "Whether SIGTERM drains, lest all clients return at once; else it closes, as SIGINT does.",
    )
    window: float = setting(
        30.0,
        "Time over which connections are closed; 10,000 are then 334 a second for the others.",
        unit="s",
        low=0,
        high=3600,
    )
