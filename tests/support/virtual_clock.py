"""A clock that stands still until it is moved."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["VirtualClock"]


class VirtualClock:
    """Time and chance of a client, for tests."""

    def __init__(self, chance: float | None = None) -> None:
        """`chance` is what every roll of the dice gives; real chance unless given."""
        self._chance = chance
        self._now = 1000.0
        self._timers: dict[object, tuple[float, Callable[[], object]]] = {}

    def time(self) -> float:
        return self._now

    def random(self) -> float:
        return random.random() if self._chance is None else self._chance

    def call_later(self, delay: float, call: Callable[[], object]) -> Callable[[], object]:
        key = object()
        self._timers[key] = (self._now + delay, call)
        return lambda: self._timers.pop(key, None)

    def __len__(self) -> int:
        """How many timers are set."""
        return len(self._timers)

    def advance(self, seconds: float) -> None:
        """Move on; timers go off in order."""
        # Sums of seconds as binary fractions are a little off.
        until = self._now + seconds + 1e-9
        while due := [(at, key) for key, (at, _) in self._timers.items() if at <= until]:
            at, key = min(due, key=lambda each: each[0])
            _, call = self._timers.pop(key)
            self._now = max(self._now, at)
            call()
        self._now = until
