"""Time and chance, which tests replace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from tidegate.client.futures import settle

__all__ = ["Clock", "LoopClock", "sleep"]


class Clock(Protocol):
    """All in seconds."""

    def time(self) -> float:
        """The time on a clock that never goes back."""
        ...

    def call_later(self, delay: float, call: Callable[[], object]) -> Callable[[], object]:
        """Call once after a delay; returns a function that cancels this."""
        ...

    def random(self) -> float:
        """A number from 0 to 1."""
        ...


class LoopClock:
    """The time of the event loop, and real chance."""

    def time(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, call: Callable[[], object]) -> Callable[[], object]:
        """Call by the loop's timer."""
        return asyncio.get_running_loop().call_later(delay, call).cancel

    def random(self) -> float:
        """Need not be secret: it spreads clients."""
        return random.random()  # noqa: S311


async def sleep(clock: Clock, delay: float) -> None:
    """Wait so long on a clock."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancel = clock.call_later(delay, lambda: settle(woken, None))
    try:
        await woken
    finally:
        cancel()
