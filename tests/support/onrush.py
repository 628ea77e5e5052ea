"""Clients that connect at a pace, whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

__all__ = ["Attempt", "Onrush"]

_REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PATIENCE = 60.0


class Attempt:
    """One attempt: from which port it came, and how it has ended."""

    def __init__(self) -> None:
        self.port = 0
        self.end = "nothing yet"


class Onrush:
    """So many clients a second; each that gets in stays for a moment.

    Args:
        port: where they connect.
        rate: how many a second.
        stay: seconds for which each stays.
    """

    def __init__(self, port: int, rate: float, stay: float) -> None:
        self.attempts: list[Attempt] = []
        self._port = port
        self._rate = rate
        self._stay = stay
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pacing = asyncio.create_task(self._pace())

    @property
    def ends(self) -> Counter[str]:
        """How many have ended in each way; "101" is that they got in."""
        return Counter(attempt.end for attempt in self.attempts)

    async def stop(self) -> None:
        """Let no more come, and wait until all have ended."""
        self._stopped = True
        await self._pacing
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def wait_for(self, more: int) -> None:
        """Wait until so many more have got in."""
        wanted = self.ends["101"] + more
        async with asyncio.timeout(_PATIENCE):
            while self.ends["101"] < wanted:
                await asyncio.sleep(0.02)

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        begun, sent = loop.time(), 0
        while not self._stopped:
            while sent < (loop.time() - begun) * self._rate:
                task = asyncio.create_task(self._attempt())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                sent += 1
            await asyncio.sleep(0.005)

    async def _attempt(self) -> None:
        attempt = Attempt()
        self.attempts.append(attempt)
        writer = None
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                attempt.port = writer.get_extra_info("sockname")[1]
                writer.write(_REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
            attempt.end = head.split(b" ", 2)[1].decode()
            await asyncio.sleep(self._stay)
        except (OSError, EOFError) as error:
            attempt.end = type(error).__name__
        finally:
            if writer is not None:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()
