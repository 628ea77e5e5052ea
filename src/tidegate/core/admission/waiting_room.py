"""The line: who waits in front of the gate, as whom, and who is let in next.

The waiting room knows places; here they belong to attempts. A slot that comes free goes to the
head of the line, and nobody who comes later takes it: while somebody waits, every newcomer goes
to the line as well. The only exception is a slot that is kept for a tier of which nobody waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from tidegate.core.admission.attempt import Attempt, Reject, Step, Verdict
from tidegate.core.admission.pacing import Pacer
from tidegate.core.admission.positions import Positions, Status
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import SERVER_LIMIT
from tidegate.core.settings import Settings

__all__ = ["Promotion", "WaitingRoom"]


class Promotion(NamedTuple):
    """The head has left the line: with a lease, or refused because of a limit of its own."""

    key: Hashable
    attempt: Attempt
    verdict: Verdict


class WaitingRoom:
    """Who waits. Keys are the caller's own, one for each place; ``now`` is monotonic seconds.

    ``chance`` gives a random number in [0, 1), for those whom pressure lets in by chance;
    ``pacer`` keeps the pace, which those who waited keep too, if there is one.
    """

    __slots__ = (
        "_addresses",
        "_attempts",
        "_chance",
        "_dry",
        "_pacer",
        "_room",
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
        self._room: Positions[Hashable] = Positions(own.size, own.max_wait)
        self._tracker = tracker
        self._shedder = shedder
        self._chance = chance
        self._pacer = pacer
        self._dry = settings.limits.is_dry("shedding")
        self._attempts: dict[Hashable, Attempt] = {}
        self._addresses: Counter[str | None] = Counter()
        self._users: Counter[str | None] = Counter()
        self._tiers: Counter[str | None] = Counter()

    def comes_before(self, attempt: Attempt) -> bool:
        """Whether somebody waits whom this newcomer must not overtake."""
        if not self._attempts:
            return False
        tier = attempt.identity.tier
        return self._tiers[tier] > 0 or not self._tracker.has_reserve(tier)

    def rejection(self, attempt: Attempt) -> Reject | None:
        """Why this attempt may not even wait: places count like connections of its own."""
        return self._tracker.own_rejection(
            attempt.address,
            attempt.identity,
            more_here=self._addresses[attempt.address],
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
        """Take a place: the position from 1, or None when all are taken.

        See ``Positions.enter`` for ``arrived`` and ``until``. A key that waits keeps its place.
        """
        priority = attempt.identity.priority
        position = self._room.enter(key, priority, now, arrived, until)
        if position is not None and key not in self._attempts:
            self._attempts[key] = attempt
            self._count(attempt, 1)
        return position

    def promote(self, now: float) -> Promotion | None:
        """Let the head in if there is a slot for it; None while nobody is to be let in.

        Call it again until it returns None, whenever a slot came free and a few times a second.
        """
        key = self._room.next()
        if key is None or self.wait_for_room(now):
            return None
        attempt = self._attempts[key]
        identity = attempt.identity
        if not self._dry and not self._shedder.admits(identity.priority, self._chance()):
            return None
        verdict = self._tracker.acquire(attempt.address, identity)
        if type(verdict) is Reject:
            if verdict.reason is SERVER_LIMIT:
                return None
            self.leave(key, now)
        else:
            self._room.promote(now)
            self._forget(key)
            if self._pacer is not None:
                self._pacer.let_in(now)
        return Promotion(key, attempt, verdict)

    def wait_for_room(self, now: float) -> float:
        """Seconds until the pace allows the head to be let in; 0.0 for now."""
        return 0.0 if self._pacer is None else self._pacer.wait_for_room(now)

    def leave(self, key: Hashable, now: float) -> bool:
        """Give a place up; False when the key does not wait."""
        if not self._room.leave(key, now):
            return False
        self._forget(key)
        return True

    def expired(self, now: float) -> list[Hashable]:
        """Take out those who have waited for too long, or did not come back; their keys."""
        over = self._room.expired(now)
        for key in over:
            self._forget(key)
        return over

    def status(self, now: float) -> Iterator[Status[Hashable]]:
        """What holders are to be told; call it a few times a second. See ``Positions.status``."""
        return self._room.status(now)

    def eta(self, position: int, now: float) -> float | None:
        """Seconds until this position is let in, None while unknown."""
        return self._room.eta(position, now)

    def explain(self, attempt: Attempt, now: float) -> Step:
        """Whether this attempt would have to wait behind others. Changes nothing."""
        step = self._room.explain(attempt.identity.priority, now)
        if not step.passed and not self.comes_before(attempt):
            detail = "its tier has a free place of its own"
            return Step(step.name, True, detail, step.numbers)
        # Whoever would be at the head still lets those be served whose slots are free already.
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
        self._count(self._attempts.pop(key), -1)

    def _count(self, attempt: Attempt, change: int) -> None:
        identity = attempt.identity
        for counts, name in (
            (self._addresses, attempt.address),
            (self._users, identity.user),
            (self._tiers, identity.tier),
        ):
            counts[name] += change
            if not counts[name]:
                del counts[name]
