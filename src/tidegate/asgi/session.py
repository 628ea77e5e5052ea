"""One WebSocket of an ASGI application: its events in both directions, and how it ends.

    CONNECTING --accept--> ACCEPTED --opened--> OPEN --close--> ENDED
         |                                                        ^
         +--response.start--> DENYING --the response is whole-----+
         +--close-------------------------------------------------+

    From each of these, when the client leaves: CLOSED

The gate has admitted the attempt before the application is called. The lease is not this object's
business: the engine gives it back when the socket is gone, or the door when the attempt fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import ABORTED, HANDLER_ERROR, INTERNAL_ERROR, NORMAL, ORIGIN
from tidegate.engine.application import Accepted
from tidegate.errors import TidegateError
from tidegate.wire.handshake import http_response

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp, Message
    from tidegate.engine.connection import Connection

__all__ = ["ClientDisconnected", "Session"]

_log = logging.getLogger("tidegate")

_FORBIDDEN: Final = ORIGIN.status  # what a close before the accept means (ASGI WebSocket 2.5)
_DENIAL_BYTES: Final = 65536
# What an application has not asked for yet. Beyond it, nothing is read from this client.
_MESSAGES: Final = 32
_BYTES: Final = 65536
_HIGH: Final = 65536  # bytes in the outbox at which `send` waits


class ClientDisconnected(TidegateError, OSError):  # noqa: N818 - it says what happened
    """The client is gone, and an application sent to it (ASGI WebSocket 2.4)."""


class State(Enum):
    """How far the session is; see the picture above."""

    CONNECTING = auto()
    ACCEPTED = auto()
    OPEN = auto()
    DENYING = auto()
    ENDED = auto()  # by the application
    CLOSED = auto()  # by the client, or with it


class Session:
    """Runs the application for one attempt, and carries its events (engine's `Negotiation`).

    Args:
        app: the application.
        scope: of this WebSocket.
        finished: called when the application has returned.
    """

    __slots__ = (
        "_answer",
        "_app",
        "_bytes",
        "_connection",
        "_denial",
        "_events",
        "_finished",
        "_loop",
        "_opened",
        "_pong",
        "_ready",
        "_room",
        "_scope",
        "_waiter",
        "_writable",
        "state",
        "task",
    )

    def __init__(
        self, app: AsgiApp, scope: dict[str, Any], finished: Callable[[Session], None]
    ) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._scope = scope
        self._finished = finished
        self.state = State.CONNECTING
        self.task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._ready: Callable[[], None] | None = None
        self._answer: Accepted | bytes | None = None
        self._denial: tuple[int, list[tuple[str, str]], bytearray] | None = None
        self._events: list[Message] = [{"type": "websocket.connect"}]
        self._bytes = 0
        # What somebody awaits, while somebody does.
        self._waiter: asyncio.Future[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._pong: asyncio.Future[float | None] | None = None
        self._room: asyncio.Future[None] | None = None

    # What the engine asks and tells.

    def then(self, ready: Callable[[], None], /) -> None:
        """Start the application; call `ready` when it has accepted or refused."""
        self._ready = ready
        self.task = self._loop.create_task(self._run())

    def answer(self) -> Accepted | bytes:
        """Return what the application said."""
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    def cancel(self) -> None:
        """The client left, or the time is over, before the application's answer was sent."""
        self._ready = None
        self._disconnected(ABORTED.code, "")

    def opened(self, connection: Connection) -> None:
        """The 101 is on its way."""
        self._connection = connection
        self._scope["extensions"]["tidegate"].update(id=connection.id, connection=connection)
        self.state = State.OPEN
        _wake(self._opened)

    def message(self, message: str | bytes) -> Awaitable[None] | None:
        """Queue a message; what is returned is done when there is room for the next one."""
        events = self._events
        if isinstance(message, str):
            events.append({"type": "websocket.receive", "text": message})
        else:
            events.append({"type": "websocket.receive", "bytes": message})
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        self._bytes += len(message)
        if len(events) < _MESSAGES and self._bytes < _BYTES:
            return None
        self._room = self._loop.create_future()
        if self._connection is not None:
            # A client that leaves now ends the wait too, or its end would be told to nobody.
            self._connection.ended().add_done_callback(self._gone)
        return self._room

    def _gone(self, _: object) -> None:
        room, self._room = self._room, None
        _wake(room)

    def drained(self) -> None:
        """The client has taken all that waited, or is gone."""
        _wake(self._writable)
        self._writable = None

    def measured(self, latency: float | None) -> None:
        """The answer to a ping took so long; None when it will not come."""
        pong, self._pong = self._pong, None
        if pong is not None and not pong.done():
            pong.set_result(latency)

    def pong(self) -> asyncio.Future[float | None]:
        """Return what is done at the next answer to a ping; it is shared, so shield it."""
        if self._pong is None:
            self._pong = self._loop.create_future()
        return self._pong

    def closed(self, code: int, text: str) -> None:
        """The connection has ended."""
        self._disconnected(code, text)

    # What the application calls.

    async def receive(self) -> Message:
        """Return the next event; after the last one the same again."""
        events = self._events
        while not events:
            self._waiter = waiter = self._loop.create_future()
            await waiter
        event = events[0]
        kind = event["type"]
        if kind == "websocket.disconnect":
            return event
        del events[0]  # of a few: a deque would take 600 bytes more
        if kind == "websocket.receive":
            self._bytes -= len(event.get("text") or event.get("bytes") or b"")
        if self._room is not None and len(events) < _MESSAGES // 2:
            _wake(self._room)
            self._room = None
        return event

    async def send(self, event: Message) -> None:
        """Do what an event of the application asks for.

        Raises:
            ClientDisconnected: the client is gone.
            RuntimeError: the event is not allowed here, or wrong.
        """
        kind = event["type"]
        if self.state is State.OPEN:
            if kind == "websocket.send":
                connection = self._connection
                if connection is None or not connection.open:
                    raise ClientDisconnected("the client is gone")
                text = event.get("text")
                message = event.get("bytes") if text is None else text
                if not isinstance(message, str | bytes):
                    raise RuntimeError("websocket.send needs text (str) or bytes")
                connection.send(message)
                if connection.buffered > _HIGH:
                    if self._writable is None:
                        self._writable = self._loop.create_future()
                    # Several tasks may send, and one that is cancelled must not end the others.
                    await asyncio.shield(self._writable)
            elif kind == "websocket.close":
                self._close(event)
            else:
                raise _unexpected(kind, "websocket.send or websocket.close")
        elif self.state is State.CONNECTING:
            if kind == "websocket.accept":
                await self._accept(event)
            elif kind == "websocket.close":
                self._deny(_FORBIDDEN, [], b"")
            elif kind == "websocket.http.response.start":
                headers = _decoded(event.get("headers", ()))
                self._denial = (event["status"], headers, bytearray())
                self.state = State.DENYING
            else:
                raise _unexpected(
                    kind, "websocket.accept, websocket.close or websocket.http.response.start"
                )
        elif self.state is State.DENYING:
            if kind != "websocket.http.response.body":
                raise _unexpected(kind, "websocket.http.response.body")
            self._deny_more(event)
        elif self.state is State.ENDED:
            raise _unexpected(kind, "nothing after websocket.close")
        else:
            raise ClientDisconnected("the client is gone")

    async def _accept(self, event: Message) -> None:
        subprotocol = event.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._scope["subprotocols"]:
            raise RuntimeError(f"the client does not offer the subprotocol {subprotocol!r}")
        self.state = State.ACCEPTED
        self._opened = self._loop.create_future()
        self._answer_with(Accepted(subprotocol, _decoded(event.get("headers", ()))))
        await self._opened
        self._opened = None  # a future for each open connection would be 0.1 KB
        if self._connection is None:
            raise ClientDisconnected("the client left before it was accepted")

    def _close(self, event: Message) -> None:
        assert self._connection is not None
        self._connection.close(event.get("code", NORMAL.code), event.get("reason") or "")
        self.state = State.ENDED

    def _deny_more(self, event: Message) -> None:
        assert self._denial is not None
        status, headers, body = self._denial
        body += event.get("body", b"")
        if len(body) > _DENIAL_BYTES:
            raise RuntimeError(f"the body of a refusal may have {_DENIAL_BYTES:,} bytes at most")
        if not event.get("more_body", False):
            self._deny(status, headers, bytes(body))

    def _deny(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        kind = "text/plain; charset=utf-8"
        rest = []
        for name, value in headers:
            if name.lower() == "content-type":
                kind = value
            elif name.lower() not in ("content-length", "connection", "transfer-encoding"):
                rest.append((name, value))
        response = http_response(status, body, rest, kind)
        self.state = State.ENDED
        self._answer_with(response)
        self._put({"type": "websocket.disconnect", "code": ABORTED.code, "reason": ""})

    # What runs it.

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._end_with_error()
            raise
        except ClientDisconnected:
            pass
        except Exception as error:
            _log.error("the application failed in a WebSocket", exc_info=error)
            self._end_with_error()
        else:
            self._returned()
        finally:
            _wake(self._room)
            self._finished(self)

    def _returned(self) -> None:
        if self.state is State.OPEN and self._connection is not None:
            self._connection.close(NORMAL.code)
        elif self.state in (State.CONNECTING, State.DENYING):
            _log.error("the application returned without accepting or refusing a WebSocket")
            self._end_with_error()

    def _end_with_error(self) -> None:
        if self._connection is not None:
            self._connection.end(HANDLER_ERROR)
        elif self.state in (State.CONNECTING, State.DENYING):
            self._deny(INTERNAL_ERROR.status, [], b"Internal Server Error")

    def _answer_with(self, answer: Accepted | bytes) -> None:
        self._answer = answer
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()
        else:
            _wake(self._opened)  # the client is gone: nobody asks for the answer

    def _disconnected(self, code: int, text: str) -> None:
        self.state = State.CLOSED
        self._put({"type": "websocket.disconnect", "code": code, "reason": text})
        _wake(self._opened)
        _wake(self._writable)
        self.measured(None)

    def _put(self, event: Message) -> None:
        self._events.append(event)
        _wake(self._waiter)
        self._waiter = None


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _unexpected(kind: str, wanted: str) -> RuntimeError:
    return RuntimeError(f"the application sent {kind!r}; here it may send {wanted}")


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
