"""The async methods of applications that are at work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutine
from time import monotonic
from typing import Any, TypeGuard

__all__ = ["Tasks", "is_awaitable"]

_LAST_SECONDS = 1.0  # for what cancelled methods still do


def is_awaitable(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether a method of an application returned something to wait for. HOT."""
    return result is not None and hasattr(result, "__await__")


class Tasks:
    """Runs them, and keeps them from being collected until they are done."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Awaitable[Any]) -> asyncio.Task[None]:
        """Run ``work`` in the running loop."""
        coroutine: Coroutine[Any, Any, None] = work if iscoroutine(work) else _waiting_for(work)
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def start_guarded(self, work: Awaitable[Any], failed: Callable[[Exception], None]) -> None:
        """Run ``work``; what it raises is given to ``failed``."""
        self.start(_guarded(work, failed))

    def cancel(self) -> None:
        """Cancel all that are at work."""
        for task in self._running:
            task.cancel()

    async def wait(self) -> None:
        """Wait until those are done that are at work, and those that they start; one second."""
        deadline = monotonic() + _LAST_SECONDS
        while self._running and (left := deadline - monotonic()) > 0:
            await asyncio.wait(self._running, timeout=left)


async def _waiting_for(work: Awaitable[Any]) -> None:
    await work


async def _guarded(work: Awaitable[Any], failed: Callable[[Exception], None]) -> None:
    try:
        await work
    except Exception as error:
        failed(error)
