"""The engine: poller, listeners, deadlines and heartbeat of all connections of one process.

It builds the parts, tells them the time and ends them. What connections and listeners do is in
their own modules, over the record that they share (`shared`).
"""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.core.codes import IDLE_TIMEOUT, Close
from tidegate.core.timing.heartbeat import Heartbeat
from tidegate.core.timing.rates import Rates
from tidegate.engine.connection import Connection
from tidegate.engine.descriptors import Shares
from tidegate.engine.endpoints import listen
from tidegate.engine.fanout import Fanout
from tidegate.engine.intake import Intake
from tidegate.engine.lingering import Lingerers
from tidegate.engine.listener import Listener
from tidegate.engine.poller import make_poller
from tidegate.engine.posts import Posts
from tidegate.engine.shared import Shared
from tidegate.engine.stream import Stream
from tidegate.engine.streams import Streams
from tidegate.engine.tasks import Tasks
from tidegate.engine.tls import server_context
from tidegate.engine.unfinished import Unfinished

if TYPE_CHECKING:
    import ssl

    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.application import Application, Host
    from tidegate.engine.door import Door
    from tidegate.engine.endpoints import Endpoint

__all__ = ["Engine"]

_TICK_SECONDS = 0.1
_STALL_SECONDS = 1.0
_LOOK_SECONDS = 0.02
_CLOSES_PER_BATCH = 256
_UNIX_MODE = 0o660  # a proxy that runs as another user needs to be in the group


