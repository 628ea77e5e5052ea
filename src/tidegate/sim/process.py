"""The gate of one node, from the start of its process to its end, on the virtual clock.

The parts are those that `node.Node` composes, and the decisions are theirs. There is no engine: the
connections on which clients wait are the simulated clients themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.gate.gate import Gate
from tidegate.gate.refusals import Refusals
from tidegate.gate.waiting import WaitingClients

if TYPE_CHECKING:
    from tidegate.core.admission.positions import Status
    from tidegate.gate.decision import Decision, Held, OpeningRequest, Pending
    from tidegate.sim.backplane import Counts
    from tidegate.sim.clients import Client
    from tidegate.sim.clock import Clock

__all__ = ["WALL", "Process"]

WALL: Final = 1_800_000_000.0
"""Unix seconds at the start of the virtual clock, for tickets."""

_TICK: Final = 0.1


class Process:
    """The policies of one node.

    Args:
        admitted: is told of a client that has waited and has its lease now.
        turned_away: is told of one that waits no longer.
        counts: counts the leases of the fleet; None where nodes count for themselves.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        chance: Callable[[], float],
        admitted: Callable[[Client, Lease], None],
        turned_away: Callable[[Client, Reject], None],
        counts: Counts | None,
    ) -> None:
        self._clock = clock
        self._admitted = admitted
        self._turned_away = turned_away
        self._ticking = False
        self._ended = False
        self._identity = ANONYMOUS
        self.stats = Stats()
        self.counts = counts
        self.tracker = ConnectionTracker(settings.limits, settings.tiers, counts)
        self.shedder = LoadShedder(settings, clock.now)
        self.admission = Admission(settings, self.tracker, self.shedder, chance, _ignore)
        self.waiting: WaitingClients[Client] = WaitingClients(
            settings, self.admission, self.tracker, self.stats, self, lambda: clock.now, counts
        )
        self.gate = Gate(
            settings,
            self.stats,
            self.admission,
            self.waiting,
            self,
            Refusals(self.stats),
            fleet=counts,
            holds_waiting=True,
        )

    def decide(self, client: Client, now: float) -> Decision | Pending:
        """Decide about an attempt. HOT."""
        self._identity = client.identity
        return self.gate.decide(client.request, now, WALL + now)

    def identify(self, _request: OpeningRequest, /) -> Identity:
        """Say who an attempt is from (`Identifier`); who has which token is not simulated."""
        return self._identity

    def release(self, lease: Lease) -> None:
        """A connection has ended."""
        if self.tracker.release(lease):
            self.waiting.freed()

    def ready(self, now: float) -> bool:
        """Whether the node says that it should get new connections, as `/ready` does."""
        admission, tracker = self.admission, self.tracker
        if admission.draining or admission.out_of_rotation(now):
            return False
        return tracker.open < tracker.limit

    def end(self) -> None:
        """The process is gone, and does nothing any more; what waits or is kept for one ends."""
        self.admission.draining = True
        if self.counts is not None:
            self.counts.end()
        while self.waiting.kept or len(self.waiting):
            self.waiting.tick(self._clock.now)
        self._ended = True

    def busy(self) -> None:
        """Clients wait, or leases are kept: tick from now on, until that is over."""
        if not self._ticking:
            self._ticking = True
            self._clock.after(_TICK, self._tick)

    def _tick(self) -> None:
        if self._ended:
            return
        self.waiting.tick(self._clock.now)
        if len(self.waiting) or self.waiting.kept:
            self._clock.after(_TICK, self._tick)
        else:
            self._ticking = False

    # What `WaitingClients` asks of its host.

    def tell(self, client: Client, status: Status[Any], /) -> None:
        """Nobody here looks at a position."""

    def admit(self, client: Client, lease: Lease, _held: Held, /) -> bool:
        """Give a client that has waited its lease."""
        self._admitted(client, lease)
        return True

    def turn_away(self, client: Client, reject: Reject, /) -> None:
        """End the wait of a client."""
        self._turned_away(client, reject)

    def schedule(self, seconds: float, work: Callable[[], None], /) -> None:
        """Call something later, if the process is still there."""
        self._clock.after(seconds, self._unless_ended, work)

    def _unless_ended(self, work: Callable[[], None]) -> None:
        if not self._ended:
            work()


def _ignore(_policy: str) -> None:
    pass
