"""Virtual time: a heap of what is to happen, and nothing happens between two entries."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

__all__ = ["Clock"]


class Clock:
    """Calls what was asked for in the order of time; what is due at the same time, as it was asked.

    `now` is in virtual seconds from 0.
    """

    __slots__ = ("_calls", "_numbers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def at(self, time: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call something at a time; at once, after all that is due now, if that is past. HOT."""
        time = max(time, self.now)
        heappush(self._calls, (time, next(self._numbers), call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call something in so many seconds."""
        self.at(self.now + seconds, call, *arguments)

    def run(self, until: float) -> None:
        """Go on to a time, with all calls that are due until then."""
        calls = self._calls
        while calls and calls[0][0] <= until:
            self.now, _, call, arguments = heappop(calls)
            call(*arguments)
        self.now = until
