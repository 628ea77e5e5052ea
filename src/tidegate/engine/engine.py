"""The engine: poller, listeners, deadlines and heartbeat of all connections of one process."""

from __future__ import annotations

import asyncio
import gc
import secrets
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from time import monotonic
from typing import Any, Protocol

from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.core.timing.deadlines import Deadlines
from tidegate.core.timing.heartbeat import Heartbeat
from tidegate.core.timing.rates import Rates
from tidegate.engine.connection import Connection
from tidegate.engine.door import Door, Grant
from tidegate.engine.fanout import Fanout
from tidegate.engine.intake import Intake
from tidegate.engine.lingering import Lingerers
from tidegate.engine.listener import Listener, listening_socket
from tidegate.engine.opening import Opening
from tidegate.engine.poller import make_poller
from tidegate.engine.receiving import Receiver
from tidegate.engine.sending import Corked, Sender
from tidegate.engine.tls import server_context
from tidegate.wire.frames import PING, encode
from tidegate.wire.handshake import Request

__all__ = ["Application", "Engine"]

_TICK_SECONDS = 0.1
_STALL_SECONDS = 1.0
_PING = struct.Struct("!d")
_CLOSES_PER_SLICE = 256
_LAST_SECONDS = 1.0  # for what cancelled handlers and the last close handlers still do


class Application(Protocol):
    """Whom the engine tells. Each method may be plain or return an awaitable."""

    def connect(self, connection: Connection, request: Request, /) -> Any:
        """A connection was admitted; what a plain method sends goes out with the 101."""

    def message(self, connection: Connection, message: str | bytes, /) -> Any:
        """A message came. The next one of this connection comes when this one is done."""

    def close(self, connection: Connection, code: int, reason: str, /) -> Any:
        """A connection ended. Called once, after its other handlers are done."""

    def granted(self, connection: Connection, grant: Grant) -> None:
        """A grant was taken up; nothing was sent yet."""

    def gone(self, connection: Connection, cause: str) -> None:
        """The socket is closed: give its lease back, now."""

    def failed(self, connection: Connection, error: Exception) -> None:
        """A handler of this connection raised."""

    def tick(self, now: float) -> None:
        """Called ten times a second, for deadlines of the application's own."""

    def warn(self, text: str) -> None:
        """Something the operator should know; may be called often."""


