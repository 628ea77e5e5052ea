"""The last ten minutes of a node, a sample a second, for a dashboard that is opened later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import time
from typing import Final

import psutil
from msgspec import Struct

from tidegate.node.control import Sample

__all__ = ["Moment", "Moments", "Timeline", "own_memory"]

_SECONDS: Final = 600
_PERIOD: Final = 1.0
_PROCESS: Final = psutil.Process()


def own_memory() -> int:
    """Return the bytes of memory that this process has."""
    memory: int = _PROCESS.memory_info().rss
    return memory


class Moment(Struct, frozen=True, rename="camel"):
    """A sample, when it was taken (Unix seconds), and the memory of the process in bytes."""

    at: float
    memory: int
    sample: Sample


class Moments(Struct, frozen=True, rename="camel"):
    """Some moments, the oldest first."""

    moments: list[Moment]


class Timeline:
    """Keeps samples of a node, or of several workers together.

    Args:
        sample: takes one.
        memory: returns the bytes of memory in use; those of this process by default.
    """

    def __init__(
        self, sample: Callable[[], Sample], memory: Callable[[], int] | None = None
    ) -> None:
        self._sample = sample
        self._memory = memory or own_memory
        self._moments: deque[Moment] = deque(maxlen=_SECONDS)

    async def run(self) -> None:
        """Take a sample every second; for ever."""
        while True:
            self.take()
            await asyncio.sleep(_PERIOD)

    def take(self) -> None:
        """Take a sample now."""
        self._moments.append(Moment(round(time(), 3), self._memory(), self._sample()))

    def since(self, at: float) -> Moments:
        """Return what is kept from after a time (Unix seconds)."""
        return Moments([moment for moment in self._moments if moment.at > at])
