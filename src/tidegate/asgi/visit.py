"""One WebSocket behind the middleware: what it may send, how it ends, and its lease.

The server has the socket, so all that is seen of the client are the events that it gives out. While
the application asks for them, its end is seen at once. When the application does not ask for a
second, they are taken in its place and kept (`Ahead`), so that the lease of a client that has left
is given back even then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from tidegate.asgi.ahead import Ahead
from tidegate.asgi.session import ClientDisconnected
from tidegate.core.codes import (
    ABORTED,
    EOF,
    HANDLER_ERROR,
    MESSAGE_TOO_BIG,
    NORMAL,
    TOKEN_EXPIRED,
    Close,
    close_text,
)
from tidegate.core.timing.rates import Meter
from tidegate.wire.codecs import NEUTRAL_V1

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate
    from tidegate.asgi.types import Message, Receive, Scope, Send
    from tidegate.core.admission.attempt import Lease
    from tidegate.gate.decision import Admit

__all__ = ["DENIAL", "Visit", "close"]

DENIAL: Final = "websocket.http.response"
"""The extension of servers that can refuse with a response, and the beginning of its events."""

_log = logging.getLogger("tidegate")

_LOOK_SECONDS: Final = 1.0
_TO_LIBRARIES: Final = 2000  # from a code of the protocol to one of libraries (RFC 6455 7.4.2)


class Visit:
    """An admitted WebSocket: `receive` and `send` stand between the server and the application."""

    __slots__ = (
        "_accepted",
        "_ahead",
        "_asking",
        "_closing",
        "_cut",
        "_deadline",
        "_expiry",
        "_farewell",
        "_gate",
        "_look",
        "_loop",
        "_meter",
        "_over",
        "_patience",
        "_reason",
        "_receive",
        "_scope",
        "_send",
        "_told",
        "lease",
    )

    def __init__(
        self, gate: LocalGate, admit: Admit, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.lease: Lease = admit.lease
        """The capacity that it holds."""
        self._gate = gate
        self._receive, self._send = receive, send
        self._loop = asyncio.get_running_loop()
        self._patience = gate.settings.server.shutdown_timeout
        self._scope = scope
        self._accepted = self._closing = self._cut = self._told = self._asking = False
        self._over: Message | None = None
        self._ahead: Ahead | None = None
        self._meter: Meter | None = None
        self._reason: Close = NORMAL
        self._deadline: asyncio.Timeout | None = None
        self._look: asyncio.TimerHandle | None = None
        self._farewell: asyncio.Future[None] | None = None  # our close is on its way
        self._expiry: asyncio.TimerHandle | None = None
        expires_at = admit.attempt.identity.expires_at
        if expires_at is not None:
            self._expiry = self._loop.call_later(expires_at - time(), self._expired)

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._accepted and not self._closing and self._over is None

    @property
    def undecided(self) -> bool:
        """Whether the client still waits for the application to accept or refuse it."""
        return not self._accepted and not self._closing and self._over is None

    # What the application calls.

    async def receive(self) -> Message:
        """Return the next event; after the last one the same again."""
        if not self._told:
            self._told = True
            self._leave_alone()
            return {"type": "websocket.connect"}
        self._asking = True
        try:
            event = await self._next()
        finally:
            self._asking = False
        self._leave_alone()
        return event

    async def send(self, event: Message) -> None:
        """Pass an event of the application on.

        Raises:
            ClientDisconnected: the client is gone, or was closed by the gate.
            RuntimeError: the server does not know the event, or not here.
        """
        kind = event["type"]
        if self._over is not None:
            if kind == "websocket.close":
                return
            raise ClientDisconnected("the client is gone")
        if kind != "websocket.send":
            answer = self._answered(event)
            if answer is None:
                return
            event = answer
        try:
            await self._send(event)
        except OSError as error:  # ASGI WebSocket 2.4
            self._left({"type": "websocket.disconnect", "code": EOF.code, "reason": ""})
            if kind != "websocket.close":
                raise ClientDisconnected("the client is gone") from error

    def _answered(self, event: Message) -> Message | None:
        """It is accepted, refused or closed; return how, or None if it was before."""
        kind = event["type"]
        if kind == "websocket.accept":
            self._accepted = True
            self._bound(None)
            if event.get("subprotocol") is None and NEUTRAL_V1 in self._scope["subprotocols"]:
                return {**event, "subprotocol": NEUTRAL_V1}
        elif kind == "websocket.close":
            self._closing = True
        elif kind.startswith(DENIAL) and not self._accepted:
            self._closing = True
            if DENIAL not in self._scope["extensions"]:
                # Starlette sends it all the same, and the server would do nothing.
                return {"type": "websocket.close"} if kind.endswith(".start") else None
        return event

    async def _next(self) -> Message:
        if self._meter is not None:
            delay = self._meter.ready_at - monotonic()
            if delay > 0.0:
                self._gate.stats.messages_limited["delayed"] += 1
                await asyncio.sleep(delay)
        ahead = self._ahead
        if self._over is not None and (self._cut or ahead is None or ahead.empty):
            return self._over
        event = await (self._receive() if ahead is None else ahead.next())
        if self._cut:
            assert self._over is not None
            return self._over  # it was closed by the gate while the application waited
        if event["type"] == "websocket.receive":
            return await self._checked(event)
        if event["type"] == "websocket.disconnect":
            self._left(event)
        return event

    async def _checked(self, event: Message) -> Message:
        text = event.get("text")
        size = len(event.get("bytes") or b"") if text is None else _size(text)
        gate = self._gate
        if size > gate.settings.messages.max_size:
            await self.end(MESSAGE_TOO_BIG)
            assert self._over is not None
            return self._over
        if gate.rates.metered:
            if self._meter is None:
                self._meter = Meter(gate.rates)
            self._meter.charge(size, monotonic())
        return event

    # How it ends.

    def begin(self, deadline: asyncio.Timeout) -> None:
        """The application begins; `deadline` bounds it until it answers, and after the client."""
        self._deadline = deadline
        self._leave_alone()

    async def end(self, reason: Close, retry_after: float | None = None) -> None:
        """Close an open WebSocket for a reason of ours; the application sees its end."""
        if not self.open:
            return
        delay = reason.retry_after if retry_after is None else retry_after
        text = close_text(reason, delay)
        self._reason = reason
        self._cut = True
        self._farewell = self._loop.create_future()
        self._ended({"type": "websocket.disconnect", "code": reason.code, "reason": text})
        try:
            await close(self._send, reason.code, text)
        finally:
            self._farewell.set_result(None)

    def failed(self) -> None:
        """The application raised."""
        if self._over is None:
            self._reason = HANDLER_ERROR

    async def conclude(self, *, failed: bool) -> None:
        """The application has returned, or `failed`: close what it left open.

        Servers differ there: clients of uvicorn see 1006, and daphne keeps the connection. A close
        of ours that is on its way is waited for: granian closes in its own way when we return.
        """
        if failed:
            self.failed()
        self._deadline = None
        if self._farewell is not None and not self._farewell.done():
            await asyncio.wait([self._farewell], timeout=self._patience)
        if not self.open:
            return
        self._closing = True
        code, text = NORMAL.code, ""
        if failed:
            code = HANDLER_ERROR.code
            text = close_text(HANDLER_ERROR, HANDLER_ERROR.retry_after)
        with contextlib.suppress(TimeoutError):  # the client takes nothing
            async with asyncio.timeout(self._patience):
                await close(self._send, code, text)

    def finish(self) -> None:
        """The application is done: nothing is left of this."""
        self._gate.release(self.lease, self._reason)
        for timer in (self._look, self._expiry):
            if timer is not None:
                timer.cancel()
        if self._ahead is not None:
            self._ahead.stop()

    def _left(self, event: Message) -> None:
        if self._over is None:
            self._ended(event)

    def _ended(self, event: Message) -> None:
        """There is no client any more."""
        self._over = event
        if self._reason is NORMAL and event.get("code", EOF.code) in (EOF.code, None):
            self._reason = EOF if self._accepted else ABORTED
        self._gate.release(self.lease, self._reason)
        self._bound(self._loop.time() + self._patience)

    def _bound(self, when: float | None) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(when)

    def _expired(self) -> None:
        self._expiry = None
        work: Any = self._loop.create_task(self.end(TOKEN_EXPIRED))
        self._gate.keep(work)

    # Looking for the end while the application is busy.

    def _leave_alone(self) -> None:
        if self._look is None and self._over is None:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_ahead)

    def _look_ahead(self) -> None:
        self._look = None
        if self._asking or self._over is not None or not self._told:
            return
        if self._ahead is None:
            self._ahead = Ahead(self._receive, self._left)
        self._ahead.start()


async def close(send: Send, code: int, reason: str) -> None:
    """Close an accepted WebSocket, whose client may be gone already.

    A server that does not send a code of the protocol itself gets one of libraries in its place:
    daphne's sends 1000 and 3000 to 4999 only, so 1013 becomes 3013.
    """
    for tried in (code, code + _TO_LIBRARIES):
        try:
            await send({"type": "websocket.close", "code": tried, "reason": reason})
        except OSError:
            return  # the client is gone (ASGI WebSocket 2.4)
        except Exception as error:
            problem = error
        else:
            return
    _log.warning("a WebSocket could not be closed", exc_info=problem)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
