"""The circuit breaker: too many rejections take the node out of rotation for a while.

    CLOSED     counts rejections. Too many within the window: OPEN
    OPEN       refuses all attempts; the node is not ready. After the time set: HALF_OPEN
    HALF_OPEN  the node is ready again and on probation. As many admissions as the probes set:
               CLOSED. As many rejections before that: OPEN

A node that is full costs its clients a refusal each. Out of rotation, the load balancer sends
them where there is room.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from tidegate.core.admission.attempt import Step
from tidegate.core.settings import BreakerSettings

__all__ = ["CircuitBreaker", "State"]

_TENTHS: Final = 10


class State(StrEnum):
    """Whether the node is in rotation."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Opens when there are too many rejections. All operations are O(1), `now` is monotonic.

    Tell it only of rejections for lack of capacity: the server, the waiting room, the pace,
    pressure. If it counted what a client causes itself (its address limit, a wrong token), one
    client could take the node from all the others.

    Rejections are counted in tenths of the window. None counts for longer than the window; the
    oldest may drop out up to a tenth of it early.
    """

    __slots__ = (
        "_admissions",
        "_counts",
        "_enabled",
        "_limit",
        "_open_for",
        "_probes",
        "_rejections",
        "_tenth",
        "_total",
        "_until",
        "_width",
        "_window",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self._enabled = settings.enabled
        self._window = settings.window
        self._width = settings.window / _TENTHS
        self._counts = [0] * _TENTHS
        self._total = 0
        self._tenth = 0
        self.apply(settings)
        # While this is None the breaker is closed.
        self._until: float | None = None
        self._admissions = 0
        self._rejections = 0

    def apply(self, settings: BreakerSettings) -> None:
        """Take over other settings; `enabled` stays as it was.

        Rejections that were counted stay counted for as long as they are within the new window.
        With fewer `rejections` or `probes` than there were already, the next one decides. A
        breaker that is open stays open for as long as it was set to.
        """
        self._limit = settings.rejections
        self._open_for = settings.open_for
        self._probes = settings.probes
        if settings.window != self._window:
            self._recount(settings.window)

    def state(self, now: float) -> State:
        """Return the present state; always closed when the breaker is not enabled."""
        if self._until is None:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def rejected(self, now: float) -> None:
        """Count a rejection, which may open the breaker; its own rejections change nothing."""
        if not self._enabled:
            return
        if self._until is None:
            self._advance(now)
            self._counts[self._tenth % _TENTHS] += 1
            self._total += 1
            if self._total >= self._limit:
                self._open(now)
        elif now >= self._until:
            self._rejections += 1
            if self._rejections >= self._probes:
                self._open(now)

    def admitted(self, now: float) -> None:
        """Count an admission, which may close the breaker."""
        if self._until is not None and now >= self._until:
            self._admissions += 1
            if self._admissions >= self._probes:
                self._until = None

    def retry_after(self, now: float) -> int:
        """Return the whole seconds, 1 at least, until the node is in rotation again."""
        return 1 if self._until is None else max(1, math.ceil(self._until - now))

    def explain(self, now: float) -> Step:
        """Say whether attempts pass the breaker, and why."""
        self._advance(now)
        state = self.state(now)
        if not self._enabled:
            detail = "the breaker is off"
        elif state is State.CLOSED:
            detail = f"closed: {self._total} of {self._limit} rejections within {self._window:g} s"
        elif state is State.OPEN:
            detail = f"open: too many rejections; half open in {self.retry_after(now)} s"
        else:
            detail = f"half open: {self._admissions} of {self._probes} admissions"
        numbers: dict[str, float | int | str | None] = {
            "state": state.value,
            "rejections": self._rejections if state is State.HALF_OPEN else self._total,
            "limit": self._limit,
            "window": self._window,
            "admissions": self._admissions,
            "probes": self._probes,
            "retry_after": self.retry_after(now) if state is State.OPEN else None,
        }
        return Step("breaker", state is not State.OPEN, detail, numbers)

    def _recount(self, window: float) -> None:
        """Put what was counted into tenths of another window, as if it came when its tenth began.

        So nothing counts for longer than it should, though perhaps for a tenth of the old window
        less.
        """
        times = [(tenth * self._width, self._counts[tenth % _TENTHS]) for tenth in self._tenths()]
        self._window = window
        self._width = window / _TENTHS
        self._tenth = int(times[-1][0] / self._width)
        self._counts = [0] * _TENTHS
        for time, count in times:
            tenth = int(time / self._width)
            if tenth > self._tenth - _TENTHS:
                self._counts[tenth % _TENTHS] += count
        self._total = sum(self._counts)

    def _tenths(self) -> range:
        """The tenths that are counted, by their number since the clock's zero, oldest first."""
        return range(self._tenth - _TENTHS + 1, self._tenth + 1)

    def _open(self, now: float) -> None:
        self._until = now + self._open_for
        self._counts = [0] * _TENTHS
        self._total = 0
        self._admissions = 0
        self._rejections = 0

    def _advance(self, now: float) -> None:
        tenth = int(now / self._width)
        for passed in range(self._tenth + 1, min(tenth, self._tenth + _TENTHS) + 1):
            self._total -= self._counts[passed % _TENTHS]
            self._counts[passed % _TENTHS] = 0
        self._tenth = max(tenth, self._tenth)
