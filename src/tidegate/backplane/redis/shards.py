"""The connections to the shards of a cluster, by the slots that they have.

What is not of a room is in one slot, on the shard that is called home here; rooms are on all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tidegate.backplane.redis.cluster import shard_of

if TYPE_CHECKING:
    from tidegate.backplane.redis.cluster import Cluster
    from tidegate.backplane.redis.link import Link

__all__ = ["Pair", "Shards"]


class Pair(NamedTuple):
    """The connections to one server."""

    commands: Link
    listening: Link


class Shards:
    """The pairs of a cluster.

    Args:
        cluster: knows where the slots are.
        home: the pair of the slot `home_slot`.
        make: makes the pair of another slot, which is not connected yet.
    """

    def __init__(
        self, cluster: Cluster, home: Pair, home_slot: int, make: Callable[[int], Pair]
    ) -> None:
        self.cluster = cluster
        self._home = home
        self._home_slot = home_slot
        self._make = make
        self._table = [home] * 16384
        self.others: list[Pair] = []

    def of(self, name: bytes | str) -> Pair:
        """Return the pair of a key or a channel. HOT."""
        return self._table[self.cluster.slot(name)]

    def build(self) -> None:
        """Make a pair for each shard that the cluster has now. They are not connected yet."""
        self.others = []
        shards = self.cluster.shards
        at_home = shard_of(shards, self._home_slot)
        for number, ranges in enumerate(shards):
            pair = self._home
            if number != at_home:
                pair = self._make(ranges[0][0])
                self.others.append(pair)
            for first, last in ranges:
                self._table[first : last + 1] = [pair] * (last - first + 1)
