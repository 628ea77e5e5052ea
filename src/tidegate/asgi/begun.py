"""A coroutine whose first step was run without a task."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

__all__ = ["Begun"]


class Begun:
    """The rest of a coroutine that has begun, for a task to await.

    Args:
        work: the coroutine, after `work.send(None)`.
        waits_for: what that returned.
    """

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        work, waits_for = self._work, self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                resume: Callable[[], Any] = partial(work.throw, error)
            else:
                resume = partial(work.send, value)
            try:
                waits_for = resume()
            except StopIteration:
                return
