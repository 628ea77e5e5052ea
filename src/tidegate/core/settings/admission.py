"""How fast connections are admitted, and what a full server does."""

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
    """How fast new connections are admitted. A client that is too early gets a time to return."""

    section: ClassVar[str] = "pacing"
    enabled: bool = setting(
        True,
        "Whether new connections are paced; on, because a reconnect storm stalls open connections.",
    )
    rate: float = setting(
        2000.0,
        "New connections per second; half of what a core admits with tokens.",
        low=0.1,
        high=_FASTEST,
        live=True,
    )
    burst: int = setting(
        1000,
        "New connections admitted at once after a quiet time; 1,000 are half a second's worth.",
        low=1,
        high=_MOST,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class WaitingRoomSettings(Section):
    """The waiting room in front of a full or shedding server."""

    section: ClassVar[str] = "waiting_room"
    enabled: bool = setting(
        False, "Whether there is a waiting room; off, because clients must know how to wait."
    )
    size: int = setting(
        500,
        "Clients that may wait; each may hold a socket open.",
        low=1,
        high=1_000_000,
        live=True,
    )
    max_wait: float = setting(
        30.0,
        "Longest time that a client may wait; few people wait longer.",
        unit="s",
        low=1,
        high=3600,
        live=True,
    )
    secret: str | None = setting(
        None,
        "Key that signs tickets, the same on all nodes; if not set, they are good at one process.",
        pattern=r"[!-~]{32,}",
        wording="at least 32 printable ASCII characters without spaces",
        secret=True,
    )
    ticket_grace: float = setting(
        10.0,
        "How late a client with a ticket may return; clients and networks are not punctual.",
        unit="s",
        low=0,
        high=3600,
    )


@dataclass(frozen=True, slots=True)
class BreakerSettings(Section):
    """The circuit breaker: too many rejections take the node out of rotation for a while."""

    section: ClassVar[str] = "breaker"
    enabled: bool = setting(
        False, "Whether there is a breaker; off, because it needs other nodes that take over."
    )
    rejections: int = setting(
        1000, "Rejections within the window that open the breaker.", low=1, high=_MOST, live=True
    )
    window: float = setting(
        10.0, "Time over which rejections are counted.", unit="s", low=0.1, high=3600, live=True
    )
    open_for: float = setting(
        10.0,
        "Time out of rotation; as long as a load balancer needs to notice.",
        unit="s",
        low=0.1,
        high=_DAY,
        live=True,
    )
    probes: int = setting(
        20,
        "Admissions that close the breaker again; as many rejections open it again.",
        low=1,
        high=_MOST,
        live=True,
    )
