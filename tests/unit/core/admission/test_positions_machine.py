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
    """Everybody gets in as others leave, in order, and sees its position fall all the while."""
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
            key = room.promote(now)
            if key is not None:
                promoted.append(key)
        for status in room.status(now):
            assert status.total == len(room)
            seen[status.key].append((now, status.position))
    assert promoted == list(range(300))
    for key, news in seen.items():
        assert news[0][1] == key + 1
        assert all(later[1] < earlier[1] for earlier, later in pairwise(news))
        assert all(later[0] - earlier[0] >= 1.0 for earlier, later in pairwise(news))


PLACES = 6
KEYS = st.integers(0, 9)


class WaitingRoomMachine(RuleBasedStateMachine):
    """The line beside a plain sorted list of it."""

    @initialize()
    def start(self) -> None:
        self.room = Positions[int](PLACES, MAX_WAIT)
        self.now = T0
        self.entered = 0
        # What each that waits is ordered by, when its place ends, and what it was told when.
        self.line: dict[int, tuple[int, float, int]] = {}
        self.ends: dict[int, float] = {}
        self.told: dict[int, tuple[int, float]] = {}

    @property
    def model(self) -> list[int]:
        return sorted(self.line, key=self.line.__getitem__)

    def forget(self, key: int) -> None:
        for part in (self.line, self.ends, self.told):
            del part[key]

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
        if key not in self.line:
            if len(self.line) == PLACES:
                assert position is None
                return
            self.entered += 1
            self.line[key] = (-priority, self.now - max(0.0, age or 0.0), self.entered)
        self.ends[key] = min(self.line[key][1] + MAX_WAIT, until or math.inf)
        assert position == self.model.index(key) + 1
        self.told[key] = (position, self.now)

    @rule(key=KEYS)
    def leave(self, key: int) -> None:
        assert self.room.leave(key, self.now) == (key in self.line)
        if key in self.line:
            self.forget(key)

    @precondition(lambda self: self.line)
    @rule()
    def promote(self) -> None:
        key = self.room.promote(self.now)
        assert key == self.model[0]
        # Put without the sorted list: nobody of its class came before it, nor any higher class.
        mine = self.line[key]
        assert all(mine[:2] <= other[:2] for other in self.line.values())
        self.forget(key)

    @rule()
    def expired(self) -> None:
        over = [key for key, end in self.ends.items() if end <= self.now]
        over.sort(key=lambda key: (self.ends[key], self.line[key][2]))
        assert self.room.expired(self.now) == over
        for key in over:
            self.forget(key)

    @rule()
    def status(self) -> None:
        expected = [
            (key, position, len(self.line), self.now - self.line[key][1])
            for position, key in enumerate(self.model, 1)
            if self.told[key][0] != position and self.now - self.told[key][1] >= 1.0
        ]
        assert [status[:4] for status in self.room.status(self.now)] == expected
        for key, position, *_ in expected:
            self.told[key] = (position, self.now)

    @invariant()
    def the_same_line(self) -> None:
        if not hasattr(self, "room"):
            return
        model = self.model
        assert len(self.room) == len(model) <= PLACES
        assert self.room.next() == (model[0] if model else None)
        for key in range(10):
            assert self.room.position(key) == (model.index(key) + 1 if key in model else None)
            assert (key in self.room) == (key in model)


TestWaitingRoomMachine = WaitingRoomMachine.TestCase
TestWaitingRoomMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
