"""The server's side of a WebSocket of an ASGI application, in a test."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.websockets import WebSocket

__all__ = ["Wire"]


class Wire:
    """What a server gives an application for one WebSocket, and what it got from it.

    While `stuck` is set, the client takes nothing: `send` of a message waits.
    """

    def __init__(self, *, denies: bool = True, address: str = "192.0.2.7") -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
            "client": (address, 5000),
            "server": ("127.0.0.1", 8000),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}} if denies else {},
        }
        self.sent: list[dict[str, Any]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.error: Exception | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._events.put_nowait({"type": "websocket.connect"})

    def websocket(self) -> WebSocket:
        return WebSocket(self.scope, self._events.get, self.send)

    async def send(self, event: Any) -> None:
        if event["type"] == "websocket.send":
            await self.free.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(event)

    def says(self, text: str) -> None:
        self._events.put_nowait({"type": "websocket.receive", "text": text})

    def leaves(self, code: int = 1001) -> None:
        self._events.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    def connected(self) -> Wire:
        """The application has taken the first event already."""
        self._events.get_nowait()
        return self

    async def receive(self) -> Any:
        return await self._events.get()

    @property
    def texts(self) -> list[str]:
        """The texts of the messages that the client got."""
        return [event["text"] for event in self.sent if event.get("text") is not None]

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the close, if there was one."""
        for event in self.sent:
            if event["type"] == "websocket.close":
                return event["code"], event["reason"]
        return None
