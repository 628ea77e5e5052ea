"""Gives up on a receiver for a while that has failed several times in a row.

closed --failures in a row--> open --time--> one probe --success--> closed
                               ^                |
                               +----failure-----+
"""

from __future__ import annotations

from typing import Final

__all__ = ["FAILURES", "OPEN_SECONDS", "Breaker"]

FAILURES: Final = 5
OPEN_SECONDS: Final = 5.0


class Breaker:
    """Says whether to ask. Times are in monotonic seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Whether to ask now; when it was open for its time, True is for one probe."""
        if self._failures < FAILURES:
            return True
        if now < self._until:
            return False
        self._until = now + OPEN_SECONDS  # all others wait for the probe
        return True

    def succeeded(self) -> bool:
        """The receiver has answered. Returns whether it was given up before."""
        given_up = self._failures >= FAILURES
        self._failures = 0
        return given_up

    def failed(self, now: float) -> bool:
        """It has not. Returns whether it is given up from now on, and was not before."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._until = now + OPEN_SECONDS
        return self._failures == FAILURES
