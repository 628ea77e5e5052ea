"""A client that speaks the native protocol in JSON, and remembers what came."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from tests.support.tokens import bearer

__all__ = ["NativeClient"]

_SECONDS = 20.0


class NativeClient:
    """One connection. What comes is in `got`, but for answers to what it asked."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: dict[str, Any] = {}
        self.got: list[dict[str, Any]] = []
        self._answers: dict[Any, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def at(cls, url: str, user: str | None = None, *protocols: str) -> NativeClient:
        """Connect, and read `connected`."""
        connection = await websockets.connect(
            url,
            proxy=None,
            compression=None,
            open_timeout=_SECONDS,
            subprotocols=[Subprotocol(one) for one in ("tidegate.v1.json", *protocols)],
            additional_headers=dict([bearer(user)]) if user else None,
        )
        client = cls(connection)
        client.welcome = await client.until(lambda one: one["type"] == "connected")
        return client

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message, and return its `ack` or `error` without the id."""
        self._number += 1
        id_ = f"q{self._number}"
        answer = self._answers[id_] = asyncio.get_running_loop().create_future()
        await self.send(kind, id=id_, **fields)
        found: dict[str, Any] = await asyncio.wait_for(answer, _SECONDS)
        del found["id"]
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a message, and return the first that is wanted; it stays in `got`."""
        async with asyncio.timeout(_SECONDS):
            while True:
                for one in self.got:
                    if wanted(one):
                        return one
                await asyncio.sleep(0.005)

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """All messages of a type that have these fields."""
        wanted = {"type": kind, **fields}
        return [one for one in self.got if wanted.items() <= one.items()]

    async def close(self) -> None:
        self._reading.cancel()
        await self.connection.close()

    async def drop(self) -> None:
        """End without a word."""
        self.connection.transport.abort()
        await self.connection.wait_closed()

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for received in self.connection:
                message = json.loads(received)
                answer = self._answers.pop(message.get("id"), None)
                if answer is None:
                    self.got.append(message)
                else:
                    answer.set_result(message)
