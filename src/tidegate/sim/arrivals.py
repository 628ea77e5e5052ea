"""Clients that come over time, as through a day, and leave for good after a while."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from tidegate.sim.clients import Client
    from tidegate.sim.clock import Clock
    from tidegate.sim.sections import ArrivalPoint, ClientsSection

__all__ = ["Arrivals", "Curve"]

_TICK: Final = 0.1


class Goal(Protocol):
    """The fleet, as far as clients come to it."""

    clock: Clock
    weight: int

    def chance(self) -> float:
        """Return a random number in [0, 1)."""

    def add_clients(self, kind: ClientsSection, count: int) -> list[Client]:
        """Add clients, which are away."""

    def later(self, client: Client, delay: float) -> None:
        """A client tries to connect, after a delay."""


class Curve:
    """A rate over time: even between two points, and before the first and after the last as there.

    Args:
        points: in the order of time; at least one.
    """

    def __init__(self, points: Sequence[ArrivalPoint]) -> None:
        self._points = points
        self._times = [point.at for point in points]

    def rate(self, time: float) -> float:
        """Return how many come each second, at a time in seconds."""
        points = self._points
        index = bisect(self._times, time)
        if index in (0, len(points)):
            return points[index and -1].rate
        before, after = points[index - 1], points[index]
        share = (time - before.at) / (after.at - before.at)
        return before.rate + share * (after.rate - before.rate)

    def total(self, until: float) -> float:
        """Return how many come from 0 to a time."""
        times = [0.0, *(time for time in self._times if 0 < time < until), until]
        return sum(
            (end - start) * (self.rate(start) + self.rate(end)) / 2
            for start, end in pairwise(times)
        )

    @property
    def most(self) -> float:
        """The highest rate."""
        return max(point.rate for point in self._points)


class Arrivals:
    """Brings the clients of one kind to a fleet.

    One that has left may come again later, so that there are never more objects than clients were
    there at a time.
    """

    def __init__(self, fleet: Goal, kind: ClientsSection, present: Sequence[Client]) -> None:
        self._fleet = fleet
        self._kind = kind
        self._curve = Curve(kind.arrive)
        self._left: list[Client] = []
        self._owed = 0.0
        for client in present:
            client.left = self._left
        self._tick()

    def _tick(self) -> None:
        fleet = self._fleet
        rate = self._curve.rate(fleet.clock.now + _TICK / 2) / fleet.weight
        self._owed += rate * _TICK
        while self._owed >= 1.0:
            self._owed -= 1.0
            fleet.later(self._one(), fleet.chance() * _TICK)
        fleet.clock.after(_TICK, self._tick)

    def _one(self) -> Client:
        if self._left:
            return self._left.pop()
        (client,) = self._fleet.add_clients(self._kind, self._fleet.weight)
        client.left = self._left
        return client
