"""Events of a WebSocket that are taken before its application asks for them, up to a bound.

Only by taking what a server has of a client is it seen that the client has left. So while an
application is busy this reads on in its place, and keeps what it reads. It goes no further than the
bound, beyond which the server makes the client wait, if it can.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidegate.asgi.types import Message, Receive

__all__ = ["Ahead"]

_MESSAGES: Final = 32
_BYTES: Final = 65536


class Ahead:
    """Reads on until somebody asks, the client has left, or the bound is reached.

    Args:
        receive: of the server.
        ended: called with the event that is the last one.
    """

    __slots__ = ("_bytes", "_ended", "_events", "_receive", "_task", "_waiter")

    def __init__(self, receive: Receive, ended: Callable[[Message], None]) -> None:
        self._receive = receive
        self._ended = ended
        self._events: deque[Message] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._events

    def start(self) -> None:
        """Begin to read on, unless that is being done."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._read())

    def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()

    async def next(self) -> Message:
        """Return the next event. When this is cancelled, no event is lost that was taken here."""
        while not self._events:
            task = self._task
            if task is None:
                return await self._receive()
            if task.done():
                self._task = None
                task.result()  # raises what the server raised
                continue
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            task.add_done_callback(self._wake)
            try:
                await waiter
            finally:
                self._waiter = None
                task.remove_done_callback(self._wake)
        event = self._events.popleft()
        self._bytes -= _size(event)
        return event

    async def _read(self) -> None:
        while len(self._events) < _MESSAGES and self._bytes < _BYTES:
            event = await self._receive()
            self._events.append(event)
            self._bytes += _size(event)
            if event["type"] == "websocket.disconnect":
                self._ended(event)
                return
            if self._waiter is not None:
                return  # the application is back

    def _wake(self, _: asyncio.Task[None]) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _size(event: Message) -> int:
    return len(event.get("text") or event.get("bytes") or b"")
