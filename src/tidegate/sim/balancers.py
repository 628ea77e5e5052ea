"""Load balancers: which node gets an attempt, of those that are in rotation."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from heapq import heapify, heapreplace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.sim.clients import Client
    from tidegate.sim.node import Node

__all__ = ["Balancer", "balancer"]

_HASH: Final = 2654435761  # Knuth's multiplicative hash


class Balancer(Protocol):
    """Chooses nodes. It is told of each change of the rotation, and looks at weights at times."""

    def rotate(self, nodes: list[Node]) -> None:
        """These are in rotation now."""

    def look(self) -> None:
        """Ask the nodes for what they are weighed by."""

    def pick(self, client: Client) -> Node | None:
        """Return the node for an attempt; None when no node is in rotation."""


class _RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._next = 0

    def rotate(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def look(self) -> None:
        pass

    def pick(self, client: Client) -> Node | None:  # noqa: ARG002 - all get the same
        if not self._nodes:
            return None
        self._next = (self._next + 1) % len(self._nodes)
        return self._nodes[self._next]


class _Least:
    """The node with the fewest connections.

    The heap holds what each node had when it was put there. A node that has more by now is put
    back; one that has fewer is found at the next look.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Node]] = []

    def rotate(self, nodes: list[Node]) -> None:
        self._heap = [(node.load, node.number, node) for node in nodes]
        heapify(self._heap)

    def look(self) -> None:
        self.rotate([node for _, _, node in self._heap])

    def pick(self, client: Client) -> Node | None:  # noqa: ARG002 - all get the same
        heap = self._heap
        while heap:
            load, number, node = heap[0]
            if node.load <= load:
                # It is about to have one more.
                heapreplace(heap, (node.load + 1, number, node))
                return node
            heapreplace(heap, (node.load, number, node))
        return None


class _Weighted:
    """By chance, by the weights that the nodes ask for."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._nodes: list[Node] = []
        self._sums: list[int] = []

    def rotate(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self.look()

    def look(self) -> None:
        self._sums = list(accumulate(node.weigh() for node in self._nodes))

    def pick(self, client: Client) -> Node | None:  # noqa: ARG002 - all get the same
        if not self._nodes or not self._sums[-1]:
            return None
        return self._nodes[bisect(self._sums, self._chance() * self._sums[-1])]


class _Sticky:
    """A client always gets the same node while the rotation stays as it is."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def rotate(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def look(self) -> None:
        pass

    def pick(self, client: Client) -> Node | None:
        if not self._nodes:
            return None
        return self._nodes[client.number * _HASH % (1 << 32) * len(self._nodes) >> 32]


def balancer(algorithm: str, chance: Callable[[], float]) -> Balancer:
    """Make one by its name in the scenario."""
    if algorithm == "round-robin":
        return _RoundRobin()
    if algorithm == "least-connections":
        return _Least()
    if algorithm == "agent-check":
        return _Weighted(chance)
    if algorithm == "sticky":
        return _Sticky()
    raise UsageError(f"there is no algorithm {algorithm}")
