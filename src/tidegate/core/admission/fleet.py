"""Which counts of the fleet a connection is in, and their limits.

A fleet counts by name: all connections, those of an address, of a user and of a tier, and the
members of a room.

    c   i:<address or IPv6 network>   u:<user>   t:<tier>   r:<room>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from tidegate.addresses import network
from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import FLEET_LIMIT, IP_LIMIT, TIER_LIMIT, USER_LIMIT

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.codes import Refusal
    from tidegate.core.settings import Settings

__all__ = ["ALL", "Counted", "FleetCounts", "FleetLimits", "room_count"]

ALL: Final = "c"
"""The name under which every connection is counted."""


def room_count(room: str) -> str:
    """Return the name under which the members of a room are counted."""
    return f"r:{room}"


class FleetCounts(Protocol):
    """Who is told what becomes of leases that the fleet has counted."""

    def released(self, names: tuple[str, ...], /) -> None:
        """A lease that was in these counts has been released."""

    def replaced(self, names: tuple[str, ...], lease: Lease, /) -> None:
        """A lease that was in these counts has been released, and this one takes its place."""


class Counted(NamedTuple):
    """One count that a lease is to be in. A `limit` of None is no limit."""

    name: str
    limit: int | None
    full: Reject
    """The refusal when the limit is reached."""


class FleetLimits:
    """The limits of the settings that hold over all nodes. `apply` takes others over."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.limits.ipv6_prefix
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over other limits. No connection loses its lease."""
        limits = settings.limits
        self._all = _counted(ALL, settings.fleet.connections, FLEET_LIMIT, dry=False)
        self._ip = _counted("", limits.per_ip, IP_LIMIT, dry=limits.is_dry("per_ip"))
        dry = limits.is_dry("per_user")
        self._user = _counted("", limits.per_user, USER_LIMIT, dry=dry)
        self._tiers = {}
        for name, tier in settings.tiers.items():
            per_user = limits.per_user if tier.per_user is None else tier.per_user
            self._tiers[name] = (
                _counted(f"t:{name}", tier.connections, TIER_LIMIT, dry=limits.is_dry("tiers")),
                _counted("", per_user, USER_LIMIT, dry=dry),
            )

    def of(self, lease: Lease) -> tuple[Counted, ...]:
        """Return the counts that a lease is to be in; its own limits come first."""
        return self.limits(lease.address, lease.user, lease.tier)

    def limits(self, address: str, user: str | None, tier: str | None) -> tuple[Counted, ...]:
        """Return the counts for a connection that is not there yet."""
        of_user = self._user
        counts = [self._ip._replace(name=f"i:{network(address, self._prefix)}")]
        of_tier = None if tier is None else self._tiers.get(tier)
        if of_tier is not None:
            counts.append(of_tier[0])
            of_user = of_tier[1]
        if user is not None:
            counts.append(of_user._replace(name=f"u:{user}"))
        counts.append(self._all)
        return tuple(counts)


def _counted(name: str, limit: int | None, reason: Refusal, *, dry: bool) -> Counted:
    full = Reject(reason, reason.retry_after, limit)
    return Counted(name, None if dry else limit, full)
