"""Clients made of sockets in the server's own loop, and a loop in which no error goes unheard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.support.net import reset
from tests.support.raw import CLOSE, TEXT, Frame, Response, frame, upgrade

__all__ = ["SECONDS", "Client", "run_guarded", "until"]

SECONDS = 5.0
"""After which a test that waits has failed."""

_sockets: list[socket.socket] = []  # of the clients of the test that runs


def run_guarded(main: Coroutine[Any, Any, None], seconds: float = 2 * SECONDS) -> None:
    """Run a test in a loop of its own; an error that only the loop heard of fails it too.

    Clients that are still there at the end leave then.
    """
    errors: list[dict[str, Any]] = []

    async def guarded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(seconds):
            await main
        await asyncio.sleep(0)  # what was left to the loop shows its errors here

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(guarded())
    finally:
        while _sockets:
            _sockets.pop().close()
    assert not errors, errors


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go on until ``condition`` holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)


class Client:
    """One client; every wait ends after some seconds at the latest."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        _sockets.append(self.sock)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    @classmethod
    async def at(cls, port: int) -> Client:
        """A client that is connected and has said nothing."""
        client = cls()
        await client._loop.sock_connect(client.sock, ("127.0.0.1", port))
        return client

    @classmethod
    async def open(cls, port: int, protocol: str | None = None, **request: Any) -> Client:
        """A client whose WebSocket is open; the rest of the request is as in `upgrade`."""
        client = await cls.at(port)
        response = await client.ask(protocol, **request)
        assert response.status == 101, response
        return client

    # Out.

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SECONDS):
            await self._loop.sock_sendall(self.sock, data)

    async def knock(self, protocol: str | None = None, behind: bytes = b"", **request: Any) -> None:
        """Ask for a WebSocket, and send what is to go out right behind the request."""
        headers = [*request.pop("headers", ())]
        if protocol is not None:
            headers.append(("Sec-WebSocket-Protocol", protocol))
        await self.send(upgrade(headers=headers, **request) + behind)

    async def ask(
        self, protocol: str | None = None, behind: bytes = b"", **request: Any
    ) -> Response:
        """Ask for a WebSocket, and read the response."""
        await self.knock(protocol, behind, **request)
        return await self.response()

    async def say(self, *texts: str) -> None:
        """Send each as a message, all in one write."""
        await self.send(b"".join(frame(TEXT, text.encode()) for text in texts))

    # In.

    async def response(self) -> Response:
        """Read one HTTP response; the body as long as it says."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (each.partition(": ") for each in lines)
        }
        response = Response(int(first.split(" ")[1]), headers)
        if response.status != 101:
            response.body = await self._exactly(int(headers["content-length"]))
        return response

    async def frame(self) -> Frame:
        """Read one frame."""
        first, size = await self._exactly(2)
        if size == 126:
            size = int.from_bytes(await self._exactly(2))
        elif size == 127:
            size = int.from_bytes(await self._exactly(8))
        return Frame(first & 15, await self._exactly(size), bool(first & 128), first >> 4 & 7)

    async def text(self) -> str:
        """Read one frame, which must be a text message."""
        got = await self.frame()
        assert got.opcode == TEXT, got
        return got.payload.decode()

    async def closed(self) -> tuple[int, str]:
        """Read a close frame, answer it, and return its code and text."""
        got = await self.frame()
        assert got.opcode == CLOSE, got
        await self.send(frame(CLOSE, got.payload))
        return got.code, got.reason

    async def end(self) -> bytes:
        """Read to the end of the stream and return what came."""
        data, self._buffer = self._buffer, b""
        while more := await self._receive():
            data += more
        return data

    # Leaving.

    async def close(self, code: int = 1000) -> None:
        """Close the WebSocket, and read up to the end."""
        await self.send(frame(CLOSE, code.to_bytes(2)))
        await self.end()
        self.leave()

    def leave(self) -> None:
        """Leave with FIN; twice does no harm."""
        self.sock.close()

    def reset(self) -> None:
        """Leave with RST."""
        with contextlib.suppress(OSError):
            reset(self.sock)

    async def _receive(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self._loop.sock_recv(self.sock, 1 << 20)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _more(self) -> None:
        data = await self._receive()
        if not data:
            raise EOFError(f"the stream ended behind {self._buffer[:100]!r}")
        self._buffer += data
