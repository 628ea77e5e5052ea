"""What a zone does to those who are in: its profile, the news of it, and who has to go.

Pressure is sampled four times a second. A change of zone is in force at once; its news go out in
even parts over five seconds, and so do the closes of those who are shed, so that neither is a
burst of its own. Who is let in is not decided here but by ``core.admission``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.admission.shedding import Change, LoadShedder, Profile, Signals, Zone
from tidegate.core.codes import SHED

if TYPE_CHECKING:
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine

__all__ = ["ZoneHandler", "Zones"]

ZoneHandler = Callable[[Change], Awaitable[None] | None]

_log = logging.getLogger("tidegate")

_PERIOD: Final = 0.25
_PARTS: Final = 50
_LEAST: Final = 20  # fewer at a time would not be noticed


class Zones:
    """Applies the zones of one node. ``tick`` belongs to the loop's thread.

    Args:
        read: returns the signals at a time.
        on_change: the operator's hook; what it raises is logged.
        chance: returns a random number in [0, 1).

    ``enforce`` and ``tell`` are for what speaks a protocol: they are called with a new profile,
    and with every connection that is to be told of it.
    """

    def __init__(
        self,
        shedder: LoadShedder,
        engine: Engine,
        tracker: ConnectionTracker,
        stats: Stats,
        read: Callable[[float], Signals],
        on_change: ZoneHandler | None,
        chance: Callable[[], float],
    ) -> None:
        self.enforce: Callable[[Profile], None] = lambda profile: None  # noqa: ARG005
        self.tell: Callable[[Connection], None] | None = None
        self._shedder = shedder
        self._engine = engine
        self._tracker = tracker
        self._stats = stats
        self._read = read
        self._on_change = on_change
        self._chance = chance
        self._next_sample = -inf
        self._untold = _Parts()
        self._unshed = _Parts()

    def tick(self, now: float, *, may_shed: bool = True) -> None:
        """Do what is due; called ten times a second. ``now`` is in monotonic seconds.

        ``may_shed`` is False while all connections are being closed anyway.
        """
        if now >= self._next_sample:
            # Added to the last one, so that the ticks between make no sample late; a stall does.
            following = self._next_sample + _PERIOD
            self._next_sample = following if following > now else now + _PERIOD
            self._sample(now, may_shed)
        if self.tell is not None:
            for connection in self._untold.take():
                if connection.open:
                    self.tell(connection)
        if not may_shed or self._shedder.zone is not Zone.EMERGENCY:
            self._unshed.clear()
        for connection in self._unshed.take():
            if self._may_go(connection, now):
                self._close(connection)

    def snapshot(self, now: float) -> dict[str, Any]:
        """Zone, pressure and what drives it, as plain values."""
        shedder = self._shedder
        return {
            "zone": shedder.zone.label,
            "since": round(now - shedder.since, 3),
            "pressure": round(shedder.pressure, 4),
            "driver": shedder.driver,
            "pressures": {name: round(value, 4) for name, value in shedder.pressures.items()},
            "acts": shedder.acts,
        }

    def _sample(self, now: float, may_shed: bool) -> None:
        shedder = self._shedder
        change = shedder.sample(self._read(now), now)
        if change is not None:
            self._changed(change)
            return  # one walk over all connections is enough for a turn of the loop
        if not may_shed:
            return
        # One without a lease waits to be let in, and is no load worth shedding.
        idle = (
            (connection.last_active, connection)
            for connection in self._engine.connections()
            if connection.lease.held and not shedder.prefers(connection.lease.priority)
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
            profile = shedder.profile
            self._engine.rates.limit(profile.messages_per_second or inf)
            self._engine.heartbeat.set_interval(profile.ping_interval)
            self.enforce(profile)
            if self.tell is not None:
                self._untold.begin(self._engine.connections())
        if self._on_change is not None:
            try:
                work = self._on_change(change)
            except Exception as error:
                _failed(error)
                return
            if work is not None and hasattr(work, "__await__"):
                self._engine.start_task(_supervised(work))

    def _may_go(self, connection: Connection, now: float) -> bool:
        """Whether one that was chosen is still idle and without priority."""
        shedder = self._shedder
        idle = shedder.idle(connection.last_active, now)
        return connection.open and idle and not shedder.prefers(connection.lease.priority)

    def _close(self, connection: Connection) -> None:
        assert SHED.close is not None
        assert SHED.retry_after is not None
        # Not all at the same time, or they would be the next burst.
        delay = ceil(SHED.retry_after * (1.0 + self._chance()))
        reason = {"error": SHED.name, "message": SHED.message, "retryAfter": delay}
        text = json.dumps(reason, separators=(",", ":"))
        connection.close(SHED.close, text, SHED.name)


class _Parts:
    """Connections that are gone through in even parts, one each tick."""

    def __init__(self) -> None:
        self._left: Iterator[Connection] = iter(())
        self._size = 0

    def begin(self, connections: Iterable[Connection]) -> None:
        """Go through these, in place of those that are left."""
        present = list(connections)
        self._left = iter(present)
        self._size = max(_LEAST, ceil(len(present) / _PARTS))

    def take(self) -> list[Connection]:
        """The next part; nobody when all had their turn."""
        return list(islice(self._left, self._size))

    def clear(self) -> None:
        """Let those be who are left."""
        self._left = iter(())


async def _supervised(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        _failed(error)


def _failed(error: Exception) -> None:
    _log.error("on_zone_change failed", exc_info=error)
