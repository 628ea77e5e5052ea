"""The drain: all connections are told, then closed one after the other, and the rest is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import DRAINED
from tidegate.core.timing.drain import DrainSchedule
from tidegate.engine.states import Admission

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine

__all__ = ["Drain"]

_STEP_SECONDS: Final = 0.02
_BATCH: Final = 256  # connections told or closed before others get their turn


class Drain:
    """One drain of a node: who was told, who was closed, and who is still there.

    Those who are connected when it is made are closed over ``window`` seconds, each after all
    that was sent to it or published to its rooms before. If others are let in after that,
    `count_again` takes them in.

    Args:
        window: seconds over which the closes are spread; with 0 all are closed at once.
        grace: seconds after the window until the connections that are left may be cut off.
        tell: sends a connection its notice, with the seconds after which it may come back.
    """

    def __init__(
        self,
        engine: Engine,
        window: float,
        grace: float,
        tell: Callable[[Connection, float], None],
    ) -> None:
        self.window = window
        self.told = 0
        self.closed = 0
        """How many it was the turn of, whether or not they had left by themselves."""
        self.over = False
        """True once all are gone or the deadline has passed; set it to end the drain before."""
        self.watched = False
        """Whether somebody asks how far it is; set by what shows it."""
        self._engine = engine
        self._tell = tell
        self._grace = grace
        self._started: float
        self._connections: list[Connection]
        self._schedule: DrainSchedule
        self.deadline: float
        """When the connections that are left are cut off, in monotonic seconds."""
        self.total: int
        """How many were connected at the start."""
        self.count_again()
        # Without a window no connection has a time of its own.
        self._delay = None if window else float(DRAINED.retry_after or 0)
        self._retry_after = 0 if window else None

    def count_again(self) -> None:
        """Begin the window now, with all that are connected now. Call it before `run`."""
        self._started = monotonic()
        self.deadline = self._started + self.window + self._grace
        # Those that wait to be admitted are sent away by the waiting room.
        self._connections = [
            each for each in self._engine.connections() if each.admission is not Admission.WAITING
        ]
        self.total = len(self._connections)
        self._schedule = DrainSchedule(self.total, self.window, self._started)

    @property
    def open(self) -> int:
        """How many of them are still connected."""
        return sum(not connection.closed for connection in self._connections)

    def progress(self) -> dict[str, object]:
        """How far it is, as plain values; times in seconds."""
        now = monotonic()
        return {
            "draining": True,
            "over": self.over,
            "total": self.total,
            "told": self.told,
            "closed": self.closed,
            "open": self.open,
            "window": self.window,
            "elapsed": round(now - self._started, 3),
            "left": round(max(0.0, self.deadline - now), 3),
        }

    async def run(self) -> None:
        """Tell and close all of them; return when they are gone, at the deadline at the latest.

        Nothing is cut off here: what is left is the caller's to end.
        """
        schedule = self._schedule
        while not self.over:
            now = monotonic()
            await self._tell_until(schedule.told(now))
            await self._close_until(schedule.due(now))
            if self._all_gone() or now >= self.deadline:
                self.over = True
                return
            await asyncio.sleep(_STEP_SECONDS)

    async def _tell_until(self, count: int) -> None:
        for index in range(self.told, min(count, len(self._connections))):
            connection = self._connections[index]
            if connection.open:
                delay = self._schedule.slot(index) if self._delay is None else self._delay
                self._tell(connection, delay)
            self.told = index + 1
            if self.told % _BATCH == 0:
                await asyncio.sleep(0)
        self.told = count

    async def _close_until(self, count: int) -> None:
        fanout = self._engine.shared.fanout
        for index in range(self.closed, min(count, len(self._connections))):
            connection = self._connections[index]
            # What was published to its rooms, and acknowledged, may still be on its way.
            fanout.when_sent(connection.rooms, partial(self._close, connection))
            self.closed = index + 1
            if self.closed % _BATCH == 0:
                await asyncio.sleep(0)
        self.closed = count

    def _close(self, connection: Connection) -> None:
        if not connection.open:
            return
        connection.end(DRAINED, self._retry_after)
        if connection.buffered:
            # What waits for a slow peer comes before its close frame, and there is time for it.
            self._engine.shared.closing.set(connection, self.deadline)

    def _all_gone(self) -> bool:
        """Whether all connections are closed and their handlers done."""
        connections = self._connections
        # The last ones are closed last, so this looks at each of them about once.
        while connections and connections[-1].closed:
            connections.pop()
        return not connections and not self._engine.at_work
