"""Pings by messages: ASGI has no event for those of WebSockets."""

from __future__ import annotations

import asyncio
import json

from tidegate.asgi.packet import Packet

__all__ = ["Pings", "ping"]

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
