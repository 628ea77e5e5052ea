"""`Server`: the gate, the engine and your handlers, as one object."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from time import monotonic, time
from typing import Any

import uvloop

from tidegate.core import codes
from tidegate.core.admission import Admission
from tidegate.core.attempt import Identity
from tidegate.core.codes import Reason
from tidegate.core.deadlines import Deadlines
from tidegate.core.rooms import Rooms
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.core.tracker import ConnectionTracker
from tidegate.engine.connection import Connection
from tidegate.engine.engine import Engine
from tidegate.engine.listener import Grant
from tidegate.node.auth import Authenticator
from tidegate.node.gate import Gate
from tidegate.node.hub import Hub
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
        subprotocols: Sequence[str] = (),
        http: Callable[[Request], bytes | None] | None = None,
    ) -> None:
        if settings is None:
            settings = Settings()
        elif not isinstance(settings, Settings):
            settings = Settings.from_mapping(settings)
        self.settings = settings
        self.stats = Stats()
        self._received = self.stats.messages_received
        self._received.update(text=0, binary=0)
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.rooms: Rooms[Connection] = Rooms(
            settings.limits.per_room, settings.limits.rooms_per_connection
        )
        self.hub = Hub()
        self.authenticator = Authenticator(settings.auth)
        self._on_connect = on_connect
        self._on_message = on_message
        self._on_close = on_close
        self._admission = Admission(settings, self.tracker)
        gate = Gate(
            settings,
            self.stats,
            self.tracker,
            self._admission,
            self.authenticator,
            subprotocols,
            http,
        )
        self.engine = Engine(settings, self.stats, gate, self)
        self._expiries: Deadlines[Connection] = Deadlines()
        self._auth_deadlines: Deadlines[Connection] = Deadlines()
        self._started_at = 0.0
        self._warned_at = float("-inf")
        self._unsaid = 0

    # Running.

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, in an event loop of its own.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve until SIGINT or SIGTERM, in the running loop; then close every connection."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, stopped.set)
        try:
            await self.start()
            await stopped.wait()
            await self.stop()
        finally:
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(name)

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
        """Stop listening and close every connection.

        Args:
            code: close code for those who are connected.
            reason: what the close frame says.
            timeout: seconds after which what is left is cut off; ``server.shutdown_timeout``
                when None.
        """
        self.draining = True
        if timeout is None:
            timeout = self.settings.server.shutdown_timeout
        await self.engine.stop(code, reason, timeout)

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
        return self._admission.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._admission.draining = value

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""
        if not self.engine.listeners:
            return False, "not listening"
        if self.draining:
            return False, codes.DRAINING.name
        if self.tracker.open >= self.tracker.limit:
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
        return snapshot

    # What the engine tells (engine.engine.Application).

    def connect(self, connection: Connection, request: Request) -> Any:
        """Call the connect handler."""
        if self._on_connect is not None:
            return self._on_connect(connection, request)
        return None

    def message(self, connection: Connection, message: str | bytes) -> Any:
        """Count a message and call its handler. HOT."""
        self._received["text" if type(message) is str else "binary"] += 1
        if self._on_message is not None:
            return self._on_message(connection, message)
        return None

    def close(self, connection: Connection, code: int, reason: str) -> Any:
        """Call the close handler."""
        if self._on_close is not None:
            return self._on_close(connection, code, reason)
        return None

    def granted(self, connection: Connection, grant: Grant) -> None:
        """Arm the deadlines that a new connection has."""
        if grant.expires_in is not None:
            self._expiries.set(connection, monotonic() + grant.expires_in)
        if grant.pending_auth:
            deadline = monotonic() + self.settings.auth.timeout
            self._auth_deadlines.set(connection, deadline)

    def authenticated(self, connection: Connection, identity: Identity) -> None:
        """A connection has shown its token in a message: no deadline for that any more."""
        self._auth_deadlines.discard(connection)
        if identity.expires_at is not None:
            self._expiries.set(connection, monotonic() + identity.expires_at - time())

    def gone(self, connection: Connection, cause: str) -> None:
        """Give the lease of a closed connection back."""
        if self.tracker.release(connection.lease):
            self.stats.disconnected[cause] += 1
        self._expiries.discard(connection)
        self._auth_deadlines.discard(connection)

    def tick(self, now: float) -> None:
        """Close the connections whose time to authenticate, or whose token, is over."""
        for connection in self._expiries.due(now):
            _end(connection, codes.TOKEN_EXPIRED)
        for connection in self._auth_deadlines.due(now):
            _end(connection, codes.AUTH_TIMEOUT)

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


def _end(connection: Connection, reason: Reason) -> None:
    assert reason.close is not None
    connection.close(reason.close, reason.message, reason.name)
