"""Rebalancing: which nodes give connections away, how many, and how fast.

A node that joins is empty, and balancers move new connections only. So the fullest nodes ask some
of their clients to come back elsewhere. Each decides for itself, by the same table of all nodes:

    share = all connections x its capacity / all capacity, rounded up
    surplus = its connections - its share

Nodes that should get nobody now are no part of it: they neither give nor take. A round moves the
surplus at the start of the round, no more, because clients that are on their way are missing from
every count. Then it waits until they are back, and looks again:

    IDLE -- begin --> MOVING -- the share is reached --> SETTLING -- balanced ------> IDLE
                         ^                                  |
                         +--------- still too full ---------+
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

__all__ = [
    "BALANCED_SHARE",
    "SETTLE_SECONDS",
    "Member",
    "Phase",
    "Rounds",
    "is_balanced",
    "room",
    "share",
    "taker",
]

BALANCED_SHARE: Final = 0.05
"""A node that is above its share by less than this part of it is balanced."""
SETTLE_SECONDS: Final = 15.0
"""How long clients that were asked to move have until they count where they went."""


class Member(NamedTuple):
    """A machine with one node, or with several that share a port.

    Attributes:
        name: no other one has it.
        connections: what it has.
        capacity: how many connections it may have.
        takes: whether it should get new connections, and is neither critical nor in an emergency.
    """

    name: str
    connections: int
    capacity: int
    takes: bool = True


def share(own: str, members: Sequence[Member]) -> int | None:
    """Return how many connections a member should have; None when there is nothing to balance.

    That is so where it takes nobody itself, and where it is alone.
    """
    takers = [member for member in members if member.takes and member.capacity > 0]
    mine = next((member for member in takers if member.name == own), None)
    if mine is None or len(takers) == 1:
        return None
    connections = sum(member.connections for member in takers)
    capacity = sum(member.capacity for member in takers)
    # Whole numbers, because the shares of 10 + 10 must be exact.
    return -(-connections * mine.capacity // capacity)


def room(members: Sequence[Member]) -> dict[str, int]:
    """Return how many connections each member is below its share, of those that are."""
    found = {}
    for member in members:
        own = share(member.name, members)
        if own is not None and own > member.connections:
            found[member.name] = own - member.connections
    return found


def taker(room: Mapping[str, int], dice: float) -> str:
    """Return where one connection should go: each in proportion to its room.

    All nodes choose at the same time and do not know of each other, so none of them may fill the
    emptiest first.

    Args:
        room: as `room` has it; at least one.
        dice: 0 to 1, without 1.
    """
    left = dice * sum(room.values())
    for name, free in room.items():
        left -= free
        if left < 0:
            return name
    return name


class Phase(Enum):
    """What a node does about its surplus."""

    IDLE = "idle"
    MOVING = "moving"
    SETTLING = "settling"


class Rounds:
    """The rounds of one node. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.moved = 0
        """How many were asked to move since `begin`."""
        self._keep = 0
        self._rate = 0.0
        self._last = 0.0
        self._owed = 0.0
        self._again_at = 0.0

    def begin(self, connections: int, share: int | None, rate: float, now: float) -> bool:
        """Begin, or set another rate for what is under way; False when nothing is to be moved.

        Args:
            connections: of this node.
            share: what it should have; None for nothing to balance.
            rate: connections a second.
        """
        self._rate = rate
        if self.phase is not Phase.IDLE:
            return True
        self.moved = 0
        return self._aim(connections, share, now)

    def due(self, connections: int, now: float, most: int) -> int:
        """Return how many connections are to be moved now.

        Args:
            connections: of this node, without those that were asked already.
            most: how many of them may be moved now.
        """
        if self.phase is not Phase.MOVING:
            return 0
        # What was missed while nobody asked is not made up for: that would be all at once.
        self._owed = min(self._owed + (now - self._last) * self._rate, max(1.0, self._rate))
        self._last = now
        surplus = connections - self._keep
        count = max(0, min(int(self._owed), surplus, most))
        self._owed -= count
        self.moved += count
        if count >= surplus:
            self._settle(now)
        return count

    def settled(self, now: float) -> bool:
        """Whether those that were asked are back, so that `look` is due."""
        return self.phase is Phase.SETTLING and now >= self._again_at

    def look(self, connections: int, share: int | None, now: float) -> bool:
        """Begin another round where it is not balanced yet; else be done, and return False."""
        if not is_balanced(connections, share) and self._aim(connections, share, now):
            return True
        self.phase = Phase.IDLE
        return False

    def pause(self, now: float) -> None:
        """Move nobody for now, as when the node is critical, and look again later."""
        if self.phase is Phase.MOVING:
            self._settle(now)

    def end(self) -> None:
        """Move nobody any more."""
        self.phase = Phase.IDLE

    def _aim(self, connections: int, share: int | None, now: float) -> bool:
        if share is None or connections <= share:
            return False
        self.phase = Phase.MOVING
        self._keep = share
        self._last = now
        self._owed = 0.0
        return True

    def _settle(self, now: float) -> None:
        self.phase = Phase.SETTLING
        self._again_at = now + SETTLE_SECONDS


def is_balanced(connections: int, share: int | None) -> bool:
    """Whether a node has no more than its share, or so little that it is not worth a move."""
    return share is None or connections <= share + max(1, math.ceil(share * BALANCED_SHARE))
