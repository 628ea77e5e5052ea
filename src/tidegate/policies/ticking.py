"""A task of the running loop that does something regularly, for a policy that needs that."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

__all__ = ["Ticking"]

_log = logging.getLogger("tidegate")


class Ticking:
    """Calls `tick` every `period()` seconds with how late it was, from `start` until `stop`."""

    def __init__(self, tick: Callable[[float], None], period: Callable[[], float]) -> None:
        self._tick = tick
        self._period = period
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, and wait until it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._period()
            await asyncio.sleep(due - clock())
            try:
                self._tick(max(0.0, clock() - due))
            except Exception:
                # What a callback of the application raises must not end the policy.
                _log.exception("a callback of a policy failed")
