"""An ASGI server of which a test sees and decides everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tidegate.asgi.types import AsgiApp, Message

__all__ = ["FakeServer", "make_scope"]


def make_scope(*, denial: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("192.0.2.7", 5000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}} if denial else {},
        **more,
    }


class FakeServer:
    """One WebSocket: what its client does, and what was sent to it."""

    def __init__(self, app: AsgiApp, **scope: Any) -> None:
        self.scope = make_scope(**scope)
        self.sent: list[Message] = []
        self.refuses: Callable[[Message], Exception | None] = lambda _: None
        """What `send` raises for an event, if anything."""
        self.free = asyncio.Event()
        """While it is cleared, the client takes nothing, and `send` waits."""
        self.free.set()
        self.waits: Callable[[Message], bool] = lambda _: True
        """Which events wait for it."""
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.does({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: AsgiApp) -> None:
        await app(self.scope, self.events.get, self._send)

    async def _send(self, event: Message) -> None:
        if self.waits(event):
            await self.free.wait()
        if (error := self.refuses(event)) is not None:
            raise error
        self.sent.append(event)
        await asyncio.sleep(0)

    def does(self, event: Message) -> None:
        self.events.put_nowait(event)

    def says(self, text: str) -> None:
        self.does({"type": "websocket.receive", "text": text})

    def leaves(self, code: int = 1006) -> None:
        self.does({"type": "websocket.disconnect", "code": code, "reason": ""})

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.sent]

    async def settles(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def ends(self) -> None:
        await asyncio.wait_for(self.task, 10)
