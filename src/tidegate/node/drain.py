"""Leaving in good order: all are told, then closed one after the other, and the rest is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.core.codes import DRAINED, close_reason
from tidegate.core.timing.drain import DrainSchedule

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine

__all__ = ["Drain", "leave_on_signals"]

_STEP_SECONDS: Final = 0.02
_SLICE: Final = 256  # connections told or closed before the loop gets its turn again


class Drain:
    """One drain of a node: who was told, who was closed, and who is still there.

    Those who are connected when it is made are closed over ``window`` seconds, each after all
    that was sent to it or published to its rooms before. Nobody new may be let in from then on.

    Args:
        window: seconds over which the closes are spread; with 0 all are closed at once.
        grace: seconds after the window until whoever is left may be cut off.
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
        """Whether somebody asks how far it is; for whoever shows it to set."""
        self._engine = engine
        self._tell = tell
        self._started = monotonic()
        self.deadline = self._started + window + grace
        """When whoever is left is cut off, in monotonic seconds."""
        # Those who only wait to be let in are sent away by the waiting line.
        self._connections = [each for each in engine.connections() if each.lease.held]
        self.total = len(self._connections)
        """How many were connected at the start."""
        self._schedule = DrainSchedule(self.total, window, self._started)
        # Without a window nobody has a time of its own.
        usual = DRAINED.retry_after
        assert usual is not None
        self._delay = None if window else float(usual)
        self._reason = close_reason(DRAINED, 0 if window else usual)

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
            if self.told % _SLICE == 0:
                await asyncio.sleep(0)
        self.told = count

    async def _close_until(self, count: int) -> None:
        fanout = self._engine.fanout
        for index in range(self.closed, min(count, len(self._connections))):
            connection = self._connections[index]
            # What was published to its rooms, and acknowledged, may still be on its way.
            fanout.when_sent(connection.rooms, partial(self._close, connection))
            self.closed = index + 1
            if self.closed % _SLICE == 0:
                await asyncio.sleep(0)
        self.closed = count

    def _close(self, connection: Connection) -> None:
        if not connection.open:
            return
        assert DRAINED.close is not None
        connection.close(DRAINED.close, self._reason, DRAINED.name)
        if connection.buffered:
            # What waits for a slow peer comes before its close frame, and there is time for it.
            self._engine.closing.set(connection, self.deadline)

    def _all_gone(self) -> bool:
        """Whether all connections are closed and their handlers done."""
        connections = self._connections
        # The last ones are closed last, so this looks at each of them about once.
        while connections and connections[-1].closed:
            connections.pop()
        return not connections and not self._engine.tasks


@contextlib.contextmanager
def leave_on_signals(drain: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """While the context lasts, SIGTERM calls ``drain`` and SIGINT ``stop``.

    The next signal of either ends the process at once.
    """
    loop = asyncio.get_running_loop()
    ways = {signal.SIGTERM: drain, signal.SIGINT: stop}

    def leave(way: Callable[[], object]) -> None:
        for number in ways:
            # The system's own handling works even when the loop is stuck.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        way()

    for number, way in ways.items():
        loop.add_signal_handler(number, leave, way)
    try:
        yield
    finally:
        for number in ways:
            loop.remove_signal_handler(number)
