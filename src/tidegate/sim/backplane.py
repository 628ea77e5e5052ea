"""The backplane, as far as limits over the fleet need it: counts of all nodes, and the way there.

The limits and the names of the counts are the real ones (`core.admission.fleet`). It never fails.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tidegate.core.admission.attempt import Reject
from tidegate.core.admission.fleet import FleetLimits
from tidegate.core.codes import FLEET_DOWN

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.settings import Settings
    from tidegate.gate.fleet import Confirmed
    from tidegate.sim.clock import Clock

__all__ = ["Backplane", "Counts", "backplane"]

_GONE: Final = Reject(FLEET_DOWN, FLEET_DOWN.retry_after)


class Backplane:
    """What the nodes of a fleet count together.

    Args:
        settings: scaled to the objects that are counted.
        latency: seconds until a node has its answer.
    """

    def __init__(self, settings: Settings, clock: Clock, latency: float) -> None:
        self.clock = clock
        self.latency = latency
        self.ttl = settings.fleet.ttl
        self.held: Counter[str] = Counter()
        self._limits = FleetLimits(settings)

    def take(self, lease: Lease) -> Reject | None:
        """Count a lease, or return why not. HOT."""
        counts = self._limits.of(lease)
        held = self.held
        for count in counts:
            if count.limit is not None and held[count.name] >= count.limit:
                return count.full
        lease.fleet = tuple(count.name for count in counts)
        held.update(lease.fleet)
        return None

    def leave(self, names: tuple[str, ...]) -> None:
        """Take a lease out of its counts."""
        held = self.held
        for name in names:
            held[name] -= 1
            if not held[name]:
                del held[name]


class Counts:
    """The backplane as one process has it (`gate.fleet.Fleet`, `core.admission.fleet.FleetCounts`).

    The capacity of a process that is `lost` is free when the fleet has not heard of it for a while.
    """

    def __init__(self, backplane: Backplane) -> None:
        self._backplane = backplane
        self._asked: dict[Lease, Confirmed] = {}
        self._together: list[Lease] = []
        self._asked_at = -1.0
        self.lost = False

    def confirm(self, lease: Lease, done: Confirmed, /) -> None:
        """Count a lease of this node in the fleet; `done` is told when the answer is there.

        What comes at the same time is asked for together.
        """
        self._asked[lease] = done
        clock = self._backplane.clock
        if clock.now != self._asked_at:
            self._asked_at = clock.now
            self._together = []
            clock.after(self._backplane.latency, self._answer, self._together)
        self._together.append(lease)

    def _answer(self, together: list[Lease]) -> None:
        answers = [
            (done, self._backplane.take(lease))
            for lease in together
            if (done := self._asked.pop(lease, None)) is not None and lease.held
        ]
        for done, reject in answers:
            done(reject)

    def released(self, names: tuple[str, ...], /) -> None:
        """A lease that was counted has been released."""
        if self.lost:
            self._backplane.clock.after(self._backplane.ttl, self._backplane.leave, names)
        else:
            self._backplane.leave(names)

    def replaced(self, names: tuple[str, ...], lease: Lease, /) -> None:
        """A lease that was counted has been released, and this one takes its place."""
        lease.fleet = names

    def end(self) -> None:
        """The process is gone: nothing that was asked is answered."""
        asked, self._asked = self._asked, {}
        for lease, done in asked.items():
            if lease.held:
                done(_GONE)


def backplane(settings: Settings, clock: Clock, latency: float) -> Backplane | None:
    """Make one where the settings have limits over the fleet; else return None."""
    fleet, url = settings.fleet, settings.backplane.url
    counts = fleet.connections is not None or (url is not None and not url.startswith(_NO_COUNTS))
    return Backplane(settings, clock, latency) if fleet.limits and counts else None


_NO_COUNTS: Final = ("nats:", "tls:")
"""NATS cannot count over all nodes at once."""
