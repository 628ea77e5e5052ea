"""Positions in the waiting room: the bounded, fair order in which clients are admitted.

A higher priority is first; within a priority, an earlier arrival. The only way in is from the head:

    attempt --enter--> [ last | ... | 2 | head ] --promote--> the capacity that became free
                          |      |    |    |
                          +------+----+----+--- leave, or expired: the position is given up

A holder of a position is either there, on an open connection, or away with a ticket that says when
it arrived. Both are treated alike, but one that is away loses its position when it does not come
back in time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Iterator
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from tidegate.core.admission.attempt import Step
from tidegate.core.admission.ranking import Ranking

__all__ = ["Positions", "Status"]

K = TypeVar("K", bound=Hashable)

_RATE_WINDOW: Final = 30
_BETWEEN_NEWS: Final = 1.0


class Status(NamedTuple, Generic[K]):
    """What a holder is told: its `position` from 1, of `total` that wait.

    `waited` is in seconds; so is `eta`, the estimate of what is left, None while unknown.
    """

    key: K
    position: int
    total: int
    waited: float
    eta: float | None


class _Position(Generic[K]):
    """One position: its order among the others, when it ends, and what its holder was told."""

    __slots__ = ("arrival", "order", "told", "told_at", "until")

    def __init__(self, order: tuple[int, float, int, K]) -> None:
        self.order = order
        self.arrival: tuple[float, int, K] = (order[1], order[2], order[3])
        self.until: tuple[float, int, K] | None = None
        self.told = 0
        self.told_at = 0.0


class Positions(Generic[K]):
    """At most `size` holders, each for at most `max_wait` seconds after it arrived.

    Keys are the caller's own (a connection, a ticket's nonce); times are in monotonic seconds.
    A change costs O(log n). Not safe from several threads.
    """

    __slots__ = (
        "_arrivals",
        "_entered",
        "_held",
        "_max_wait",
        "_order",
        "_rate",
        "_size",
        "_untils",
    )

    def __init__(self, size: int, max_wait: float) -> None:
        self._size = size
        self._max_wait = max_wait
        self._held: dict[K, _Position[K]] = {}
        # The number of the entry is in all of them, so that keys are never compared.
        self._order: Ranking[tuple[int, float, int, K]] = Ranking()
        # When each arrived, and until when each has to be back that is away: a position ends
        # `max_wait` after the one, or at the other. So another `max_wait` moves nothing.
        self._arrivals: Ranking[tuple[float, int, K]] = Ranking()
        self._untils: Ranking[tuple[float, int, K]] = Ranking()
        self._entered = 0
        self._rate = _Rate()

    def apply(self, size: int, max_wait: float) -> None:
        """Take over another size and longest wait; O(1).

        All holders keep their positions, also when they are more than `size`. The longest wait
        counts for them too, from when they arrived: with a shorter one, some may end at once.
        """
        self._size = size
        self._max_wait = max_wait

    def enter(
        self,
        key: K,
        priority: int,
        now: float,
        arrived: float | None = None,
        until: float | None = None,
    ) -> int | None:
        """Take a position: its number, from 1, or None when all are taken.

        The caller tells the holder its position; `status` counts this as told. `arrived` is for a
        ticket: when it was issued first, also by another node. A time in the future, which
        another node's clock may say, counts as now. The position ends `max_wait` after the
        arrival, or at `until` when that is earlier: when a holder that is away has to be back.

        A key that has a position keeps it, and its priority; only `until` is set anew.
        """
        entry = self._held.get(key)
        if entry is None:
            if len(self._held) >= self._size:
                return None
            if not self._held:
                self._rate.resume(now)
            since = now if arrived is None else min(arrived, now)
            self._entered += 1
            entry = self._held[key] = _Position((-priority, since, self._entered, key))
            self._order.add(entry.order)
            self._arrivals.add(entry.arrival)
        elif entry.until is not None:
            self._untils.remove(entry.until)
        entry.until = None if until is None else (until, entry.order[2], key)
        if entry.until is not None:
            self._untils.add(entry.until)
        entry.told = position = self._order.rank(entry.order) + 1
        entry.told_at = now
        return position

    def leave(self, key: K, now: float) -> bool:
        """Give a position up; False when the key has none."""
        entry = self._held.pop(key, None)
        if entry is None:
            return False
        self._order.remove(entry.order)
        self._arrivals.remove(entry.arrival)
        if entry.until is not None:
            self._untils.remove(entry.until)
        if not self._held:
            self._rate.pause(now)
        return True

    def next(self, but: Container[K] = ()) -> K | None:
        """The first key that is not one of `but`; None when none waits.

        The next free capacity belongs to it. It looks at all of `but` that come before.
        """
        if not but:
            head = self._order.first()
            return None if head is None else head[3]
        return next((key for _, _, _, key in self._order if key not in but), None)

    def promote(self, now: float) -> K | None:
        """Take the head out, because there is capacity for it; None when none waits."""
        key = self.next()
        if key is not None:
            self.take(key, now)
        return key

    def take(self, key: K, now: float) -> bool:
        """Take a key out, because there is capacity for it; False when it has no position."""
        if key not in self._held:
            return False
        self._rate.count(now)
        return self.leave(key, now)

    def expired(self, now: float) -> Iterator[K]:
        """Take out and yield those that have ended by `now`, one by one, the first to end first."""
        while (end := self._first_end()) is not None and end[0] <= now:
            self.leave(end[2], now)
            yield end[2]

    def position(self, key: K) -> int | None:
        """The position of a key, from 1 at the head; None when it has none."""
        entry = self._held.get(key)
        return None if entry is None else self._order.rank(entry.order) + 1

    def eta(self, position: int, now: float) -> float | None:
        """The seconds until this position is promoted, at the rate of the latest promotions.

        None while that rate is unknown: when none waits, in the first second, and when none was
        promoted within the last 30 seconds of waiting.
        """
        rate = self._rate.per_second(now)
        return position / rate if rate else None

    def status(self, now: float) -> Iterator[Status[K]]:
        """Yield what the holders whose position changed are to be told, the head first.

        A holder is told at most once a second; call it at least as often. It is one pass over
        the holders as they are at the first step. They may change between the steps, so the
        caller may take its time: those that leave are skipped, and other changes come with the
        next pass.
        """
        total = len(self._held)
        rate = self._rate.per_second(now)
        for position, (_, since, _, key) in enumerate(list(self._order), 1):
            entry = self._held.get(key)
            if entry is None or entry.told == position or now - entry.told_at < _BETWEEN_NEWS:
                continue
            entry.told = position
            entry.told_at = now
            yield Status(key, position, total, now - since, position / rate if rate else None)

    def explain(self, priority: int, now: float) -> Step:
        """Say whether an attempt of this priority would be at the head, and else its position.

        Changes nothing.
        """
        waiting = len(self._held)
        position = self._order.rank((-priority, now, self._entered + 1)) + 1
        eta = self.eta(position, now)
        if position == 1:
            detail = "no attempt waits before this one"
        elif waiting >= self._size:
            detail = f"all {self._size} positions in the waiting room are taken"
        else:
            detail = f"it would wait at position {position} of {waiting + 1}"
        return Step(
            "waiting_room",
            position == 1,
            detail,
            {
                "waiting": waiting,
                "size": self._size,
                "position": position,
                "eta": eta,
                "max_wait": self._max_wait,
            },
        )

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def __len__(self) -> int:
        """How many wait."""
        return len(self._held)

    def _first_end(self) -> tuple[float, int, K] | None:
        """When the first position ends, with its number and key."""
        arrival, until = self._arrivals.first(), self._untils.first()
        if arrival is None:
            return None
        end = (arrival[0] + self._max_wait, *arrival[1:])
        return end if until is None or end[:2] <= until[:2] else until


class _Rate:
    """Promotions a second, over the last 30 seconds in which some client waited.

    Its clock stands still while none waits: that none is promoted then says nothing of how fast
    capacity becomes free. After a pause longer than the window it begins anew.
    """

    __slots__ = ("_counts", "_origin", "_paused")

    def __init__(self) -> None:
        self._origin = 0.0
        self._paused: float | None = -inf
        self._counts: deque[list[int]] = deque()

    def resume(self, now: float) -> None:
        """A client waits, and none did before."""
        assert self._paused is not None
        pause = now - self._paused
        if pause > _RATE_WINDOW:
            self._counts.clear()
            self._origin = now
        else:
            self._origin += pause
        self._paused = None

    def pause(self, now: float) -> None:
        """No client waits any more."""
        self._paused = now

    def count(self, now: float) -> None:
        """A client was promoted."""
        second = int(now - self._origin)
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1][1] += 1
        else:
            self._counts.append([second, 1])
            self._drop_before(second - _RATE_WINDOW + 1)

    def per_second(self, now: float) -> float | None:
        """The rate, or None while it is not known."""
        clock = now - self._origin
        if self._paused is not None or clock < 1.0:
            return None
        first = max(0, int(clock) - _RATE_WINDOW + 1)
        self._drop_before(first)
        return sum(count for _, count in self._counts) / (clock - first) or None

    def _drop_before(self, second: int) -> None:
        while self._counts and self._counts[0][0] < second:
            self._counts.popleft()
