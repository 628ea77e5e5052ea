"""How the workers stand, as what spreads connections over machines sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tidegate.node.control import Standing

if TYPE_CHECKING:
    from tidegate.server.supervisor.process import Worker
    from tidegate.server.supervisor.supervisor import Supervisor

__all__ = ["standings"]


def standings(supervisor: Supervisor) -> list[Standing]:
    """Return how each worker stands; one that has not started takes nobody."""
    tried = supervisor.settings.limits.is_dry("connections")
    return [_standing(keeper.workers, tried) for keeper in supervisor.keepers]


def _standing(workers: Iterable[Worker], tried: bool) -> Standing:
    """How the worker stands that takes new connections, of those with one number."""
    for worker in workers:
        beat = worker.beat
        if worker.serving and beat is not None and not worker.leaving:
            own = beat.sample
            pressure = max(own.pressures.values(), default=0.0)
            limit = 0 if tried else own.limit
            return Standing(beat.ready, beat.reason, own.zone, pressure, own.connections, limit)
    return Standing(False, "not started", "normal", 0.0, 0, 0)