class Engine:
    """Holds connections. Decides nothing: the door decides, the application acts.

    All methods belong to the loop's thread. Call `start` in the running loop, and `stop` before
    the loop ends.

    Args:
        settings: the settings, valid as they are.
        stats: where it counts.
        passed: sockets to listen on in place of the addresses in the settings.

    Raises:
        ConfigError: a key or certificate cannot be used.
    """

    def __init__(self, settings: Settings, stats: Stats, passed: Sequence[Endpoint] = ()) -> None:
        tls = _tls(settings)
        poller = make_poller()
        heartbeat: Heartbeat[Connection] = Heartbeat(
            settings.heartbeat.interval,
            settings.heartbeat.timeout,
            settings.heartbeat.idle_timeout,
            monotonic(),
        )
        shares = Shares.of(None)
        self.shared = Shared(
            secrets.token_hex(4),
            settings,
            stats,
            poller,
            Fanout(poller, stats),
            heartbeat,
            Rates(settings.messages, settings.limits.rooms_per_connection),
            Unfinished(shares.openings, settings.limits),
            Lingerers(Unfinished(shares.lingering, settings.limits)),
            Streams(shares.connections, settings.limits),
            Tasks(),
            tls,
        )
        self.listeners: list[Listener] = []
        self._passed = passed
        self._heartbeat = heartbeat
        self._settings = settings
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._next_beat = 0.0
        self._worst_lag = 0.0

    # Life.

    def start(
        self,
        application: Application[Connection],
        host: Host[Connection],
        door: Door,
        descriptors: int | None = None,
    ) -> None:
        """Listen, and let the running loop drive the poller.

        Args:
            descriptors: how many file descriptors the process may have, None for no limit.

        Raises:
            ConfigError: an address cannot be listened on.
        """
        server, shared = self._settings.server, self.shared
        endpoints = listen(
            "server",
            server.host,
            server.port,
            server.backlog,
            mode=_UNIX_MODE,
            passed=self._passed,
        )
        limits = self._settings.limits
        shares = shared.shares = Shares.of(descriptors)
        shared.unfinished.share(shares.openings, limits)
        shared.lingerers.unfinished.share(shares.lingering, limits)
        shared.streams.share(shares.connections, limits)
        shared.application = application
        shared.host = host
        shared.door = door
        shared.on_message = application.message
        shared.refuses_early = application.refuses_early
        shared.cancels = application.cancels
        if application.max_message is not None:
            shared.max_message = application.max_message
        loop = shared.loop = asyncio.get_running_loop()
        shared.poller.attach(loop, Intake(shared).handle, self._background)
        protocol = self._settings.proxies.protocol
        self.listeners += [Listener(shared, endpoint, protocol) for endpoint in endpoints]
        _tune_collector()
        now = monotonic()
        self._next_beat = now + self._heartbeat.period
        self._next_tick = now + _TICK_SECONDS
        self._timer = loop.call_later(_TICK_SECONDS, self._tick)
        for listener in self.listeners:
            listener.open()

    def stop_listening(self) -> None:
        """Accept no more."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    @property
    def passes_on(self) -> bool:
        """Whether other processes have its sockets too, and will accept from them."""
        return bool(self._passed)

    async def pass_on(self) -> None:
        """Stop accepting, and wait until each attempt that was accepted has an answer.

        What waits in the kernel's queues is left to the process that has the sockets next.
        """
        deadline = monotonic() + self.shared.handshake_timeout
        for listener in self.listeners:
            listener.stop_accepting()
        while monotonic() < deadline and (
            self.shared.openings or not all(listener.idle for listener in self.listeners)
        ):
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self, reason: Close, timeout: float, finish: float = 0.0) -> None:
        """Close every connection for ``reason`` and wait at most ``timeout`` seconds for them.

        What is still there then is aborted, and handlers that still run are cancelled.

        Args:
            finish: seconds for HTTP responses that are under way, if that is longer.
        """
        deadline = monotonic() + timeout
        finished = max(deadline, monotonic() + finish)
        self.stop_listening()
        shared = self.shared
        for opening in shared.openings.due(float("inf")):
            opening.drop()
        if self._timer is not None:  # else it never started
            shared.application.stopping()
        for index, connection in enumerate(list(self.connections())):
            connection.end(reason)
            if index % _CLOSES_PER_BATCH == 0:
                await asyncio.sleep(0)
        while (self._has(Connection) or self.at_work) and monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
        self._abort(Connection)
        self._abort(Posts)
        while self._has(Stream) and monotonic() < finished:
            await asyncio.sleep(_LOOK_SECONDS)
        self._abort(Stream)
        shared.leftover.clear()
        shared.tasks.cancel()
        # The last close handlers are called from the poller's queue.
        while shared.poller.ready:
            shared.poller.turn()
        # A handler that ends now has its connection's close handler called.
        await shared.tasks.wait()
        if self._timer is not None:
            self._timer.cancel()
        shared.lingerers.close()
        shared.poller.close()

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self.shared.apply(settings)
        self.shared.rates.apply(settings.messages, settings.limits.rooms_per_connection)
        own = settings.heartbeat
        self._heartbeat.apply(own.interval, own.timeout, own.idle_timeout)
        for listener in self.listeners:
            listener.bound_kernel(settings.outbox.kernel_bytes)

    def reload_tls(self) -> None:
        """Read certificate and key anew, for the connections from now on.

        Raises:
            ConfigError: they cannot be used; those from before stay in force.
        """
        context = _tls(self._settings)
        self.shared.tls = context
        for listener in self.listeners:
            listener.tls = context

    # What is known of it.

    def connections(self) -> Iterator[Connection]:
        """Yield every connection that has a socket, in no order."""
        return (entry for entry in self.shared.poller.table if isinstance(entry, Connection))

    def _has(self, kind: type[Connection] | type[Stream]) -> bool:
        return any(isinstance(entry, kind) for entry in self.shared.poller.table)

    def _abort(self, kind: type[Connection] | type[Stream] | type[Posts]) -> None:
        for entry in list(self.shared.poller.table):
            if isinstance(entry, kind):
                entry.abort()

    @property
    def at_work(self) -> bool:
        """Whether a method of the application is at work, or messages wait for one."""
        return bool(self.shared.tasks or self.shared.leftover)

    @property
    def opening(self) -> int:
        """How many attempts have no answer yet."""
        return len(self.shared.openings)

    @property
    def buffered(self) -> int:
        """Bytes in the outboxes of open connections; a look at those that had one lately."""
        return sum(sender.buffered for sender in self.shared.slow)

    @property
    def slow(self) -> int:
        """How many connections have bytes in their outbox."""
        return sum(1 for sender in self.shared.slow if sender.buffered)

    @property
    def kept(self) -> int:
        """Bytes that `buffers.max_bytes` bounds: unfinished messages, and outboxes."""
        return self.shared.buffers.bytes

    def take_lag(self) -> float:
        """The longest that the loop was late since the last call, in seconds."""
        lag, self._worst_lag = self._worst_lag, 0.0
        return lag

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Call ``work`` in so many seconds; with 0.0 in the next turn, not at once."""
        if seconds:
            self.shared.loop.call_later(seconds, work)
        else:
            self.shared.poller.ready.append(work)
            self.shared.poller.wake()

    def each(self, items: Iterable[Connection], do: Callable[[Connection], None]) -> None:
        """Do something with each of many; what takes too long comes behind what is ready."""
        self.shared.later.each(items, do)

    def _background(self, until: float) -> bool:
        """Do what comes behind all that is ready; True when some is left."""
        left = self.shared.later.step()
        return self.shared.fanout.step(until) or left

    # Time.

    def _tick(self) -> None:
        shared = self.shared
        now = shared.poller.now = monotonic()
        lag = max(0.0, now - self._next_tick)
        shared.stats.loop_lag.observe(lag)
        self._worst_lag = max(self._worst_lag, lag)
        self._next_tick = now + _TICK_SECONDS
        self._timer = shared.loop.call_later(_TICK_SECONDS, self._tick)
        if now >= self._next_beat:
            self._next_beat = now + self._heartbeat.period
            self._beat(now)
        if lag > _STALL_SECONDS:
            return  # what came during the stall is read before anyone is found to be late
        each = shared.later.each
        each(shared.openings.take(now), lambda opening: opening.timeout())
        each(shared.closing.take(now), Connection.closing_timeout)
        each(shared.fragments.take(now), Connection.fragment_timeout)
        each(shared.slow.take(now), Connection.look)
        each(shared.posts.take(now), Posts.timeout)
        shared.lingerers.sweep(now)
        shared.host.tick(now)

    def _beat(self, now: float) -> None:
        beat = self._heartbeat.tick(now)
        each = self.shared.later.each
        if beat.pings:
            each(beat.pings, _ping)
        if beat.dead:
            each(beat.dead, _lost)
        if beat.idle:
            each(beat.idle, _end_idle)


def _ping(connection: Connection) -> None:
    if connection.open:
        connection.ping_now()


def _lost(connection: Connection) -> None:
    if not connection.closed:
        connection.dead()


def _end_idle(connection: Connection) -> None:
    connection.end(IDLE_TIMEOUT)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    own = settings.tls
    if own.certificate is None or own.key is None:
        return None
    return server_context(own.certificate, own.key, own.key_password)


def _tune_collector() -> None:
    """Keep the garbage collector from stopping the loop.

    Connections are made without cycles and end by their reference counts, so collections find
    next to nothing; they are for the application's objects. What exists at the start is never
    looked at again. New objects are looked at in small batches, of a few milliseconds each, and
    full collections, which look at every connection, are made rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)
