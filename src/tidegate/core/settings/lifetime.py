"""How dead and idle connections are found, and how a server drains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["DrainSettings", "HeartbeatSettings", "RebalanceSettings"]

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class HeartbeatSettings(Section):
    """How dead and idle connections are found."""

    section: ClassVar[str] = "heartbeat"
    interval: float = setting(30.0, "Time between pings.", unit="s", low=0.1, high=_DAY, live=True)
    timeout: float = setting(
        10.0,
        "Time in which a peer must answer a ping, or send anything else.",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )
    idle_timeout: float = setting(
        0.0,
        "Time without messages after which a connection is closed; 0 for never.",
        unit="s",
        low=0,
        high=30 * _DAY,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class DrainSettings(Section):
    """How a server drains: it closes its connections spread over a window."""

    section: ClassVar[str] = "drain"
    on_sigterm: bool = setting(
        True,
        "Whether SIGTERM drains, so that clients do not all return at once; if not, it stops.",
        live=True,
    )
    window: float = setting(
        30.0,
        "Time over which connections are closed; 10,000 are then 334 a second for other servers.",
        unit="s",
        low=0,
        high=3600,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class RebalanceSettings(Section):
    """How the fullest nodes of a fleet move clients to the others."""

    section: ClassVar[str] = "rebalance"
    rate: float = setting(
        0.0,
        "Connections that a node with more than its share asks to move each second, by itself; "
        "0 for only when `tidegate rebalance` says so.",
        low=0,
        high=10_000,
        live=True,
    )
