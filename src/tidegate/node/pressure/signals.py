"""What pressure is made of, read off this process and its machine."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final, Protocol

from tidegate.core.admission.shedding import Signals
from tidegate.node.pressure.descriptors import descriptors_used_ratio
from tidegate.node.pressure.memory import Memory

if TYPE_CHECKING:
    from tidegate.core.admission.tracker import ConnectionTracker

__all__ = ["Loop", "Readings", "Sparing"]

# Of all time, what one reading may take.
_SHARE: Final = 0.01


class Sparing:
    """Repeats a reading only so often that it takes 1 % of the time at most.

    Some systems know how many descriptors are open only after counting them, and a kernel may
    have to add up what each core knows of the memory.
    """

    __slots__ = ("_again_at", "_clock", "_read", "_value")

    def __init__(
        self, read: Callable[[], float | None], clock: Callable[[], float] = perf_counter
    ) -> None:
        self._read = read
        self._clock = clock
        self._value: float | None = None
        self._again_at = float("-inf")

    def __call__(self, now: float) -> float | None:
        """A value that is new, or as new as its price allows; ``now`` in monotonic seconds."""
        if now >= self._again_at:
            begun = self._clock()
            self._value = self._read()
            self._again_at = now + (self._clock() - begun) / _SHARE
        return self._value


class Loop(Protocol):
    """What has the connections, and measures the event loop that they are in."""

    @property
    def buffered(self) -> int:
        """Bytes that wait in all outboxes."""

    def take_lag(self) -> float:
        """Return the longest that the loop was late since the last call, in seconds."""


class Readings:
    """Reads all signals of one node. ``cpu_time`` is the CPU time of this process in seconds."""

    def __init__(
        self,
        tracker: ConnectionTracker,
        loop: Loop,
        *,
        memory: Callable[[], float | None] | None = None,
        descriptors: Callable[[], float | None] = descriptors_used_ratio,
        cpu_time: Callable[[], float] = process_time,
    ) -> None:
        self._tracker = tracker
        self._loop = loop
        self._memory = Sparing(Memory().share if memory is None else memory)
        self._descriptors = Sparing(descriptors)
        self._cpu_time = cpu_time
        self._last: tuple[float, float] | None = None

    def read(self, now: float) -> Signals:
        """The signals at ``now`` (monotonic seconds), since the last call where it matters."""
        tracker = self._tracker
        return Signals(
            # Where nobody is let in at all, there is nothing to be close to.
            connections=tracker.utilization if tracker.limit else None,
            loop_lag=self._loop.take_lag(),
            cpu=self._cpu(now),
            memory=self._memory(now),
            descriptors=self._descriptors(now),
            buffered=self._loop.buffered,
        )

    def _cpu(self, now: float) -> float | None:
        used = self._cpu_time()
        last, self._last = self._last, (now, used)
        if last is None or now <= last[0]:
            return None
        return (used - last[1]) / (now - last[0])
