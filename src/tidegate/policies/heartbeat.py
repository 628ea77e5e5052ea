"""Heartbeats: which connections are due a ping, dead or idle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Final, Generic, TypeVar

from tidegate.core.settings import HeartbeatSettings
from tidegate.core.timing.heartbeat import Heartbeat
from tidegate.policies.ticking import Ticking

__all__ = ["HeartbeatManager"]

C = TypeVar("C", bound=Hashable)

_DEFAULTS: Final = HeartbeatSettings()
_log = logging.getLogger("tidegate")


class _Peer(Generic[C]):
    """What `Heartbeat` needs of a connection."""

    __slots__ = ("beat", "connection", "last_active", "last_seen")

    def __init__(self, connection: C, now: float) -> None:
        self.connection = connection
        self.last_seen = self.last_active = now
        self.beat = -1


class HeartbeatManager(Generic[C]):
    """Pings connections and finds those that are dead; any hashable object can be a connection.

    It does not send or read anything itself: you say how to ping, and call `seen` for all that
    comes from a connection. One structure holds all of them, so there is no timer for each. Time in
    which the event loop itself stood still does not count against connections.

        async with HeartbeatManager(ping=ping, on_dead=close) as heartbeat:
            heartbeat.add(websocket)

    Not safe from other threads.

    Args:
        ping: sends a ping; plain or async. What it raises is logged.
        on_dead: called when a connection showed no life for `timeout` seconds after a ping. It is
            forgotten already. Plain or async.
        on_idle: called when a connection sent no message for `idle_timeout` seconds; it is called
            again until the connection is removed or sends one.
        interval: seconds between two pings of a connection.
        timeout: seconds.
        idle_timeout: seconds, 0 for never.
        clock: monotonic seconds.

    Raises:
        ConfigError: a time is out of its range.
    """

    def __init__(
        self,
        *,
        ping: Callable[[C], Awaitable[object] | object],
        on_dead: Callable[[C], Awaitable[object] | object],
        on_idle: Callable[[C], Awaitable[object] | object] | None = None,
        interval: float = _DEFAULTS.interval,
        timeout: float = _DEFAULTS.timeout,
        idle_timeout: float = _DEFAULTS.idle_timeout,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        checked = HeartbeatSettings(interval=interval, timeout=timeout, idle_timeout=idle_timeout)
        self._ping, self._on_dead, self._on_idle = ping, on_dead, on_idle
        self._clock = clock
        self._beats: Heartbeat[_Peer[C]] = Heartbeat(
            checked.interval, checked.timeout, checked.idle_timeout, clock()
        )
        self._peers: dict[C, _Peer[C]] = {}
        self._tasks: set[asyncio.Future[object]] = set()
        self._ticking = Ticking(lambda _late: self.tick(), lambda: self._beats.period)

    def add(self, connection: C) -> None:
        """Begin to watch a connection; its first ping is due one interval from now."""
        if connection not in self._peers:
            peer = self._peers[connection] = _Peer(connection, self._clock())
            self._beats.add(peer, peer.last_seen)

    def remove(self, connection: C) -> None:
        """Forget a connection, if it is watched."""
        peer = self._peers.pop(connection, None)
        if peer is not None:
            self._beats.remove(peer)

    def seen(self, connection: C, *, message: bool = False) -> None:
        """Note that something came: a pong, say, or with `message` a message of the client."""
        peer = self._peers.get(connection)
        if peer is not None:
            peer.last_seen = self._clock()
            if message:
                peer.last_active = peer.last_seen

    def tick(self) -> None:
        """Do what is due. The context manager calls it; else call it several times a second.

        Async callbacks need a running loop.
        """
        beat = self._beats.tick(self._clock())
        for peer in beat.dead:
            self._peers.pop(peer.connection, None)
            self._call(self._on_dead, peer.connection)
        for peer in beat.pings:
            self._call(self._ping, peer.connection)
        if self._on_idle is not None:
            for peer in beat.idle:
                self._call(self._on_idle, peer.connection)

    def __len__(self) -> int:
        """How many connections are watched."""
        return len(self._peers)

    async def __aenter__(self) -> HeartbeatManager[C]:
        self._ticking.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._ticking.stop()
        for task in self._tasks:
            task.cancel()

    def _call(self, callback: Callable[[C], Awaitable[object] | object], connection: C) -> None:
        try:
            result = callback(connection)
        except Exception:
            _log.exception("a callback of the heartbeat failed")
            return
        if isinstance(result, Awaitable):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a callback of the heartbeat failed", exc_info=error)
