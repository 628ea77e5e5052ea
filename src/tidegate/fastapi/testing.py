"""Time in tests of an application: it stands still until the test moves it."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """A clock that only a test moves. It begins at an hour that is no special one."""

    def __init__(self) -> None:
        self._now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time, as a clock does."""
        return self._now

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let some time pass."""
        if seconds < 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self._now += seconds
