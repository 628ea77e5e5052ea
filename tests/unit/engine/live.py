"""A real server in the test's own loop, and raw clients that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.support.raw import CLOSE, Frame, frame, upgrade
from tidegate.core.codes import Close, Refusal, close_text
from tidegate.core.settings import Settings
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.node.node import Node
from tidegate.wire.handshake import Request

SECONDS = 5.0
"""After which a test that waits has failed."""

End = tuple[int, str]


def told(reason: Refusal | Close, detail: str = "") -> End:
    """What a client reads in the close frame of one of our reasons."""
    return reason.code, close_text(reason, reason.retry_after, detail)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop of its own; an error that only the loop heard of fails it too."""
    errors: list[dict[str, Any]] = []

    async def guarded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(2 * SECONDS):
            await main
        await asyncio.sleep(0)  # what was left to the loop shows its errors here

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())
    assert not errors, errors


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go on until ``condition`` holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)


class Recorder(Application[Connection]):
    """An application that notes what it is told; what a text begins with may be done."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.messages: list[tuple[int, str | bytes]] = []
        self.ends: list[tuple[int, int, str]] = []
        self.doing: dict[str, Callable[[Connection], Any]] = {}
        self.on_connect: Callable[[Connection, Request], Any] = lambda connection, request: None
        self.on_early: Callable[[str | bytes, float], None] = lambda message, delay: None
        self.on_close: Callable[[Connection, int, str], Any] = lambda connection, code, reason: None

    def opened(self, connection: Connection, request: Request) -> Any:
        self.connections.append(connection)
        return self.on_connect(connection, request)

    def message(self, connection: Connection, message: str | bytes) -> Any:
        assert self.ended(connection) == [], "a handler was called after the close handler"
        self.messages.append((connection.number, message))
        do = self.doing.get(message.split(" ")[0]) if isinstance(message, str) else None
        return do(connection) if do is not None else None

    def too_early(self, connection: Connection, message: str | bytes, delay: float) -> None:
        self.on_early(message, delay)

    def closed(self, connection: Connection, code: int, reason: str) -> Any:
        self.ends.append((connection.number, code, reason))
        return self.on_close(connection, code, reason)

    def ended(self, connection: Connection) -> list[End]:
        """How the close handler was called for a connection: once at most, as it should be."""
        return [(code, reason) for number, code, reason in self.ends if number == connection.number]

    def texts(self) -> list[str | bytes]:
        """All messages, whoever sent them."""
        return [message for _, message in self.messages]


class Live:
    """A node whose application is a `Recorder`; use it as an async context manager."""

    def __init__(self, settings: dict[str, dict[str, Any]] | None = None) -> None:
        merged: dict[str, dict[str, Any]] = {key: dict(of) for key, of in (settings or {}).items()}
        merged["server"] = {"port": 0, "shutdown_timeout": 1.0, **merged.get("server", {})}
        merged.setdefault("messages", {"per_second": 0, "control_per_second": 0})
        self.recorder = Recorder()
        self.node = Node(Settings.from_mapping(merged), lambda _services: self.recorder)
        self._clients: list[Client] = []

    async def __aenter__(self) -> Live:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.all_leave()
        await self.node.stop()
        if error == (None, None, None):
            self.nothing_is_left()

    def all_leave(self) -> None:
        """All clients leave with FIN."""
        for client in self._clients:
            client.leave()

    def nothing_is_left(self) -> None:
        """Assert that every connection has given back everything, and was announced once."""
        assert list(self.node.connections) == []
        assert self.node.tracker.open == 0
        engine = self.node.engine.shared
        for waiting in (engine.heartbeat, engine.openings, engine.closing, engine.fragments):
            assert len(waiting) == 0
        assert len(engine.unfinished) == 0
        assert engine.buffers.bytes == 0
        assert not engine.tasks
        numbers = [number for number, _, _ in self.recorder.ends]
        assert sorted(numbers) == sorted(
            connection.number for connection in self.recorder.connections
        )
        ended = sum(self.node.stats.disconnected.values())
        assert ended == len(self.recorder.connections) == self.node.stats.accepted

    async def client(self, *, receive_buffer: int | None = None) -> Client:
        """A socket that is connected and has said nothing."""
        client = Client(receive_buffer)
        self._clients.append(client)
        await client.connect(self.node.addresses[0][1])
        return client

    async def open(self, *, slow: bool = False) -> tuple[Client, Connection]:
        """A WebSocket that is open, from both sides; to a slow one the kernel holds little."""
        count = len(self.recorder.connections)
        if slow:
            # Accepted sockets inherit it.
            listening = self.node.engine.listeners[0]._sock
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = await self.client(receive_buffer=4096 if slow else None)
        await client.shake_hands()
        assert len(self.recorder.connections) == count + 1
        return client, self.recorder.connections[-1]

    async def publish(self, *members: Connection) -> None:
        """Send a frame to connections as a room's, and wait until it is out."""
        fanout = self.node.engine.shared.fanout
        assert fanout.publish("room", members, lambda _: frame(2, b"published", masked=False), 9)
        await until(lambda: fanout.backlog == 0)

    async def ended(self, connection: Connection) -> End:
        """Wait for the end of a connection and return what its close handler was told."""
        await until(lambda: self.recorder.ended(connection))
        assert connection.closed
        (end,) = self.recorder.ended(connection)
        return end


class Client:
    """A client made of a socket, in the server's loop."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    async def connect(self, port: int) -> None:
        await self._loop.sock_connect(self.sock, ("127.0.0.1", port))

    async def shake_hands(self, behind: bytes = b"") -> None:
        """Open the WebSocket, or fail; ``behind`` goes out right behind the request."""
        await self.send(upgrade() + behind)
        assert await self.status() == 101

    async def status(self) -> int:
        """Read the head of the response."""
        head = await self.read_to(b"\r\n\r\n")
        return int(head.split()[1])

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SECONDS):
            await self._loop.sock_sendall(self.sock, data)

    async def say(self, *messages: str | bytes) -> None:
        """Send each as a message, all in one write."""
        await self.send(b"".join(map(masked, messages)))

    async def read_to(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    async def frame(self) -> Frame:
        """Read one frame."""
        first, second = await self._exactly(2)
        size = second
        if second == 126:
            size = int.from_bytes(await self._exactly(2))
        elif second == 127:
            size = int.from_bytes(await self._exactly(8))
        return Frame(first & 15, await self._exactly(size), bool(first & 128), first >> 4 & 7)

    async def closed(self, answer: bool = True) -> tuple[int, str]:
        """Read a close frame, answer it, and return its code and reason."""
        got = await self.frame()
        assert got.opcode == CLOSE, got
        if answer:
            await self.send(frame(CLOSE, got.payload))
        return got.code, got.reason

    async def end(self) -> bytes:
        """Read to the end of the stream and return what came."""
        data = self._buffer
        self._buffer = b""
        while more := await self._receive():
            data += more
        return data

    def reset(self) -> None:
        """Leave with RST."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.leave()

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Leave with FIN; twice does no harm."""
        with contextlib.suppress(OSError):
            self.sock.close()

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


def masked(message: str | bytes) -> bytes:
    """One message as a client's frame."""
    return frame(1, message.encode()) if isinstance(message, str) else frame(2, message)
