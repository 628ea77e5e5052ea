from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.core.admission.positions import Positions

MAX_WAIT = 30.0
T0 = 1000.0


def test_a_full_server_with_three_hundred_in_front() -> None:
    """All are admitted in order as others leave, and see their positions fall until then."""
    room = Positions[int](300, 1e9)
    seen: dict[int, list[tuple[float, int]]] = {}
    for key in range(300):
        position = room.enter(key, 0, T0)
        assert position is not None
        seen[key] = [(T0, position)]
    promoted: list[int] = []
    now = T0
    while len(room):
        now += 0.25
        for _ in range(7):
            head = room.promote(now)
            if head is not None:
                promoted.append(head)
        for status in room.status(now):
            assert status.total == len(room)
            seen[status.key].append((now, status.position))
    assert promoted == list(range(300))
    for key, news in seen.items():
        assert news[0][1] == key + 1
        assert all(later[1] < earlier[1] for earlier, later in pairwise(news))
        assert all(later[0] - earlier[0] >= 1.0 for earlier, later in pairwise(news))


SIZE = 6
KEYS = st.integers(0, 9)


class PositionsMachine(RuleBasedStateMachine):
    """The positions beside a plain sorted list of them."""

    @initialize()
    def start(self) -> None:
        self.room = Positions[int](SIZE, MAX_WAIT)
        self.size, self.max_wait = SIZE, MAX_WAIT
        self.now = T0
        self.entered = 0
        # What each that waits is ordered by, when it has to be back, and what it was told when.
        self.waiting: dict[int, tuple[int, float, int]] = {}
        self.until: dict[int, float] = {}
        self.told: dict[int, tuple[int, float]] = {}

    @property
    def model(self) -> list[int]:
        return sorted(self.waiting, key=self.waiting.__getitem__)

    def forget(self, key: int) -> None:
        for known in (self.waiting, self.until, self.told):
            del known[key]

    def end(self, key: int) -> float:
        return min(self.waiting[key][1] + self.max_wait, self.until[key])

    @rule(size=st.integers(0, 9), max_wait=st.sampled_from([1.0, 8.0, 30.0, 90.0]))
    def apply(self, size: int, max_wait: float) -> None:
        self.size, self.max_wait = size, max_wait
        self.room.apply(size, max_wait)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 7.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        key=KEYS,
        priority=st.sampled_from([0, 0, 0, 1, 50]),
        age=st.sampled_from([None, None, 0.0, 1.5, 12.0, -5.0]),
        absence=st.sampled_from([None, None, 2.0, 40.0]),
    )
    def enter(self, key: int, priority: int, age: float | None, absence: float | None) -> None:
        arrived = None if age is None else self.now - age
        until = None if absence is None else self.now + absence
        position = self.room.enter(key, priority, self.now, arrived, until)
        if key not in self.waiting:
            if len(self.waiting) >= self.size:
                assert position is None
                return
            self.entered += 1
            self.waiting[key] = (-priority, self.now - max(0.0, age or 0.0), self.entered)
        self.until[key] = math.inf if until is None else until
        assert position == self.model.index(key) + 1
        self.told[key] = (position, self.now)

    @rule(key=KEYS)
    def leave(self, key: int) -> None:
        assert self.room.leave(key, self.now) == (key in self.waiting)
        if key in self.waiting:
            self.forget(key)

    @precondition(lambda self: self.waiting)
    @rule()
    def promote(self) -> None:
        key = self.room.promote(self.now)
        assert key == self.model[0]
        # Put without the sorted list: none of its class came before it, nor is a class higher.
        mine = self.waiting[key]
        assert all(mine[:2] <= other[:2] for other in self.waiting.values())
        self.forget(key)

    @rule()
    def expired(self) -> None:
        over = [key for key in self.waiting if self.end(key) <= self.now]
        over.sort(key=lambda key: (self.end(key), self.waiting[key][2]))
        assert list(self.room.expired(self.now)) == over
        for key in over:
            self.forget(key)

    @rule()
    def status(self) -> None:
        expected = [
            (key, position, len(self.waiting), self.now - self.waiting[key][1])
            for position, key in enumerate(self.model, 1)
            if self.told[key][0] != position and self.now - self.told[key][1] >= 1.0
        ]
        assert [status[:4] for status in self.room.status(self.now)] == expected
        for key, position, *_ in expected:
            self.told[key] = (position, self.now)

    @invariant()
    def the_same_order(self) -> None:
        if not hasattr(self, "room"):
            return
        model = self.model
        assert len(self.room) == len(model)
        assert self.room.next() == (model[0] if model else None)
        for key in range(10):
            assert self.room.position(key) == (model.index(key) + 1 if key in model else None)
            assert (key in self.room) == (key in model)


TestPositionsMachine = PositionsMachine.TestCase
TestPositionsMachine.settings = settings(max_examples=50, stateful_step_count=40)
