"""What a connection's coroutine reads from, and how that coroutine ends.

put ----> messages ----> receive        full: nothing more is read from this client
closed --> the loop over messages ends; a coroutine that goes on is cancelled later
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import HANDLER_ERROR
from tidegate.errors import ConnectionClosed, Refused, UsageError

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection as Engine

__all__ = ["Inbox"]

_log = logging.getLogger("tidegate")

# What a coroutine has not taken yet. Beyond it, nothing is read from this client.
_MESSAGES: Final = 32
_BYTES: Final = 65536


class Inbox:
    """The messages that a coroutine has not taken yet, and its task.

    Args:
        engine: the connection.
        patience: seconds that the coroutine may go on after its client has left.
    """

    __slots__ = (
        "_bytes",
        "_end",
        "_engine",
        "_messages",
        "_patience",
        "_room",
        "_task",
        "_timer",
        "_waiter",
    )

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._messages: list[str | bytes] = []  # of a few: a deque would take 600 bytes more
        self._bytes = 0
        self._end: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # What somebody awaits, while somebody does.
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine in a task."""
        self._task = self._engine.shared.tasks.start(work)
        self._task.add_done_callback(self._done)

    def put(self, message: str | bytes) -> asyncio.Future[None] | None:
        """Queue a message; what is returned is done when there is room for the next one."""
        if self._task is None:
            return None  # nobody takes it any more
        messages = self._messages
        messages.append(message)
        self._bytes += len(message)
        _wake(self._waiter)
        if len(messages) < _MESSAGES and self._bytes < _BYTES:
            return None
        self._room = self._task.get_loop().create_future()
        # While this is awaited, the engine keeps the end of the connection to itself.
        self._engine.ended().add_done_callback(self._gone)
        return self._room

    async def receive(self) -> str | bytes:
        """Return the next message.

        Raises:
            ConnectionClosed: the connection has ended, and every message of it was taken.
            UsageError: another task waits for the next message already.
        """
        messages = self._messages
        if not messages and self._end is None:
            if self._waiter is not None:
                raise UsageError("another task waits for the next message of this connection")
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        if not messages:
            assert self._end is not None
            raise ConnectionClosed(*self._end)
        message = messages.pop(0)
        self._bytes -= len(message)
        if self._room is not None and len(messages) < _MESSAGES // 2:
            self._let_in()
        return message

    def closed(self, code: int, text: str) -> None:
        """The connection has ended, and no message comes any more."""
        self._end = (code, text)
        self._expire()
        _wake(self._waiter)

    def _gone(self, _: object) -> None:
        """The client has left while messages of it wait."""
        self._expire()

    def _expire(self) -> None:
        task = self._task
        if task is None or self._timer is not None:
            return
        self._timer = task.get_loop().call_later(self._patience, self._give_up)
        if self._engine.shared.cancels and self._waiter is None:
            self._messages.clear()
            task.cancel()  # a loop over the messages ends by itself

    def _give_up(self) -> None:
        if self._task is not None:
            _log.warning(
                "the coroutine of connection %s goes on after its client has left; cancelled",
                self._engine.id,
                extra={"after": self._patience},
            )
            self._task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._messages.clear()
        engine = self._engine
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            engine.end(HANDLER_ERROR)
        elif isinstance(error, Refused):
            engine.refuse(error)
        elif isinstance(error, Exception) and (
            engine.open or not isinstance(error, ConnectionClosed)
        ):
            engine.shared.host.failed(engine, error)
            engine.end(HANDLER_ERROR)
        else:
            engine.close()
        self._let_in()

    def _let_in(self) -> None:
        room, self._room = self._room, None
        _wake(room)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
