"""What a zone does to open connections: their profile, the news of it, and closes.

Pressure is sampled four times a second. A change of zone is in force at once; its news go out in
even batches over five seconds, and so do the closes of connections that are shed, so that neither
is a burst of its own. Who is admitted is not decided here but by ``core.admission``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from tidegate.core.admission.shedding import Change, LoadShedder, Signals, Zone
from tidegate.core.codes import SHED
from tidegate.engine.states import Admission
from tidegate.engine.tasks import is_awaitable

if TYPE_CHECKING:
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine

__all__ = ["ZoneHandler", "Zones"]

ZoneHandler = Callable[[Change], Awaitable[None] | None]

_log = logging.getLogger("tidegate")

_PERIOD: Final = 0.25
_BATCHES: Final = 50
_LEAST: Final = 20  # fewer at a time would not be noticed


class Zones:
    """Applies the zones of one node. ``tick`` belongs to the loop's thread.

    Args:
        application: is given a new profile, and every connection that is to be told of it.
        read: returns the signals at a time.
        on_change: the operator's hook; what it raises is logged.
        chance: returns a random number in [0, 1).
    """

    def __init__(
        self,
        shedder: LoadShedder,
        engine: Engine,
        tracker: ConnectionTracker,
        stats: Stats,
        application: Application[Connection],
        read: Callable[[float], Signals],
        on_change: ZoneHandler | None,
        chance: Callable[[], float],
    ) -> None:
        self._application = application
        self._shedder = shedder
        self._engine = engine
        self._tracker = tracker
        self._stats = stats
        self._read = read
        self._on_change = on_change
        self._chance = chance
        self._next_sample = -inf
        self._untold = _Batches()
        self._unshed = _Batches()

    def tick(self, now: float, *, may_shed: bool = True) -> None:
        """Do what is due; called ten times a second. ``now`` is in monotonic seconds.

        ``may_shed`` is False while all connections are being closed anyway.
        """
        if now >= self._next_sample:
            # Added to the last one, so that the ticks between make no sample late; a stall does.
            following = self._next_sample + _PERIOD
            self._next_sample = following if following > now else now + _PERIOD
            self._sample(now, may_shed)
        for connection in self._untold.take():
            if connection.open:
                self._application.tell_profile(connection)
        if not may_shed or self._shedder.zone is not Zone.EMERGENCY:
            self._unshed.clear()
        for connection in self._unshed.take():
            if self._may_go(connection, now):
                self._close(connection)

    def _sample(self, now: float, may_shed: bool) -> None:
        shedder = self._shedder
        change = shedder.sample(self._read(now), now)
        if change is not None:
            self._changed(change)
            return  # one walk over all connections is enough for a turn of the loop
        if not may_shed:
            return
        # One that waits to be admitted is no load worth shedding.
        idle = (
            (connection.last_active, connection)
            for connection in self._engine.connections()
            if connection.admission is not Admission.WAITING
            and not shedder.prefers(connection.lease.priority)
        )
        if chosen := shedder.shed(idle, self._tracker.open, now):
            _log.warning("shedding idle connections", extra={"connections": len(chosen)})
            self._unshed.begin(chosen)

    def _changed(self, change: Change) -> None:
        shedder, new = self._shedder, change.new
        self._stats.zone_changes[new.label] += 1
        news = {
            "zone": new.label,
            "was": change.old.label,
            "pressure": round(change.pressure, 3),
            "driver": change.driver,
        }
        worse = shedder.acts and new > change.old
        _log.log(logging.WARNING if worse else logging.INFO, "zone changed", extra=news)
        if shedder.acts:
            self.enforce()
            self._untold.begin(self._engine.connections())
        if self._on_change is not None:
            try:
                work = self._on_change(change)
            except Exception as error:
                _failed(error)
                return
            if is_awaitable(work):
                self._engine.shared.tasks.start_guarded(work, _failed)

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change; connections are told what changes for them."""
        before = self._shedder.profile
        self._shedder.apply(settings)
        if not self._shedder.acts:
            self._unshed.clear()
        self.enforce()
        if self._shedder.profile != before:
            self._untold.begin(self._engine.connections())

    def enforce(self) -> None:
        """Put the present profile in force for all connections."""
        shedder, shared = self._shedder, self._engine.shared
        profile = shedder.profile
        shared.rates.limit(profile.messages_per_second or inf)
        shared.heartbeat.set_interval(profile.ping_interval)
        self._application.profile_changed(shedder.zone, profile, shedder.degraded)

    def _may_go(self, connection: Connection, now: float) -> bool:
        """Whether one that was chosen is still idle and without priority."""
        shedder = self._shedder
        idle = shedder.idle(connection.last_active, now)
        return connection.open and idle and not shedder.prefers(connection.lease.priority)

    def _close(self, connection: Connection) -> None:
        # Not all at the same time, or they would be the next burst.
        delay = (SHED.retry_after or 0) * (1.0 + self._chance())
        connection.end(SHED, ceil(delay))


class _Batches:
    """Connections that are gone through in even batches, one each tick."""

    def __init__(self) -> None:
        self._left: Iterator[Connection] = iter(())
        self._size = 0

    def begin(self, connections: Iterable[Connection]) -> None:
        """Go through these, and drop those that are left."""
        present = list(connections)
        self._left = iter(present)
        self._size = max(_LEAST, ceil(len(present) / _BATCHES))

    def take(self) -> list[Connection]:
        """The next batch; empty when all were gone through."""
        return list(islice(self._left, self._size))

    def clear(self) -> None:
        """Drop those that are left."""
        self._left = iter(())


def _failed(error: Exception) -> None:
    _log.error("on_zone_change failed", exc_info=error)
