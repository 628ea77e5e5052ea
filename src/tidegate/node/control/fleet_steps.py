"""What the limits of the fleet say of an attempt, or of one more member of a room, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidegate.core.admission.attempt import Step
from tidegate.core.admission.fleet import room_count
from tidegate.core.codes import FLEET_DOWN, FLEET_LIMIT, IP_LIMIT, TIER_LIMIT, USER_LIMIT

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Identity
    from tidegate.node.control.parts import Parts
    from tidegate.node.fleet_leases import FleetLeases

__all__ = ["attempt_steps", "room_steps"]

_NAMES: Final = {
    IP_LIMIT.name: ("fleet_per_ip", "connections from this address"),
    USER_LIMIT.name: ("fleet_per_user", "connections of this user"),
    TIER_LIMIT.name: ("fleet_tiers", "connections of this tier"),
    FLEET_LIMIT.name: (FLEET_LIMIT.name, "connections"),
}
_HELD: Final = "the limits of addresses, users and tiers"


async def attempt_steps(node: Parts, address: str, identity: Identity) -> list[Step]:
    """Return a step for each limit of the fleet, which is asked last; none for a node alone."""
    leases = node.leases
    if leases is None:
        return []
    limits = leases.limits(address, identity)
    sums = await leases.sums([limit.name for limit in limits])
    if sums is None:
        return [_down(node, leases, _HELD, "nobody is admitted")]
    steps = []
    for limit, count in zip(limits, sums, strict=True):
        name, what = _NAMES[limit.full.reason.name]
        steps.append(_step(name, what, count, limit.limit))
    return steps


async def room_steps(node: Parts, room: str) -> list[Step]:
    """Return whether the fleet would take one more member of a room; none for a node alone."""
    leases = node.leases
    if leases is None or not leases.rooms:
        return []
    sums = await leases.sums([room_count(room)])
    if sums is None:
        return [_down(node, leases, "the limits of rooms", "nobody joins")]
    return [_step("fleet_members", "members", sums[0], node.rooms.most(room))]


def _down(node: Parts, leases: FleetLeases, held: str, refuses: str) -> Step:
    refused = node.settings.fleet.when_down == "refuse"
    what = refuses if refused else f"{held} hold on each node by itself"
    why = "does not answer" if leases.up else "cannot be reached"
    return Step(FLEET_DOWN.name, not refused, f"the backplane {why}: {what}", {})


def _step(name: str, what: str, count: int, limit: int | None) -> Step:
    if limit is None:
        detail = f"{count:,} {what} on all nodes; there is no limit"
        return Step(name, True, detail, {"count": count})
    detail = f"{count:,} of {limit:,} {what} on all nodes"
    return Step(name, count < limit, detail, {"count": count, "limit": limit})
