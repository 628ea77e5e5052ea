"""How connections are found dead, and how a server ends them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["DrainSettings", "HeartbeatSettings"]

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class HeartbeatSettings(Section):
    """How dead and idle connections are found."""

    section: ClassVar[str] = "heartbeat"
    interval: float = setting(30.0, "Time between pings.", unit="s", low=0.1, high=_DAY)
    timeout: float = setting(
        10.0, "Time that a peer has to show life after a ping.", unit="s", low=0.1, high=3600
    )
    idle_timeout: float = setting(
        0.0,
        "Time without messages after which a connection is closed; 0 for never.",
        unit="s",
        low=0,
        high=30 * _DAY,
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
