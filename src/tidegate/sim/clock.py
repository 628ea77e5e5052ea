"""Virtual time: what is to happen, in the order of time, and nothing happens in between.

A heap has the calls of the second that it is, and lists have those of each later second, without an
order. So the heap stays small, however many clients will leave in an hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, TypeAlias

__all__ = ["Clock"]

_Call: TypeAlias = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Clock:
    """Calls what was asked for in the order of time; what is due at the same time, as it was asked.

    `now` is in virtual seconds from 0.
    """

    __slots__ = ("_calls", "_later", "_next", "_numbers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._next = 1
        """The second whose calls are not in the heap yet."""
        self._calls: list[_Call] = []
        self._later: defaultdict[int, list[_Call]] = defaultdict(list)
        self._numbers = count()

    def at(self, time: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call something at a time; at once, after all that is due now, if that is past. HOT."""
        if time < self.now:
            time = self.now
        entry = time, next(self._numbers), call, arguments
        if time < self._next:
            heappush(self._calls, entry)
        else:
            self._later[int(time)].append(entry)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call something in so many seconds."""
        self.at(self.now + seconds, call, *arguments)

    def run(self, until: float) -> None:
        """Go on to a time, with all calls that are due until then."""
        calls = self._calls
        while True:
            while calls and calls[0][0] <= until:
                self.now, _, call, arguments = heappop(calls)
                call(*arguments)
            if self._next > until:
                break
            calls += self._later.pop(self._next, ())
            heapify(calls)
            self._next += 1
        self.now = until
