"""Points in time at which something is due, the next one first."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T", bound=Hashable)

# Below this a rebuild costs more than the entries that it would drop.
_SLACK = 64


class Deadlines(Generic[T]):
    """One deadline for each key, in the seconds of any clock, as long as it is always the same.

    It is a heap: a deadline that was moved or dropped stays in it until it comes up, or until
    such entries outnumber the real ones. All operations are O(log n), amortised.
    """

    __slots__ = ("_entries", "_heap", "_made")

    def __init__(self) -> None:
        self._entries: dict[T, tuple[float, int, T]] = {}
        self._heap: list[tuple[float, int, T]] = []
        # Breaks ties, so that keys are never compared and equal times keep their order.
        self._made = 0

    def set(self, key: T, when: float) -> None:
        """Give a key its deadline, in place of the one that it had."""
        self._made += 1
        entry = (when, self._made, key)
        self._entries[key] = entry
        heapq.heappush(self._heap, entry)
        self._compact()

    def discard(self, key: T) -> None:
        """Drop the deadline of a key, if it has one."""
        if self._entries.pop(key, None) is not None:
            self._compact()

    def due(self, now: float) -> list[T]:
        """Remove and return the keys whose deadline is `now` or earlier, the earliest first."""
        return list(self.take(now))

    def take(self, now: float) -> Iterator[T]:
        """Remove and yield these one by one; those that were not asked for keep their deadline."""
        for key, _ in self.take_times(now):
            yield key

    def take_times(self, now: float) -> Iterator[tuple[T, float]]:
        """Do as `take` does, and yield the deadlines too."""
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            when, _, key = entry
            if self._entries.get(key) is entry:
                del self._entries[key]
                yield key, when

    def when(self, key: T) -> float | None:
        """Return the deadline of a key, None if it has none."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def next(self) -> float | None:
        """Return the earliest deadline, or None when there are none."""
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def first(self) -> T | None:
        """Return the key whose deadline is the earliest, or None when there are none."""
        return None if self.next() is None else self._heap[0][2]

    def __iter__(self) -> Iterator[T]:
        """Yield the keys that have a deadline, in no useful order."""
        return iter(self._entries)

    def __contains__(self, key: T) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
