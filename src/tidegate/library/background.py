"""What runs beside the connections for as long as a server does."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from tidegate.errors import UsageError
from tidegate.library.arguments import check_handler

__all__ = ["Background", "TaskFunction"]

_LAST_SECONDS: Final = 1.0

_log = logging.getLogger("tidegate")

TaskFunction: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """The tasks of one server: they begin with it, and are cancelled when it stops."""

    def __init__(self) -> None:
        self._functions: list[TaskFunction] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = False

    def add(self, function: TaskFunction) -> None:
        """Run this too.

        Raises:
            TypeError: it is no async function, or takes arguments.
            UsageError: the server has been started.
        """
        check_handler("task", function)
        call = getattr(function, "__call__", None)  # noqa: B004 - of an object, it may be async
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)):
            raise TypeError("task must be an async function (async def)")
        if self._begun:
            raise UsageError("the server has been started; use asyncio.create_task from now on")
        self._functions.append(function)

    def start(self) -> None:
        """Run all of them, in the running loop."""
        self._begun = True
        self._tasks = [asyncio.create_task(_run(function)) for function in self._functions]

    def cancel(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> None:
        """End them, and wait for what they still do; a second at the most."""
        self.cancel()
        tasks, self._tasks = self._tasks, []
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_SECONDS)


async def _run(function: TaskFunction) -> None:
    try:
        await function()
    except Exception as error:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        _log.error("the task %s failed; the server goes on without it", name, exc_info=error)
