"""Pings: those of WebSockets on our engine, and messages elsewhere, as ASGI has no event for it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from tidegate.asgi.packet import Packet
from tidegate.asgi.session import Session

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection

__all__ = ["Pings", "ping", "ping_connection"]

_PONG_BYTES = 256
_KEPT = 8  # pings that nobody waits for any more: a late answer is no message of the application


class Pings:
    """The pings that one client has not answered yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, ident: str) -> asyncio.Future[None]:
        """Return what is done when the client has answered, or has left."""
        while len(self._waiting) >= _KEPT:
            del self._waiting[next(iter(self._waiting))]
        answered = self._waiting[ident] = asyncio.get_running_loop().create_future()
        return answered

    def end(self) -> None:
        """No answer will come."""
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_result(None)

    def is_answer(self, text: str | None) -> bool:
        """Whether a message of the client answers one of them."""
        if text is None or len(text) > _PONG_BYTES or "pong" not in text:
            return False
        try:
            message = json.loads(text)
        except ValueError:
            return False
        if not isinstance(message, dict) or message.get("type") != "pong":
            return False
        answered = self._waiting.pop(str(message.get("id")), None)
        if answered is None:
            return False
        if not answered.done():
            answered.set_result(None)
        return True


def ping(ident: str) -> Packet:
    """Return the message that asks a client for an answer."""
    return Packet(json.dumps({"type": "ping", "id": ident}, separators=(",", ":")))


async def ping_connection(connection: Connection, timeout: float) -> float | None:
    """Return the round trip to a client of our engine in seconds; None without an answer in time.

    Every client answers by itself (RFC 6455, section 5.5.2).
    """
    session = connection.context
    if not connection.open or not isinstance(session, Session):
        return None
    answered = session.pong()
    connection.ping_now()
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(answered)
    except TimeoutError:
        return None
