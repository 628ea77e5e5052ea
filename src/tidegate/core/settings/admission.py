"""How fast connections are let in, and what a full server does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["BreakerSettings", "PacingSettings", "WaitingRoomSettings"]

_MOST: Final = 10_000_000
_FASTEST: Final = 1_000_000
_DAY: Final = 86_400.0


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


@dataclass(frozen=True, slots=True)
class WaitingRoomSettings(Section):
    """The line in front of a full or shedding server."""

    section: ClassVar[str] = "waiting_room"
    enabled: bool = setting(
        False, "Whether there is a line; off, since clients have to know what waiting means."
    )
    size: int = setting(
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
