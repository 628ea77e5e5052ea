"""The last ten minutes of a node, a sample a second, for a dashboard that is opened later."""

from __future__ import annotations

import asyncio
from collections import deque
from time import time
from typing import TYPE_CHECKING, Final

import psutil
from msgspec import Struct

from tidegate.node.control import Sample

if TYPE_CHECKING:
    from tidegate.node.control import Control

__all__ = ["Moment", "Moments", "Timeline"]

_SECONDS: Final = 600
_PERIOD: Final = 1.0


class Moment(Struct, frozen=True, rename="camel"):
    """A sample, when it was taken (Unix seconds), and the memory of the process in bytes."""

    at: float
    memory: int
    sample: Sample


class Moments(Struct, frozen=True, rename="camel"):
    """Some moments, the oldest first."""

    moments: list[Moment]


class Timeline:
    """Keeps samples of a node."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._process = psutil.Process()
        self._moments: deque[Moment] = deque(maxlen=_SECONDS)

    async def run(self) -> None:
        """Take a sample every second; for ever."""
        while True:
            self.take()
            await asyncio.sleep(_PERIOD)

    def take(self) -> None:
        """Take a sample now."""
        memory = self._process.memory_info().rss
        self._moments.append(Moment(round(time(), 3), memory, self._control.sample()))

    def since(self, at: float) -> Moments:
        """Return what is kept from after a time (Unix seconds)."""
        return Moments([moment for moment in self._moments if moment.at > at])
