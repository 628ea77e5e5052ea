"""The waiting room: the attempts that wait in front of the gate, and which is admitted next.

`Positions` knows the order; here the positions belong to attempts. Capacity that becomes free goes
to the head, and no attempt that comes later takes it: while one waits, every new attempt waits as
well. The only exception is capacity that is kept for a tier of which none waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from tidegate.addresses import network
from tidegate.core.admission.attempt import Attempt, Lease, Reject, Step
from tidegate.core.admission.pacing import Pacer
from tidegate.core.admission.positions import Positions, Status
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import SERVER_LIMIT
from tidegate.core.settings import Settings

__all__ = ["Promotion", "WaitingRoom"]


class Promotion(NamedTuple):
    """What the first gets that waits: a lease, or a refusal because of a limit of its own."""

    key: Hashable
    attempt: Attempt
    outcome: Lease | Reject


class WaitingRoom:
    """The attempts that wait. Keys are the caller's own, one for each; `now` is monotonic seconds.

    `chance` returns a random number in [0, 1), for attempts that pressure admits by chance;
    `pacer` keeps the pace, which counts for those that waited too, if there is one.
    """

    __slots__ = (
        "_addresses",
        "_attempts",
        "_chance",
        "_dry",
        "_offered",
        "_pacer",
        "_positions",
        "_prefix",
        "_shedder",
        "_tiers",
        "_tracker",
        "_users",
    )

    def __init__(
        self,
        settings: Settings,
        tracker: ConnectionTracker,
        shedder: LoadShedder,
        chance: Callable[[], float],
        pacer: Pacer | None = None,
    ) -> None:
        own = settings.waiting_room
        self._positions: Positions[Hashable] = Positions(own.size, own.max_wait)
        self._tracker = tracker
        self._shedder = shedder
        self._chance = chance
        self._pacer = pacer
        self._prefix = settings.limits.ipv6_prefix
        self._dry = settings.limits.is_dry("shedding")
        self._attempts: dict[Hashable, Attempt] = {}
        self._offered: set[Hashable] = set()
        self._addresses: Counter[str | None] = Counter()
        self._users: Counter[str | None] = Counter()
        self._tiers: Counter[str | None] = Counter()

    def apply(self, settings: Settings) -> None:
        """Take over `waiting_room.size` and `max_wait`; no attempt that waits loses its position.

        See `Positions.apply`.
        """
        own = settings.waiting_room
        self._positions.apply(own.size, own.max_wait)

    def comes_before(self, attempt: Attempt) -> bool:
        """Whether an attempt waits that this new one must not overtake."""
        if not self._attempts:
            return False
        tier = attempt.identity.tier
        return self._tiers[tier] > 0 or not self._tracker.has_reserve(tier)

    def rejection(self, attempt: Attempt) -> Reject | None:
        """Return a rejection if it may not even wait: a position counts like a connection."""
        return self._tracker.own_rejection(
            attempt.address,
            attempt.identity,
            more_here=self._addresses[network(attempt.address, self._prefix)],
            more_of_user=self._users[attempt.identity.user],
        )

    def enter(
        self,
        key: Hashable,
        attempt: Attempt,
        now: float,
        arrived: float | None = None,
        until: float | None = None,
    ) -> int | None:
        """Take a position: its number, from 1, or None when all are taken.

        See `Positions.enter` for `arrived` and `until`. A key that waits keeps its position.
        """
        priority = attempt.identity.priority
        position = self._positions.enter(key, priority, now, arrived, until)
        if position is not None and key not in self._attempts:
            self._attempts[key] = attempt
            self._count(attempt, 1)
        return position

    def promote(self, now: float) -> Promotion | None:
        """Admit the head if there is capacity for it; None while none is to be admitted.

        Call it until it returns None, whenever capacity becomes free and a few times a second.
        """
        promotion = self.offer(now)
        if promotion is not None and type(promotion.outcome) is Lease:
            self.accept(promotion.key, now)
        return promotion

    def offer(self, now: float) -> Promotion | None:
        """Take a lease for the first that has none, and let it keep its position; None for none.

        `accept` or `withdraw` ends that, unless the key has left before. One that is refused for a
        limit of its own has left already.
        """
        key = self._positions.next(self._offered)
        if key is None or self.wait_for_room(now):
            return None
        attempt = self._attempts[key]
        identity = attempt.identity
        if not self._dry and not self._shedder.admits(identity.priority, self._chance()):
            return None
        outcome = self._tracker.acquire(attempt.address, identity)
        if type(outcome) is Reject:
            if outcome.reason is SERVER_LIMIT:
                return None
            self.leave(key, now)
        else:
            self._offered.add(key)
            if self._pacer is not None:
                self._pacer.admitted(now)
        return Promotion(key, attempt, outcome)

    def accept(self, key: Hashable, now: float) -> bool:
        """End the position of one that has taken its lease; False when it has left before."""
        if not self._positions.take(key, now):
            return False
        self._forget(key)
        return True

    def withdraw(self, key: Hashable) -> None:
        """Offer nothing to this key for now: it keeps its position."""
        self._offered.discard(key)

    def wait_for_room(self, now: float) -> float:
        """Return the seconds until the pace allows the head to be admitted; 0.0 for now."""
        return 0.0 if self._pacer is None else self._pacer.wait_for_room(now)

    def leave(self, key: Hashable, now: float) -> bool:
        """Give a position up; False when the key does not wait."""
        if not self._positions.leave(key, now):
            return False
        self._forget(key)
        return True

    def expired(self, now: float) -> Iterator[Hashable]:
        """Take out those that have waited too long, or did not come back, and yield their keys."""
        for key in self._positions.expired(now):
            self._forget(key)
            yield key

    def status(self, now: float) -> Iterator[Status[Hashable]]:
        """Yield what holders are to be told; call it a few times a second. See `Positions`."""
        return self._positions.status(now)

    def eta(self, position: int, now: float) -> float | None:
        """Return the seconds until this position is admitted, None while unknown."""
        return self._positions.eta(position, now)

    def explain(self, attempt: Attempt, now: float) -> Step:
        """Say whether this attempt would have to wait behind others. Changes nothing."""
        step = self._positions.explain(attempt.identity.priority, now)
        if not step.passed and not self.comes_before(attempt):
            detail = "its tier has a reserve that is free"
            return Step(step.name, True, detail, step.numbers)
        # At the head it is the next to be admitted, so it passes.
        if step.passed and self._attempts:
            detail = f"it would be at the head of {len(self) + 1}"
            return Step(step.name, True, detail, step.numbers)
        return step

    def __contains__(self, key: Hashable) -> bool:
        return key in self._attempts

    def __len__(self) -> int:
        """How many wait."""
        return len(self._attempts)

    def _forget(self, key: Hashable) -> None:
        self._offered.discard(key)
        self._count(self._attempts.pop(key), -1)

    def _count(self, attempt: Attempt, change: int) -> None:
        identity = attempt.identity
        for counts, name in (
            (self._addresses, network(attempt.address, self._prefix)),
            (self._users, identity.user),
            (self._tiers, identity.tier),
        ):
            counts[name] += change
            if not counts[name]:
                del counts[name]
