"""The methods of the application for one connection: one at a time, also where they are async."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import HANDLER_ERROR, POLICY, REASONS, Refusal
from tidegate.engine.sending import Sender
from tidegate.engine.sockets import Socket
from tidegate.engine.states import CLOSED
from tidegate.engine.tasks import is_awaitable
from tidegate.errors import Refused

if TYPE_CHECKING:
    from tidegate.engine.shared import Shared
    from tidegate.wire.deflate import Deflate

__all__ = ["BACKLOG", "BUSY", "EARLY", "LONG", "Handling"]

# Why a connection does not take the next message just now. Reading goes on for a little while
# (so that pongs, closes and resets are seen) and then stops until the handler has caught up.
BUSY = 1  # an async handler is at work
BACKLOG = 2  # many small frames came at once; the rest waits for the next turn
EARLY = 4  # more came than the rates allow
LONG = BUSY | EARLY  # for longer than a turn


class Handling(Sender):
    """What a connection knows of the handler that is at work for it."""

    __slots__ = ("_held",)

    def __init__(self, shared: Shared, sock: Socket, deflate: Deflate | None) -> None:
        super().__init__(shared, sock, deflate)
        self._held = 0

    @property
    def busy(self) -> bool:
        """True while an async handler of this connection is at work."""
        return bool(self._held & BUSY)

    def ended(self) -> asyncio.Future[None]:
        """What is done when the socket is gone. It is shared: wait for it with a shield."""
        ends = self.shared.ends
        future = ends.get(self)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if self._state is CLOSED:
                future.set_result(None)
            else:
                ends[self] = future
        return future

    def call(self, method: Callable[[Any], Any]) -> None:
        """Call a method of the application with this connection, behind one that is at work."""
        if self.busy:
            self.shared.deferred[self] = method
            return
        try:
            work = method(self)
        except Exception as error:
            self._handler_failed(error)
        else:
            if is_awaitable(work):
                self.run(work)

    def run(self, work: Awaitable[Any]) -> None:
        """Run an async handler; messages that follow wait until it is done."""
        self._held |= BUSY
        shared = self.shared
        task = shared.tasks.start(work)
        task.add_done_callback(self._handler_done)
        if shared.cancels:
            shared.at_work[self] = task

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        self._held &= ~BUSY
        self.shared.at_work.pop(self, None)
        if task.cancelled():
            self.end(HANDLER_ERROR)
        elif isinstance(error := task.exception(), Exception):
            self._handler_failed(error)
        if self._state is CLOSED and self not in self.shared.leftover:
            self._announce_close()
            return
        method = self.shared.deferred.pop(self, None)
        if method is not None and self.open:
            self.call(method)
        # Not called at once: a chain of short handlers must not become a deep stack.
        self.shared.poller.ready.append(self._go_on)
        self.shared.poller.wake()

    def refuse(self, refused: Refused) -> None:
        """Close for a refusal that the application lets out: of a room that is full, say."""
        reason = REASONS.get(refused.reason)
        if isinstance(reason, Refusal):
            self.end(reason, refused.retry_after)
        else:
            self.end(POLICY, refused.retry_after, refused.message)

    def _handler_failed(self, error: Exception) -> None:
        if isinstance(error, Refused):
            self.refuse(error)
            return
        self.shared.host.failed(self, error)
        self.end(HANDLER_ERROR)

    def _cancel_handler(self) -> None:
        """The peer is gone: cancel the handler that is at work, if the application wants that."""
        task = self.shared.at_work.get(self)
        if task is not None:
            task.cancel()

    @abstractmethod
    def _go_on(self) -> None:
        """Take up the messages that waited."""

    @abstractmethod
    def _announce_close(self) -> None:
        """Tell the application that this connection has ended."""
