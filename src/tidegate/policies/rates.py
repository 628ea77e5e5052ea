"""How fast one client may send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from threading import Lock
from time import monotonic
from typing import Final

from tidegate.errors import ConfigError

__all__ = ["RateLimiter"]

_SWEEP: Final = 2  # more than a call can add, so that keys that are done never pile up
_INSTANT: Final = 1e-7  # sums of floats are not exact


class RateLimiter:
    """Allows each key `per_second` messages, `burst` at once after a quiet time.

    The generic cell rate algorithm (ITU-T I.371, annex A): one number for each key that was used
    lately, and none for the others. Safe from any thread.

    Args:
        per_second: above 0.
        burst: at least 1.
        max_keys: the most keys that are remembered; beyond it the one used longest ago is
            forgotten, as if it had been quiet.
        clock: monotonic seconds.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        max_keys: int = 1_000_000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        for name, value, low in (("per_second", per_second, 0), ("burst", burst, 0.999)):
            if not value > low:
                raise ConfigError(
                    f"{name} = {value!r}: must be {'1 or more' if low else 'above 0'}"
                )
        self._lock = Lock()
        self._clock = clock
        self._step = 1.0 / per_second
        self._slack = (burst - 1.0) * self._step + _INSTANT
        self._max_keys = max(1, max_keys)
        # By key: when all of its burst is there again. The key used last is the last.
        self._full: dict[Hashable, float] = {}

    def take(self, key: Hashable = None, amount: float = 1.0) -> float:
        """Take one (or `amount`) and return 0.0, or take none and return the seconds to wait."""
        with self._lock:
            now = self._clock()
            full = max(self._full.pop(key, now), now)
            delay = full - self._slack - now
            if delay <= 0:
                full += amount * self._step
                delay = 0.0
            if full > now:
                self._full[key] = full
            self._forget(now)
            return delay

    async def wait(self, key: Hashable = None, amount: float = 1.0) -> None:
        """Take one (or `amount`), after the time that it takes until that is allowed."""
        while delay := self.take(key, amount):
            await asyncio.sleep(delay)

    def forget(self, key: Hashable) -> None:
        """Forget a key, as when its connection ended."""
        with self._lock:
            self._full.pop(key, None)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full)

    def _forget(self, now: float) -> None:
        """Forget some of the keys that have been quiet for long enough."""
        for _ in range(_SWEEP):
            first = next(iter(self._full.items()), None)
            if first is None or (first[1] > now and len(self._full) <= self._max_keys):
                return
            del self._full[first[0]]