class Engine:
    """Holds connections. Decides nothing: the door decides, the application acts.

    All methods belong to the loop's thread. Call :meth:`start` in the running loop, and
    :meth:`stop` before the loop ends.
    """

    def __init__(
        self, settings: Settings, stats: Stats, door: Door, application: Application
    ) -> None:
        self.name = secrets.token_hex(4)
        """Unique for this process; the first half of every connection's id."""
        self.stats = stats
        self.door = door
        self.tls: ssl.SSLContext | None = None
        if settings.tls.certificate is not None and settings.tls.key is not None:
            self.tls = server_context(settings.tls.certificate, settings.tls.key)
        self.poller = make_poller()
        self.corked: Corked | None = None
        """Small messages that go out when a lot was handled; None when none is being handled."""
        self.lingerers = Lingerers()
        self.fanout = Fanout(self.poller, stats)
        self.heartbeat: Heartbeat[Connection] = Heartbeat(
            settings.heartbeat.interval,
            settings.heartbeat.timeout,
            settings.heartbeat.idle_timeout,
            monotonic(),
        )
        self.openings: Deadlines[Opening] = Deadlines()
        self.closing: Deadlines[Connection] = Deadlines()
        self.fragments: Deadlines[Receiver] = Deadlines()
        self.slow: Deadlines[Sender] = Deadlines()
        self.count = 0
        self.listeners: list[Listener] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop
        # Looked up once for all connections: these are read on every frame.
        self.max_message = settings.messages.max_size
        self.max_fragments = settings.messages.max_fragments
        self.fragment_timeout = settings.messages.fragment_timeout
        self.outbox = settings.outbox
        self.rates = Rates(settings.messages, settings.limits.rooms_per_connection)
        """What connections may send; :meth:`Rates.limit` is in force at once for all of them."""
        self.rates_are_dry = settings.limits.is_dry("messages")
        self.on_excess: Callable[[Any, str | bytes, float], None] | None = None
        """Called with a message that came too early, in place of the message handler, and with
        the seconds until one may come. None: the next ones are read later instead."""
        self.deflate_min_size = settings.deflate.min_size
        self.close_timeout = settings.server.close_timeout
        self.handshake_timeout = settings.server.handshake_timeout
        self.on_connect: Callable[[Connection, Request], Any] = application.connect
        # The halves of a connection call these with themselves, which are connections.
        self.on_message: Callable[[Any, str | bytes], Any] = application.message
        self.on_close: Callable[[Connection, int, str], Any] = application.close
        self.granted = application.granted
        self.on_error: Callable[[Any, Exception], None] = application.failed
        self.warn = application.warn
        self._application = application
        self._settings = settings
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._next_beat = 0.0
        self._worst_lag = 0.0

    # Life.

    def start(self) -> None:
        """Listen, and let the running loop drive the poller.

        Raises:
            ConfigError: an address cannot be listened on.
        """
        server = self._settings.server
        sock = listening_socket(server.host, server.port, server.backlog)
        self.loop = asyncio.get_running_loop()
        self.poller.attach(self.loop)
        self.poller.handle = Intake(self).handle
        self.poller.background = self.fanout.step
        listener = Listener(self, sock, self._settings.proxies.protocol)
        self.listeners.append(listener)
        _tune_collector()
        now = monotonic()
        self._next_beat = now + self.heartbeat.period
        self._next_tick = now + _TICK_SECONDS
        self._timer = self.loop.call_later(_TICK_SECONDS, self._tick)
        listener.open()

    def stop_listening(self) -> None:
        """Accept no more."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    async def stop(self, code: int, reason: str, timeout: float) -> None:
        """Close every connection with ``code`` and wait at most ``timeout`` seconds for them.

        What is still there then is aborted, and handlers that still run are cancelled.
        """
        deadline = monotonic() + timeout
        self.stop_listening()
        for opening in self.openings.due(float("inf")):
            opening.drop()
        for index, connection in enumerate(list(self.connections())):
            connection.close(code, reason, "shutdown")
            if index % _CLOSES_PER_SLICE == 0:
                await asyncio.sleep(0)
        while (any(True for _ in self.connections()) or self.tasks) and monotonic() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self.connections()):
            connection.abort()
        for task in self.tasks:
            task.cancel()
        # The last close handlers are called from the poller's queue.
        while self.poller.ready:
            self.poller.turn()
        # A handler that ends now has its connection's close handler called.
        deadline = monotonic() + _LAST_SECONDS
        while self.tasks and (left := deadline - monotonic()) > 0:
            await asyncio.wait(self.tasks, timeout=left)
        if self._timer is not None:
            self._timer.cancel()
        self.lingerers.close()
        self.poller.close()

    def connections(self) -> Iterator[Connection]:
        """Yield every connection that has a socket, in no order."""
        return (entry for entry in self.poller.table if type(entry) is Connection)

    @property
    def buffered(self) -> int:
        """Bytes in the outboxes of open connections; a look at those that had one lately."""
        return sum(sender.buffered for sender in self.slow)

    def take_lag(self) -> float:
        """The longest that the loop was late since the last call, in seconds."""
        lag, self._worst_lag = self._worst_lag, 0.0
        return lag

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Call ``work`` in so many seconds; with 0.0 in the next turn, not at once."""
        if seconds:
            self.loop.call_later(seconds, work)
        else:
            self.poller.ready.append(work)
            self.poller.wake()

    # Called by connections.

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` and keep it from being collected meanwhile."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def on_pong(self, payload: bytes) -> None:
        """Note how long our ping took; its payload is the time when it was sent."""
        if len(payload) == _PING.size:
            latency = monotonic() - _PING.unpack(payload)[0]
            # A peer can answer with any number; only a possible one is counted.
            if 0.0 <= latency <= self._settings.heartbeat.timeout:
                self.stats.heartbeat_latency.observe(latency)

    def gone(self, connection: Connection, cause: str) -> None:
        """Forget a connection whose socket was closed."""
        self.heartbeat.remove(connection)
        self.closing.discard(connection)
        self.fragments.discard(connection)
        self.slow.discard(connection)
        self.stats.duration.observe(self.poller.now - connection.opened_at)
        self._application.gone(connection, cause)

    def announce_close(self, connection: Connection, code: int, reason: str) -> None:
        """Tell the application that a connection ended."""
        try:
            work = self.on_close(connection, code, reason)
        except Exception as error:
            self.on_error(connection, error)
            return
        if work is not None and hasattr(work, "__await__"):
            self.start_task(self._supervise(connection, work))

    async def _supervise(self, connection: Connection, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:
            self.on_error(connection, error)

    # Time.

    def _tick(self) -> None:
        now = self.poller.now = monotonic()
        lag = max(0.0, now - self._next_tick)
        self.stats.loop_lag.observe(lag)
        self._worst_lag = max(self._worst_lag, lag)
        self._next_tick = now + _TICK_SECONDS
        self._timer = self.loop.call_later(_TICK_SECONDS, self._tick)
        if now >= self._next_beat:
            self._next_beat = now + self.heartbeat.period
            self._beat(now)
        if lag > _STALL_SECONDS:
            return  # what came during the stall is read before anyone is found to be late
        for opening in self.openings.due(now):
            opening.timeout()
        for connection in self.closing.due(now):
            connection.closing_timeout()
        for receiver in self.fragments.due(now):
            receiver.fragment_timeout()
        for sender in self.slow.due(now):
            sender.look()
        self.lingerers.sweep(now)
        self._application.tick(now)

    def _beat(self, now: float) -> None:
        beat = self.heartbeat.tick(now)
        if beat.pings:
            frame = encode(PING, _PING.pack(monotonic()))
            for connection in beat.pings:
                connection.ping(frame)
        for connection in beat.dead:
            connection.dead()
        for connection in beat.idle:
            connection.close(1000, "Idle timeout", "idle_timeout")


def _tune_collector() -> None:
    """Keep the garbage collector from stopping the loop.

    Connections are made without cycles and end by their reference counts, so collections find
    next to nothing; they are for the application's objects. What exists at the start is never
    looked at again. New objects are looked at in small lots, of a few milliseconds each, and
    full collections, which look at every connection, are made rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)
