"""`Server`: the gate, the engine and your handlers, as one object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from importlib.metadata import version
from random import random
from time import monotonic, time
from typing import Any

import uvloop

from tidegate.core import codes
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import Identity
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import Reason
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.core.timing.deadlines import Deadlines
from tidegate.engine.connection import Connection
from tidegate.engine.door import Grant
from tidegate.engine.engine import Engine
from tidegate.node.auth import Authenticator
from tidegate.node.drain import Drain, leave_on_signals
from tidegate.node.gate import Gate
from tidegate.node.line import Place, WaitingLine
from tidegate.node.pressure.signals import Readings
from tidegate.node.pressure.zones import ZoneHandler, Zones
from tidegate.node.users import Users
from tidegate.wire.handshake import Request

__all__ = ["CloseHandler", "ConnectHandler", "MessageHandler", "Server"]

ConnectHandler = Callable[[Connection, Request], Awaitable[None] | None]
MessageHandler = Callable[[Connection, str | bytes], Awaitable[None] | None]
CloseHandler = Callable[[Connection, int, str], Awaitable[None] | None]

_log = logging.getLogger("tidegate")

_WARNING_SECONDS = 1.0


class Server:
    """A WebSocket server behind the gate, with handlers of yours.

    Each handler may be plain or async. Those of one connection are called one at a time and in
    order; while an async one waits, only its own connection waits with it. A handler that raises
    closes its connection with 1011; the error is logged and nothing of it is shown to the peer.

    Args:
        settings: a :class:`Settings`, or a mapping of sections as in a settings file, such as
            ``{"limits": {"per_ip": 20}}``. The defaults otherwise.
        on_connect: called with the connection and the request when a connection is open.
        on_message: called with the connection and a ``str`` or ``bytes`` message.
        on_close: called with the connection, the close code and the reason, once, at the end.
        on_zone_change: called with the `Change` when the pressure makes the zone another one;
            plain or async. What it raises is logged.
        subprotocols: the subprotocols that your handlers speak, the preferred one first.
        http: given every request that asks for no WebSocket; returns a whole response (see
            :func:`tidegate.wire.handshake.http_response`) or None for the usual refusal.

    Raises:
        ConfigError: a setting is wrong, or a key or certificate cannot be used.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        on_connect: ConnectHandler | None = None,
        on_message: MessageHandler | None = None,
        on_close: CloseHandler | None = None,
        on_zone_change: ZoneHandler | None = None,
        subprotocols: Sequence[str] = (),
        http: Callable[[Request], bytes | None] | None = None,
    ) -> None:
        if settings is None:
            settings = Settings()
        elif not isinstance(settings, Settings):
            settings = Settings.from_mapping(settings)
        self.settings = settings
        self.stats = Stats()
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.rooms: Rooms[Connection] = Rooms(
            settings.limits.per_room, settings.limits.rooms_per_connection
        )
        self.users = Users()
        self.authenticator = Authenticator(settings.auth)
        # The engine calls the handlers directly: a method in between would cost every message.
        self.connect: Callable[[Connection, Request], Any] = on_connect or _nothing
        self.message: Callable[[Connection, str | bytes], Any] = on_message or _nothing
        self.close: Callable[[Connection, int, str], Any] = on_close or _nothing
        self.shedder = LoadShedder(settings, monotonic())
        self.admission = Admission(settings, self.tracker, self.stats, self.shedder, random)
        self.admission.on_dry_run = self._dry_run
        self.line = WaitingLine(
            settings, self.admission, self.tracker, self.stats, self._after, monotonic
        )
        self.gate = Gate(
            settings,
            self.stats,
            self.admission,
            self.line,
            self.authenticator,
            subprotocols,
            http,
        )
        self.engine = Engine(settings, self.stats, self.gate, self)
        read = Readings(self.tracker, self.engine).read
        self.zones = Zones(
            self.shedder, self.engine, self.tracker, self.stats, read, on_zone_change, random
        )
        self._expiries: Deadlines[Connection] = Deadlines()
        self._auth_deadlines: Deadlines[Connection] = Deadlines()
        self.leaving: Drain | None = None
        """The drain that is under way or over, if there is one."""
        self._departures: list[asyncio.Task[None]] = []
        self._stopping = False
        self._stopped = asyncio.Event()
        self._started_at = 0.0
        self._warned_at = float("-inf")
        self._unsaid = 0

    # Running.

    def run(self) -> None:
        """Serve as :meth:`serve` does, in an event loop of its own.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve in the running loop until SIGTERM, which drains, or SIGINT, which stops.

        A second signal ends the process at once.
        """
        with leave_on_signals(self.begin_leaving, self.begin_stop):
            await self.start()
            await self.stopped()

    async def start(self) -> None:
        """Listen. Call :meth:`stop` before the loop ends.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        self._started_at = monotonic()
        self.engine.start()

    async def stop(
        self,
        code: int = 1001,
        reason: str = "server shutting down",
        timeout: float | None = None,
    ) -> None:
        """Stop listening and close every connection at once.

        Stopping again, or while a drain ends, waits for the first to be done.

        Args:
            code: close code for those who are connected.
            reason: what the close frame says.
            timeout: seconds after which what is left is cut off; ``server.shutdown_timeout``
                when None.
        """
        self.draining = True
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        if self.leaving is None:
            _log.info("stopping", extra={"connections": self.tracker.open})
        else:
            self.leaving.over = True
        if timeout is None:
            timeout = self.settings.server.shutdown_timeout
        try:
            await self.engine.stop(code, reason, timeout)
        finally:
            self._stopped.set()

    def begin_stop(self) -> None:
        """Begin what :meth:`stop` does, and return at once."""
        self._depart(self.stop())

    async def drain(self, window: float | None = None) -> None:
        """Leave in good order: let nobody new in, close all spread over a window, and stop.

        Newcomers are refused with a reason meanwhile. Every connection gets what was sent to it
        before, then a close frame with 1012; those of the native protocol are told beforehand.
        What has not ended ``server.close_timeout`` seconds after the window is cut off.

        Args:
            window: seconds; ``drain.window`` when None, 0 for all at once.
        """
        self.begin_drain(window)
        await self.stopped()

    def begin_drain(self, window: float | None = None) -> Drain:
        """Begin what :meth:`drain` does, and return at once; a drain under way just goes on."""
        self.draining = True
        if self.leaving is None:
            if window is None:
                window = self.settings.drain.window
            grace = self.settings.server.close_timeout
            self.leaving = Drain(self.engine, window, grace, self.tell_leaving)
            _log.info("draining", extra={"connections": self.leaving.total, "window": window})
            self._depart(self._drain(self.leaving))
        return self.leaving

    def begin_leaving(self) -> None:
        """Begin what SIGTERM asks for: a drain, or a stop without `drain.on_sigterm`."""
        if self.settings.drain.on_sigterm:
            self.begin_drain()
        else:
            self.begin_stop()

    async def stopped(self) -> None:
        """Wait until the server has left, whoever asked it to."""
        await self._stopped.wait()
        await asyncio.gather(*self._departures)

    def _depart(self, work: Coroutine[Any, Any, None]) -> None:
        self._departures.append(asyncio.get_running_loop().create_task(work))

    async def _drain(self, drain: Drain) -> None:
        try:
            await drain.run()
        finally:
            cut_off = drain.open
            if cut_off:
                _log.warning("cut off at the end of the drain", extra={"connections": cut_off})
            reason = codes.DRAINED
            assert reason.close is not None
            await self.stop(reason.close, reason.message, 0.0)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # What is known of it.

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listener."""
        return [listener.address for listener in self.engine.listeners]

    @property
    def connections(self) -> Iterator[Connection]:
        """Every connection that has a socket, in no order."""
        return self.engine.connections()

    @property
    def draining(self) -> bool:
        """True while nobody new is let in because the server is going away."""
        return self.admission.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self.admission.draining = value

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""
        if not self.engine.listeners:
            return False, "not listening"
        if self.draining:
            return False, codes.DRAINING.name
        if self.admission.out_of_rotation(monotonic()):
            return False, codes.BREAKER.name
        full = self.tracker.open >= self.tracker.limit
        if full and not self.settings.limits.is_dry("connections"):
            return False, codes.SERVER_LIMIT.name
        return True, ""

    @property
    def uptime(self) -> float:
        """Seconds since the start, 0 before it."""
        return monotonic() - self._started_at if self._started_at else 0.0

    @property
    def version(self) -> str:
        """The version of Tidegate that runs."""
        return version("tidegate")

    def snapshot(self) -> dict[str, Any]:
        """The counters, as plain values."""
        snapshot = self.stats.snapshot(self.tracker)
        snapshot["rooms"] = len(self.rooms)
        snapshot["load"] = self.zones.snapshot(monotonic())
        snapshot["waiting"] = {"now": len(self.line), "kept": self.line.kept}
        return snapshot

    def tell_leaving(self, connection: Connection, delay: float) -> None:
        """Give a connection its notice of a drain; ``delay`` is the seconds until its close.

        Here it does nothing. Override it to tell clients of your own in their own words.
        """

    # What the engine tells (engine.engine.Application).

    def granted(self, connection: Connection, grant: Grant) -> None:
        """Arm the deadlines that a new connection has; seat one that waits."""
        if grant.place is not None:
            self.line.seated(connection, grant.place)
            return
        if grant.expires_in is not None:
            self._expiries.set(connection, monotonic() + grant.expires_in)
        if grant.pending_auth:
            deadline = monotonic() + self.settings.auth.timeout
            self._auth_deadlines.set(connection, deadline)

    def admitted(self, connection: Connection, place: Place) -> None:
        """Arm the deadlines of a connection that waited and is in now."""
        expires_at = place.attempt.identity.expires_at
        if expires_at is not None:
            self._expiries.set(connection, monotonic() + expires_at - time())
        if connection.pending_auth:
            self._auth_deadlines.set(connection, monotonic() + self.settings.auth.timeout)

    def authenticated(self, connection: Connection, identity: Identity) -> None:
        """A connection has shown its token in a message: no deadline for that any more."""
        self._auth_deadlines.discard(connection)
        if identity.expires_at is not None:
            self._expiries.set(connection, monotonic() + identity.expires_at - time())

    def gone(self, connection: Connection, cause: str) -> None:
        """Give the lease of a closed connection back."""
        if self.tracker.release(connection.lease):
            self.stats.disconnected[cause] += 1
            self.line.freed()
        else:
            self.line.gone(connection, monotonic())
        self._expiries.discard(connection)
        self._auth_deadlines.discard(connection)

    def tick(self, now: float) -> None:
        """End what is over: time to authenticate, tokens, waiting; let in who waited."""
        for connection in self._expiries.due(now):
            _end(connection, codes.TOKEN_EXPIRED)
        for connection in self._auth_deadlines.due(now):
            _end(connection, codes.AUTH_TIMEOUT)
        self.line.tick(now)
        self.zones.tick(now, may_shed=not self.draining)

    def failed(self, connection: Connection, error: Exception) -> None:
        """Log what a handler raised, once for its connection."""
        _log.error("a handler of connection %s failed", connection.id, exc_info=error)

    def warn(self, text: str) -> None:
        """Log a warning, at most one line a second."""
        now = monotonic()
        if now < self._warned_at + _WARNING_SECONDS:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more warnings since)" if self._unsaid else ""
        self._warned_at, self._unsaid = now, 0
        _log.warning("%s%s", text, more)

    def _dry_run(self, policy: str) -> None:
        self.warn(f"dry run: {policy} would have refused an attempt")

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self.engine.after(seconds, work)


def _nothing(*_: object) -> None:
    """Stand in for a handler that was not given."""


def _end(connection: Connection, reason: Reason) -> None:
    connection.close(reason.close or 1008, reason.message, reason.name)
