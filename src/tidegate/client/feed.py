"""Events for an `async for` loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

from tidegate.client.errors import ClientError
from tidegate.errors import UsageError

__all__ = ["BUFFER", "Feed"]

E = TypeVar("E")

BUFFER = 1000
"""How many events wait for a loop, unless said otherwise."""


class Feed(Generic[E]):
    """Keeps events until a loop takes them.

    It ends when the client is closed: without an error after `close`, else with `ClientClosed`. If
    more than `limit` events wait, they are dropped, and the loop ends with a `ClientError` with the
    code `overflow`: it is too slow for what comes.
    """

    def __init__(self, limit: int = BUFFER) -> None:
        if limit < 1:
            raise ValueError(f"buffer: at least 1, not {limit}")
        self._limit = limit
        self._items: deque[E] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: ClientError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and nothing waits."""
        return self._ended and not self._items and self._error is None

    def put(self, item: E) -> None:
        """Keep an event for the loop."""
        if len(self._items) >= self._limit:
            self._items.clear()
            text = f"The loop was more than {self._limit} events behind"
            self.end(ClientError("overflow", text))
        if not self._ended:
            self._items.append(item)
            self._wake()

    def end(self, error: ClientError | None = None) -> None:
        """End the loop behind what waits, with an error if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if self._waiter is not None:
            raise UsageError("Another task reads these events already; call `events()` for each")
        while not self._items:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()
