"""This node among the others: it tells them how it is, knows who they are, and shares with them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tidegate.backplane.nodes import NodeRecord, Seen
from tidegate.core.stats import Histogram

if TYPE_CHECKING:
    from tidegate.backplane.base import Nodes
    from tidegate.core.stats import Stats
    from tidegate.node.rebalancing import Rebalancing

__all__ = ["Membership"]

_LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Membership:
    """Keeps the record of one node up to date, from its start to its end.

    Args:
        stats: count what the node accepts.
        nodes: keeps the records of all; None for a node that is alone.
        describe: returns how the node is, without its rate.
        ends: whether the node has begun to end.
        rebalancing: moves connections to the others.
        beat: how often the node tells the others how it is, in seconds.
    """

    def __init__(
        self,
        stats: Stats,
        nodes: Nodes | None,
        describe: Callable[[], NodeRecord],
        ends: Callable[[], bool],
        rebalancing: Rebalancing,
        beat: float,
    ) -> None:
        self.rebalancing = rebalancing
        self._stats = stats
        self._nodes = nodes
        self._describe = describe
        self._ends = ends
        self._beat = beat
        self._due = 0.0
        self._looked = monotonic()
        self._accepted = 0
        self._rate = 0.0
        self._told_end = False
        self.latency: float | None = None
        """Seconds that the backplane took to answer the last beat; None while it does not."""
        self.latencies = Histogram(_LATENCIES)

    def tick(self, now: float) -> None:
        """Tell the others how this node is, when it is time or it has begun to end."""
        self.rebalancing.tick(now)
        if now < self._due and self._told_end is self._ends():
            return
        self._due = now + self._beat
        self._told_end = self._ends()
        seconds, self._looked = now - self._looked, now
        accepted, self._accepted = self._accepted, self._stats.accepted
        if seconds > 0:
            self._rate = round((self._accepted - accepted) / seconds, 1)
        if self._nodes is not None:
            self._announce(self._nodes)

    async def read(self) -> list[Seen] | None:
        """Return all nodes that were heard lately; None when that cannot be known now."""
        if self._nodes is None:
            return [Seen(self.record(), 0.0)]
        return await self._nodes.read()

    async def leave(self) -> None:
        """Tell the others that this node has ended."""
        self.rebalancing.end()
        if self._nodes is not None:
            nodes, self._nodes = self._nodes, None
            await nodes.leave()

    def record(self) -> NodeRecord:
        """Return how this node is now."""
        return replace(self._describe(), rate=self._rate)

    def _announce(self, nodes: Nodes) -> None:
        asked = monotonic()

        def answered(taken: bool) -> None:
            if taken:
                self.latency = monotonic() - asked
                self.latencies.observe(self.latency)
            else:
                self.latency = None

        nodes.announce(self.record(), answered)
