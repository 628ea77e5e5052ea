"""How many connections there may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["POLICIES", "LimitsSettings", "Tier"]

POLICIES: Final = (
    *("breaker", "pacing", "shedding"),
    *("connections", "per_ip", "per_user", "tiers"),
    "messages",
)
"""What can be tried out without effect (`limits.dry_run`), by the name of its setting."""

_ALL: Final = "all"
_MOST: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class LimitsSettings(Section):
    """How many connections there may be. 0 means none at all."""

    section: ClassVar[str] = "limits"
    connections: int = setting(10_000, "Connections on this server.", low=0, high=_MOST, live=True)
    per_ip: int = setting(100, "Connections from one address.", low=0, high=_MOST, live=True)
    http_per_ip: int = setting(
        1000,
        "HTTP connections from one address to an application (tidegate run).",
        low=0,
        high=_MOST,
        live=True,
    )
    ipv6_prefix: int = setting(
        64,
        "Bits of the IPv6 networks that count as one address; 128 to count each address by itself.",
        low=32,
        high=128,
    )
    per_user: int = setting(10, "Connections of one user.", low=0, high=_MOST, live=True)
    per_room: int = setting(10_000, "Connections in one room.", low=0, high=_MOST, live=True)
    rooms_per_connection: int = setting(
        100, "Rooms that one connection may join.", low=0, high=10_000, live=True
    )
    rooms_per_user: int | None = setting(
        None,
        "Rooms that one user may be in, over all connections; no limit when left out.",
        low=0,
        high=_MOST,
        live=True,
    )
    dry_run: tuple[str, ...] = setting(
        (),
        "Policies that count and log what they would refuse, but refuse nothing.",
        choices=(*POLICIES, _ALL),
    )

    def is_dry(self, policy: str) -> bool:
        """Whether one of POLICIES is only tried out."""
        return policy in self.dry_run or _ALL in self.dry_run


@dataclass(frozen=True, slots=True)
class Tier(Section):
    """The limits of one tier of users, as the `tier` claim of their tokens names it."""

    section: ClassVar[str] = "tiers.*"
    per_user: int | None = setting(
        None,
        "Connections of one user of this tier, in place of limits.per_user.",
        low=0,
        high=_MOST,
        live=True,
    )
    connections: int | None = setting(
        None, "Connections of all users of this tier together.", low=0, high=_MOST, live=True
    )
    reserved: float = setting(
        0.0, "Share of limits.connections that is kept for this tier.", low=0, high=1, live=True
    )
