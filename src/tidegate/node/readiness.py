"""Whether a node, or another process with a gate, should get new connections."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from tidegate.core import codes

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.node.control.parts import Parts
    from tidegate.node.fleet_leases import FleetLeases

__all__ = ["in_words", "not_admitting", "not_ready"]


class Admitting(Protocol):
    """What has a gate."""

    settings: Settings
    admission: Admission
    tracker: ConnectionTracker
    leases: FleetLeases | None


def not_ready(node: Parts) -> str:
    """Return why a node should get no new connections; empty when it should."""
    if not node.engine.listeners:
        return "not listening"
    if node.shutdown.begun:
        return codes.DRAINING.name
    return not_admitting(node, monotonic())


def not_admitting(gate: Admitting, now: float) -> str:
    """Return why the gate admits nobody; empty when it does."""
    settings, leases = gate.settings, gate.leases
    if gate.admission.draining:
        return codes.DRAINING.name
    if settings.fleet.when_down == "refuse" and leases is not None and not leases.up:
        return codes.FLEET_DOWN.name
    if gate.admission.out_of_rotation(now):
        return codes.BREAKER.name
    full = gate.tracker.open >= gate.tracker.limit
    if full and not settings.limits.is_dry("connections"):
        return codes.SERVER_LIMIT.name
    return ""


def in_words(node: Parts) -> str:
    """Return how a node is, in a few words for operators."""
    drain = node.shutdown.drain
    if drain is not None:
        return f"draining: {drain.open:,} of {drain.total:,} connections are left"
    if node.shutdown.begun:
        return "stopping"
    reason = not_ready(node)
    state = f"not ready ({reason})" if reason else "serving"
    return f"{state}: {node.tracker.open:,} connections"
