"""Pings that somebody waits for the answer of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection

__all__ = ["Pings"]

_Answer: TypeAlias = "asyncio.Future[float]"


class Pings:
    """Who waits for the answer of which connection. It belongs to the loop's thread."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, set[_Answer]] = {}

    async def ping(self, connections: Iterable[Connection], timeout: float) -> float | None:
        """Return how long the first answer of several connections took.

        A connection that was pinged and has not answered yet is not pinged again.

        Args:
            timeout: seconds.

        Returns:
            Seconds; None when no answer comes in time.
        """
        answer: _Answer = asyncio.get_running_loop().create_future()
        asked = [connection for connection in connections if connection.open]
        if not asked:
            return None
        try:
            for connection in asked:
                waiting = self._waiting.setdefault(connection, set())
                waiting.add(answer)
                if len(waiting) == 1:
                    connection.ping_now()
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            return None
        finally:
            for connection in asked:
                left = self._waiting.get(connection)
                if left is not None:
                    left.discard(answer)
                    if not left:
                        del self._waiting[connection]

    def measured(self, connection: Connection, seconds: float) -> None:
        """A connection has answered a ping, of the heartbeat too."""
        if self._waiting:
            for answer in self._waiting.pop(connection, ()):
                if not answer.done():
                    answer.set_result(seconds)
