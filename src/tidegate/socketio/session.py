"""One Engine.IO session: one connection of a client, whatever its transports and namespaces are.

It has no lease until the gate has admitted it, which is when it asks for its first namespace.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import EOF, HEARTBEAT_TIMEOUT, NORMAL, Close, Refusal, close_text
from tidegate.core.timing.rates import Meter

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate
    from tidegate.asgi.types import Message, Receive, Send
    from tidegate.core.admission.attempt import Lease
    from tidegate.gate.decision import OpeningRequest

__all__ = ["Session"]

_PING_TIMEOUT: Final = "ping timeout"
_TRANSPORT: Final = ("transport close", "transport error")


class Session:
    """What is known of one Engine.IO session.

    `timer` ends the session: one without a lease when its time to get one is over, one with a
    lease when its token expires.
    """

    __slots__ = (
        "_close_code",
        "_meter",
        "_receive",
        "_send",
        "environ",
        "id",
        "lease",
        "lock",
        "over",
        "reason",
        "request",
        "retry_after",
        "timer",
    )

    def __init__(self, sid: str, request: OpeningRequest, environ: dict[str, Any]) -> None:
        self.id = sid
        self.request = request
        self.environ = environ
        self.lease: Lease | None = None
        self.lock = asyncio.Lock()
        """Held while it is decided about the session."""
        self.timer: asyncio.TimerHandle | None = None
        self.over = False
        self.reason: Refusal | Close | None = None
        """Why this side ends it."""
        self.retry_after: float | None = None
        self._close_code: int | None = None
        self._meter: Meter | None = None
        if environ["asgi.scope"]["type"] == "websocket":
            self._receive: Receive = environ["asgi.receive"]
            self._send: Send = environ["asgi.send"]
            environ["asgi.receive"], environ["asgi.send"] = self._received, self._sent

    def stop_timer(self) -> None:
        """Stop `timer`, if it runs."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def ends(self, reason: Refusal | Close, retry_after: float | None) -> None:
        """Take over why this side ends it; the first reason counts."""
        if self.reason is None:
            self.reason, self.retry_after = reason, retry_after

    def ended(self, said: str) -> Refusal | Close:
        """Return why it ended, where Engine.IO says so."""
        if self.reason is not None:
            return self.reason
        if said == _PING_TIMEOUT:
            return HEARTBEAT_TIMEOUT
        # 1006 stands for an end without a close frame (RFC 6455, section 7.1.5).
        return EOF if said in _TRANSPORT and self._close_code in (EOF.code, None) else NORMAL

    async def pace(self, gate: LocalGate, size: int) -> None:
        """Wait until a message of `size` bytes may come; the client's next is not read until then.

        Polling clients wait for the response to their request.
        """
        if not gate.rates.metered:
            return
        if self._meter is None:
            self._meter = Meter(gate.rates)
        delay = self._meter.ready_at - monotonic()
        if delay > 0.0:
            gate.stats.messages_limited["delayed"] += 1
            await asyncio.sleep(delay)
        self._meter.charge(size, monotonic())

    # What stands between Engine.IO and the ASGI server.

    async def _received(self) -> Message:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._close_code = event.get("code")
        return event

    async def _sent(self, event: Message) -> None:
        if event["type"] == "websocket.close" and self.reason is not None:
            text = close_text(self.reason, self.retry_after)
            event = {**event, "code": self.reason.code, "reason": text}
        await self._send(event)
