"""One WebSocket, from the attempt to its loss, and whether the server is still there."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import broadcast
from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.typing import Subprotocol

from tidegate.client.clock import Clock
from tidegate.client.codec import Codec
from tidegate.client.retry import Loss, loss_of_close, loss_of_refusal
from tidegate.core import codes

__all__ = ["Link", "LostError", "Network"]

PATIENCE: Final = 10.0
"""Seconds within which a silent server must show a sign of life when it is asked for one."""
CLOSING: Final = 5.0
"""Seconds within which a connection is closed gracefully."""
_USUAL_INTERVAL: Final = 30.0
_NEARLY: Final = 1e-6  # sums of seconds as binary fractions are a little off

_log = logging.getLogger("tidegate.client")


class LostError(Exception):
    """An attempt cannot go on."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss))
        self.loss = loss


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach the server; what is not here has the defaults of `websockets.connect`."""

    ssl: ssl_module.SSLContext | None
    proxy: str | Literal[True] | None
    headers: Mapping[str, str]
    max_message_size: int
    max_buffered: int


class _Connection(ClientConnection):
    """Notes pings, and ends TCP when all is said."""

    pings = 0
    """How many have come."""

    @property
    def choked(self) -> bool:
        """Whether the network has not taken what was sent."""
        return self.paused

    async def wait_writable(self) -> None:
        """Wait until it has, or the connection is lost."""
        with suppress(OSError):
            await self.drain()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings += 1
        super().process_event(event)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The other side may never do it, and there is nothing more to hear: it has closed, or has
        # sent what is no WebSocket.
        if self.protocol.close_expected() or self.protocol.parser_exc is not None:
            self.transport.close()


class _Connect(connect):
    """Follows no redirect: the token is for this server only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Link:
    """One attempt, and the connection that comes of it.

    It tells of each message, and once of its loss. After `close` it tells of nothing.
    """

    def __init__(
        self,
        url: str,
        network: Network,
        codec: Codec,
        clock: Clock,
        *,
        spawn: Spawn,
        offer: Callable[[], Awaitable[Sequence[str]]],
        received: Callable[[dict[str, Any]], None],
        writable: Callable[[], None],
        lost: Callable[[Loss], None],
    ) -> None:
        """Begin to connect.

        Args:
            url: where to.
            network: how.
            codec: how messages are written.
            clock: for signs of life.
            spawn: starts a task, and sees to it that it ends.
            offer: returns the subprotocols to offer; may raise `LostError`.
            received: told of each message.
            writable: told when more can be sent.
            lost: told of the end.
        """
        self._url = url
        self._network = network
        self._codec = codec
        self._clock = clock
        self._spawn = spawn
        self._received = received
        self._writable = writable
        self._lost = lost
        self._over = False
        self._connection: _Connection | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._interval = _USUAL_INTERVAL
        self._cancel: Callable[[], object] = lambda: None
        self._heard_at = 0.0
        self._heard = False
        self._pings = 0
        self._task = spawn(self._run(offer))

    def send(self, data: str | bytes, urgent: bool) -> bool:
        """Send a message; says whether it went.

        One that is urgent always does. Others do not while the network has not taken what was sent
        before; `writable` tells when it has.
        """
        connection = self._connection
        if self._over or connection is None:
            return False
        if connection.choked and not urgent:
            if self._waiting is None:
                self._waiting = self._spawn(self._wait(connection))
            return False
        # The one way to send at once. One that is closing is passed over: `lost` follows.
        broadcast([connection], data)
        return True

    def watch(self, interval: float | None) -> None:
        """Ask a server that is silent for so many seconds for a sign of life."""
        self._interval = _USUAL_INTERVAL if interval is None else max(1.0, interval)
        self._rest(self._interval)

    def fail(self, error: str) -> None:
        """Cut the connection, and report it as lost."""
        # Not by a close frame: it would end the session.
        self._abort()
        self._end(Loss(error=error))

    def close(self) -> None:
        """Close from this side; nothing is reported."""
        if self._over:
            return
        self._over = True
        self._cancel()
        if self._connection is None:
            self._task.cancel()
        else:
            self._spawn(self._finish(self._connection))

    async def _run(self, offer: Callable[[], Awaitable[Sequence[str]]]) -> None:
        await asyncio.sleep(0)  # with an eager task factory it would run before there is a link
        try:
            connection = self._connection = await self._dial(await offer())
        except Exception as error:
            self._end(_loss_of(error))
            return
        self._hear()
        self.watch(None)
        try:
            while True:
                data = await connection.recv()
                # After `close` messages still come, and must be read for the close frame to come.
                if not self._over:
                    self._take(data)
        except ConnectionClosed as closed:
            self._end(_loss_of(closed))
        finally:
            self._cancel()

    async def _dial(self, protocols: Sequence[str]) -> _Connection:
        connection = await _Connect(
            self._url,
            subprotocols=[Subprotocol(name) for name in protocols],
            additional_headers=self._network.headers,
            max_size=self._network.max_message_size,
            write_limit=self._network.max_buffered,
            # None would not do there: True is for the usual context.
            ssl=self._network.ssl or (True if self._url.startswith("wss:") else None),
            proxy=self._network.proxy,
            # Time is measured by our own clock, and pings are the server's.
            open_timeout=None,
            ping_interval=None,
            close_timeout=None,
            create_connection=_Connection,
        )
        assert isinstance(connection, _Connection)
        return connection

    def _take(self, data: str | bytes) -> None:
        self._hear()
        try:
            message = self._codec.decode(data)
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                raise ValueError("not a message")
            self._received(message)
        except Exception:
            # A client that skipped it would miss a message without knowing.
            _log.debug("A message of the server cannot be understood", exc_info=True)
            self.fail("bad_message")

    async def _wait(self, connection: _Connection) -> None:
        await connection.wait_writable()
        self._waiting = None
        if not self._over:
            self._writable()

    async def _finish(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(CLOSING):
                await connection.close()
        except TimeoutError:
            connection.transport.abort()

    # Signs of life. One timer, which is not touched by messages: it looks back when it is due.

    def _hear(self) -> None:
        self._heard = True
        self._heard_at = self._clock.time()

    def _rest(self, delay: float) -> None:
        self._cancel()
        self._cancel = self._clock.call_later(delay, self._look)

    def _look(self) -> None:
        self._note_pings()
        left = self._heard_at + self._interval - self._clock.time()
        if left > _NEARLY:
            self._rest(left)
        else:
            self._heard = False
            self.send(self._codec.encode({"type": "health_ping"}), urgent=True)
            self._cancel = self._clock.call_later(PATIENCE, self._judge)

    def _judge(self) -> None:
        self._note_pings()
        if self._heard:
            self._rest(max(_NEARLY, self._heard_at + self._interval - self._clock.time()))
        else:
            self.fail("timeout")

    def _note_pings(self) -> None:
        if self._connection is not None and self._connection.pings != self._pings:
            self._pings = self._connection.pings
            self._hear()

    # The end.

    def _end(self, loss: Loss) -> None:
        if not self._over:
            self._over = True
            self._cancel()
            self._lost(loss)

    def _abort(self) -> None:
        if self._connection is None:
            self._task.cancel()
        else:
            self._connection.transport.abort()


def _loss_of(error: Exception) -> Loss:
    """Why an attempt failed, or a connection ended."""
    match error:
        case LostError():
            return error.loss
        case ConnectionClosed(rcvd=None, sent=sent):
            too_big = sent is not None and sent.code == codes.MESSAGE_TOO_BIG.code
            return Loss(error=codes.MESSAGE_TOO_BIG.name if too_big else None)
        case ConnectionClosed(rcvd=close) if close is not None:
            return loss_of_close(close.code, close.reason)
        case InvalidStatus(response=response):
            headers = {name.lower(): value for name, value in response.headers.raw_items()}
            return loss_of_refusal(response.status_code, headers, bytes(response.body or b""))
        case InvalidURI() | InvalidProxy() | ImportError() | TypeError() | ValueError():
            # The URL, the token or the proxy is not valid: this will not get better.
            return Loss(error="unsupported", detail=str(error), for_good=True)
        case OSError() | EOFError() | WebSocketException():
            return Loss(detail=str(error) or type(error).__name__)
        case _:
            with suppress(Exception):
                _log.debug("An attempt failed", exc_info=error)
            return Loss(detail=type(error).__name__)
