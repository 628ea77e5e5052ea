"""How clients of a server speak: what they send to be in the room `bench`, and to publish there."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import websockets

from bench.peers import SECRET

__all__ = ["CENTRIFUGO", "SOCKET_IO", "TIDEGATE", "Speech"]

_TEXT = "x" * 64


@dataclass(frozen=True, slots=True)
class Speech:
    """The frames of a client that is a member of one room."""

    path: str
    first: str
    """What it sends when it is connected."""
    answers: int
    """How many frames come until it is a member."""
    publish: str
    visits: str
    """The path of a client that goes as soon as it is there."""
    protocol: str | None = None
    heads: Sequence[str] = ()
    frames: int = 1000
    """How many messages are published: fewer where they take long."""

    async def connect(self, port: int) -> Any:
        """Return a connection that is a member."""
        connection = await websockets.connect(
            f"ws://127.0.0.1:{port}{self.path}",
            subprotocols=[websockets.Subprotocol(self.protocol)] if self.protocol else None,
            additional_headers=dict(head.split(": ", 1) for head in self.heads),
            proxy=None,
            compression=None,
            max_queue=None,
            ping_interval=None,
        )
        await connection.send(self.first)
        for _ in range(self.answers):
            await connection.recv()
        return connection

    async def receive(self, connection: Any, count: int = 1) -> int:
        """Wait for so many messages of the room; return how many bytes they took."""
        size = 0
        while count > 0:
            frame = str(await connection.recv())
            for line in frame.split("\n"):  # Centrifugo puts several into one frame
                if _TEXT in line:  # else an answer, or a ping of its own
                    count -= 1
                    size += len(line)
        return size


def _token(**claims: Any) -> str:
    return jwt.encode({"sub": "bench", "exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


TIDEGATE = Speech(
    path="/ws",
    first='{"type":"join","room":"bench","id":1}',
    answers=2,
    publish=f'{{"type":"room_message","room":"bench","data":"{_TEXT}"}}',
    visits="/ws",
    protocol="tidegate.v1.json",
    heads=(f"Authorization: Bearer {_token()}",),
)

CENTRIFUGO = Speech(
    path="/connection/websocket",
    first=json.dumps({"id": 1, "connect": {"token": _token(channels=["bench"])}}),
    answers=1,
    publish=json.dumps({"id": 2, "publish": {"channel": "bench", "data": _TEXT}}),
    visits="/connection/websocket",
    frames=100,
)

SOCKET_IO = Speech(
    path="/socket.io/?EIO=4&transport=websocket",
    first="40",
    answers=2,
    publish=f'42["say","{_TEXT}"]',
    visits="/socket.io/?EIO=4&transport=websocket",
    frames=100,
)
