"""Functions of an application that are at work, each with a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from tidegate.engine.tasks import is_awaitable
from tidegate.errors import Refused
from tidegate.node.warner import Warner

__all__ = ["FAILED", "Answered", "Call", "Calls"]

_log = logging.getLogger("tidegate")

FAILED: Final = object()
"""What a function that failed, or took too long, has answered."""

Answered: TypeAlias = Callable[[object], None]


class Calls:
    """Calls functions, plain or async, and gives what they return or the `Refused` they raise.

    What else they raise is logged, and the answer is `FAILED`. So it is when an async one takes too
    long, which is cancelled then, or when too many are at work.

    Args:
        timeout: seconds for an async one.
        most: how many may be at work; one that does not heed its cancellation is.
    """

    def __init__(self, timeout: float, most: int) -> None:
        self._timeout = timeout
        self._most = most
        self._warn = Warner()
        self._running: set[Call] = set()

    def __len__(self) -> int:
        """How many are at work."""
        return len(self._running)

    def call(
        self, name: str, function: Callable[..., Any], answered: Answered, *arguments: Any
    ) -> Call | None:
        """Call a function, and `answered` once: at once for a plain one, later for an async one.

        Returns:
            The one that is at work now, None if it is done.
        """
        if len(self._running) >= self._most:
            self._warn(f"{name} was not called: {self._most} functions are at work already")
            answered(FAILED)
            return None
        try:
            result = function(*arguments)
        except Refused as refusal:
            result = refusal
        except Exception as error:
            self.failed(name, error)
            result = FAILED
        if is_awaitable(result):
            call = Call(name, result, answered, self._timeout, self._late, self._ended)
            self._running.add(call)
            return call
        answered(result)
        return None

    async def ask(self, name: str, function: Callable[..., Any], *arguments: Any) -> object:
        """Call a function and return what it has answered; when cancelled, it is cancelled too."""
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        call = self.call(name, function, partial(_set, done), *arguments)
        try:
            return await done
        except asyncio.CancelledError:
            if call is not None:
                call.cancel()
            raise

    def stop(self) -> None:
        """Cancel all that are at work; nobody is told their answers."""
        for call in list(self._running):
            call.cancel()

    def failed(self, name: str, error: BaseException) -> None:
        """Log what a function raised, or what is wrong with its answer."""
        _log.error("%s failed", name, exc_info=error)

    def _late(self, call: Call) -> None:
        self._warn(f"{call.name} did not answer within {self._timeout:g} s, and was cancelled")

    def _ended(self, call: Call, error: BaseException | None) -> None:
        self._running.discard(call)
        if error is not None:
            self.failed(call.name, error)


class Call:
    """One async function at work. Its answer is given once, at its end or at its deadline."""

    __slots__ = ("_answered", "_ended", "_late", "_task", "_timer", "name")

    def __init__(
        self,
        name: str,
        work: Awaitable[object],
        answered: Answered,
        timeout: float,
        late: Callable[[Call], None],
        ended: Callable[[Call, BaseException | None], None],
    ) -> None:
        self.name = name
        self._answered: Answered | None = answered
        self._late = late
        self._ended = ended
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._done)
        self._timer = self._task.get_loop().call_later(timeout, self._overdue)

    def cancel(self) -> None:
        """Stop it; its answer is given to nobody."""
        self._answered = None
        self._timer.cancel()
        self._task.cancel()

    def _overdue(self) -> None:
        self._late(self)
        answered, self._answered = self._answered, None
        self._task.cancel()
        if answered is not None:
            answered(FAILED)

    def _done(self, task: asyncio.Future[object]) -> None:
        self._timer.cancel()
        answered, self._answered = self._answered, None
        found: object = FAILED
        error = None if task.cancelled() else task.exception()  # by itself, or by what it called
        if isinstance(error, Refused):
            found, error = error, None
        elif error is None and not task.cancelled():
            found = task.result()
        self._ended(self, error)
        if answered is not None:
            answered(found)


def _set(done: asyncio.Future[object], found: object) -> None:
    if not done.done():
        done.set_result(found)
