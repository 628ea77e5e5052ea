"""A crowd at several servers, and an independent count of who is connected."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from tests.support.tokens import bearer

__all__ = ["Visitor", "Watcher"]

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_SECONDS = 30.0
_REQUEST = (
    "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "X-Forwarded-For: 10.0.{}.{}\r\n{}: {}\r\n\r\n"
)


class Visitor:
    """A connection that is open until its server, or `leave`, ends it."""

    def __init__(self, watcher: Watcher, user: str, port: int, streams: Streams) -> None:
        self.user = user
        self.port = port
        self.came_at = time.monotonic()
        self._watcher = watcher
        self._reader, self._writer = streams
        self.watch = asyncio.create_task(self._until_end())

    async def _until_end(self) -> None:
        try:
            while data := await self._reader.read(65536):
                if data[:1] == b"\x88":
                    break
        except OSError:
            pass
        finally:
            self._watcher.left(self)
            self._writer.transport.abort()
            await asyncio.sleep(0)

    def leave(self) -> None:
        """Go away without a word."""
        self._watcher.left(self)
        self._writer.transport.abort()


class Watcher:
    """Counts who is connected, as the clients see it, and what they were told.

    Args:
        per_user: the limit of each user.
        limit: that of all servers together.
    """

    def __init__(self, per_user: int, limit: int) -> None:
        self.per_user = per_user
        self.limit = limit
        self.open: set[Visitor] = set()
        self.users: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.broken: list[str] = []
        self._attempts = 0

    async def attempt(self, user: str, port: int) -> Visitor | None:
        """Try to connect once. What it was told otherwise is counted in `told`."""
        self._attempts += 1
        address = divmod(self._attempts % 65536, 256)
        writer = None
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = streams = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_REQUEST.format(*address, *bearer(user)).encode())
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError, TimeoutError) as error:
            self.told[type(error).__name__] += 1
            if writer is not None:
                writer.transport.abort()
            return None
        if head.startswith(b"HTTP/1.1 101 "):
            visitor = Visitor(self, user, port, streams)
            self.came(visitor)
            return visitor
        writer.transport.abort()
        fields = dict(line.split(b": ", 1) for line in head.lower().splitlines() if b": " in line)
        self.told[fields[b"x-rejection-reason"].decode()] += 1
        return None

    async def crowd(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Let many try at once: user and port of each."""
        await asyncio.gather(*(self.attempt(user, port) for user, port in attempts))

    def came(self, visitor: Visitor) -> None:
        self.open.add(visitor)
        self.users[visitor.user] += 1
        if len(self.open) > self.limit:
            self.broken.append(f"{len(self.open)} are connected")
        if self.users[visitor.user] > self.per_user:
            self.broken.append(f"{visitor.user} is connected {self.users[visitor.user]} times")

    def left(self, visitor: Visitor) -> None:
        if visitor in self.open:
            self.open.remove(visitor)
            self.users[visitor.user] -= 1

    async def fill(self, users: Sequence[str], ports: Sequence[int], seconds: float = 30) -> None:
        """Try again and again until the limit is reached."""
        async with asyncio.timeout(seconds):
            while len(self.open) < self.limit:
                wanted = [user for user in users for _ in range(self.per_user - self.users[user])][
                    : self.limit - len(self.open) + 20
                ]
                await self.crowd([(user, ports[n % len(ports)]) for n, user in enumerate(wanted)])

    def at(self, port: int) -> list[Visitor]:
        """Those that are connected to one server."""
        return [visitor for visitor in self.open if visitor.port == port]

    def forget(self, visitors: Iterable[Visitor]) -> None:
        """Count some no more: their server must have given up what they hold."""
        for visitor in visitors:
            self.left(visitor)

    async def leave_all(self) -> None:
        visitors = tuple(self.open)
        for visitor in visitors:
            visitor.leave()
        await asyncio.wait([visitor.watch for visitor in visitors])
