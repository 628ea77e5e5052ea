"""How a node stands among others: what a balancer of connections needs to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["Standing", "standing"]


class Standing(Struct, frozen=True, rename="camel"):
    """How a node stands at one moment."""

    ready: bool
    """Whether it should get new connections."""
    reason: str
    """Why it is not ready; empty when it is."""
    zone: str
    pressure: float
    """0 to 1."""
    connections: int
    limit: int
    """How many connections there may be, 0 where the limit is only tried out."""


def standing(node: Parts) -> Standing:
    """Return how a node stands."""
    ready, reason = node.ready
    tracker, shedder = node.tracker, node.shedder
    limit = 0 if node.settings.limits.is_dry("connections") else tracker.limit
    return Standing(ready, reason, shedder.zone.label, shedder.pressure, tracker.open, limit)
