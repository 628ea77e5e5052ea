"""One WebSocket behind the middleware: what it may send, how it ends, and its lease.

The server has the socket, so all that is seen of the client are the events that it gives out. While
the application asks for them, its end is seen at once. When the application does not ask for a
second, one event is taken in its place and kept, so that the lease of a client that has left is
given back even then.
"""

from __future__ import annotations

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate
    from tidegate.asgi.types import Message, Receive, Send
    from tidegate.core.admission.attempt import Lease
    from tidegate.gate.decision import Admit

__all__ = ["Visit"]

_LOOK_SECONDS: Final = 1.0


class Visit:
    """An admitted WebSocket: `receive` and `send` stand between the server and the application."""

    __slots__ = (
        "_accepted",
        "_ahead",
        "_asking",
        "_deadline",
        "_expiry",
        "_gate",
        "_look",
        "_loop",
        "_meter",
        "_over",
        "_patience",
        "_reason",
        "_receive",
        "_send",
        "_told",
        "lease",
    )

    def __init__(self, gate: LocalGate, admit: Admit, receive: Receive, send: Send) -> None:
        self.lease: Lease = admit.lease
        """The capacity that it holds."""
        self._gate = gate
        self._receive, self._send = receive, send
        self._loop = asyncio.get_running_loop()
        self._patience = gate.settings.server.shutdown_timeout
        self._accepted = self._told = self._asking = False
        self._over: Message | None = None
        self._ahead: asyncio.Task[Message] | None = None
        self._meter: Meter | None = None
        self._reason: Close = NORMAL
        self._deadline: asyncio.Timeout | None = None
        self._look: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        expires_at = admit.attempt.identity.expires_at
        if expires_at is not None:
            self._expiry = self._loop.call_later(expires_at - time(), self._expired)

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._accepted and self._over is None

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
        """
        kind = event["type"]
        if self._over is not None:
            if kind == "websocket.close":
                return
            raise ClientDisconnected("the client is gone")
        if kind == "websocket.accept":
            self._accepted = True
        await self._send(event)

    async def _next(self) -> Message:
        if self._meter is not None:
            delay = self._meter.ready_at - monotonic()
            if delay > 0.0:
                self._gate.stats.messages_limited["delayed"] += 1
                await asyncio.sleep(delay)
        event = self._over or await self._one()
        if self._over is not None:
            return self._over  # it was closed by the gate while the application waited
        if event["type"] == "websocket.receive":
            return await self._checked(event)
        if event["type"] == "websocket.disconnect":
            self._ended(event)
        return event

    async def _one(self) -> Message:
        if self._ahead is None:
            return await self._receive()
        # The application may give up waiting, and what was taken must not be lost then.
        event = await asyncio.shield(self._ahead)
        self._ahead = None
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
        """The application begins; `deadline` bounds it once the client has left."""
        self._deadline = deadline
        self._leave_alone()

    async def end(self, reason: Close, retry_after: float | None = None) -> None:
        """Close an open WebSocket for a reason of ours; the application sees its end."""
        if not self.open:
            return
        delay = reason.retry_after if retry_after is None else retry_after
        text = close_text(reason, delay)
        self._reason = reason
        self._ended({"type": "websocket.disconnect", "code": reason.code, "reason": text})
        await self._send({"type": "websocket.close", "code": reason.code, "reason": text})

    def failed(self) -> None:
        """The application raised."""
        if self._over is None:
            self._reason = HANDLER_ERROR

    def finish(self) -> None:
        """The application is done: nothing is left of this."""
        self._gate.release(self.lease, self._reason)
        for timer in (self._look, self._expiry):
            if timer is not None:
                timer.cancel()
        if self._ahead is not None:
            self._ahead.cancel()

    def _ended(self, event: Message) -> None:
        """There is no client any more."""
        self._over = event
        if self._reason is NORMAL and event.get("code", EOF.code) in (EOF.code, None):
            self._reason = EOF if self._accepted else ABORTED
        self._gate.release(self.lease, self._reason)
        if self._deadline is not None:
            self._deadline.reschedule(self._loop.time() + self._patience)

    def _expired(self) -> None:
        self._expiry = None
        work: Any = self._loop.create_task(self.end(TOKEN_EXPIRED))
        self._gate.keep(work)

    # Looking for the end while the application is busy.

    def _leave_alone(self) -> None:
        if self._look is None and self._over is None and self._ahead is None:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_ahead)

    def _look_ahead(self) -> None:
        self._look = None
        if self._asking or self._over is not None or not self._told:
            return
        self._ahead = self._loop.create_task(self._taken())

    async def _taken(self) -> Message:
        event = await self._receive()
        if event["type"] == "websocket.disconnect" and self._over is None:
            self._ended(event)
        return event


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
