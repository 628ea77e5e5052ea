from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.policies import with_a_line
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.admission.shedding import LoadShedder, Signals
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, WAITING
from tidegate.core.settings import Settings

OFF = {"enabled": False}


def build(**sections: Any) -> tuple[Admission, ConnectionTracker]:
    settings = Settings.from_mapping(with_a_line({"pacing": OFF, **sections}))
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    shedder = LoadShedder(settings, 0.0)
    return Admission(settings, tracker, shedder, lambda: 0.5, lambda policy: None), tracker


def attempt(number: int = 0, **who: Any) -> Attempt:
    return Attempt(f"192.0.2.{number}", "/ws", Identity(**who) if who else ANONYMOUS)


def leased(outcome: object) -> Lease:
    assert isinstance(outcome, Lease)
    return outcome


def test_the_head_is_refused_when_a_limit_of_its_own_was_reached() -> None:
    admission, tracker = build(limits={"connections": 2, "per_ip": 1})
    room = admission.waiting_room
    assert room is not None
    first = leased(admission.admit(attempt(1), 0.0))
    second = leased(admission.admit(attempt(2), 0.0))
    room.enter("a", attempt(3), 0.0)
    room.enter("b", attempt(4), 0.0)
    tracker.release(first)
    leased(tracker.acquire("192.0.2.3"))
    tracker.release(second)
    promotion = room.promote(0.0)
    assert promotion is not None
    assert promotion.key == "a"
    assert isinstance(promotion.outcome, Reject)
    assert promotion.outcome.reason is IP_LIMIT
    promotion = room.promote(0.0)
    assert promotion is not None
    assert promotion.key == "b"
    leased(promotion.outcome)
    assert room.promote(0.0) is None
    assert len(room) == 0


def test_a_reserve_is_not_for_those_that_wait() -> None:
    admission, tracker = build(limits={"connections": 2}, tiers={"gold": {"reserved": 0.5}})
    room = admission.waiting_room
    assert room is not None
    leased(admission.admit(attempt(1), 0.0))
    room.enter("a", attempt(2), 0.0)
    assert room.promote(0.0) is None
    gold = leased(admission.admit(attempt(3, user="ann", tier="gold"), 0.0))
    # Now one of the tier waits itself, and no other of it comes before.
    decision = admission.admit(attempt(4, user="bob", tier="gold"), 0.0)
    assert isinstance(decision, Reject)
    assert decision.reason is WAITING
    room.enter("bob", attempt(4, user="bob", tier="gold"), 0.0)
    tracker.release(gold)
    decision = admission.admit(attempt(5, user="eve", tier="gold"), 0.0)
    assert isinstance(decision, Reject)


@pytest.mark.parametrize(
    ("pressure", "priority", "moves"), [(0.5, 0, True), (0.96, 0, False), (0.96, 50, True)]
)
def test_none_is_promoted_under_pressure(pressure: float, priority: int, moves: bool) -> None:
    admission, _ = build(shedding={"enabled": True})
    room = admission.waiting_room
    assert room is not None
    admission._shedder.sample(Signals(connections=pressure), 0.0)
    room.enter("a", attempt(1, user="ann", priority=priority), 0.0)
    assert (room.promote(0.0) is not None) is moves


def test_those_that_waited_keep_the_pace_as_well() -> None:
    admission, tracker = build(
        limits={"connections": 8}, pacing={"enabled": True, "rate": 4.0, "burst": 2}
    )
    room = admission.waiting_room
    assert room is not None
    inside = [leased(tracker.acquire("198.51.100.1")) for _ in range(8)]
    for number in range(8):
        room.enter(number, attempt(number), 0.0)
    for lease in inside:
        tracker.release(lease)
    admitted: list[float] = []
    for step in range(30):
        now = 10.0 + step / 20
        while (promotion := room.promote(now)) is not None:
            leased(promotion.outcome)
            assert promotion.key == len(admitted)
            admitted.append(now)
    assert admitted == pytest.approx([10.0, 10.0, *(10.0 + 0.25 * n for n in range(1, 6))])
    assert room.wait_for_room(11.25) == pytest.approx(0.25)
    assert room.wait_for_room(11.5) == 0.0
    # New attempts count for the same pace.
    assert room.promote(11.5) is not None
    assert admission.precheck("192.0.2.99", 11.5) is not None


class WaitingRoomMachine(RuleBasedStateMachine):
    """Attempts that come, wait and leave, beside the plainest account of them."""

    LIMIT, SIZE, WAIT = 3, 4, 30.0

    def __init__(self) -> None:
        super().__init__()
        self.limit, self.size, self.max_wait = self.LIMIT, self.SIZE, self.WAIT
        self.admission, self.tracker = build(**self.sections())
        assert self.admission.waiting_room is not None
        self.room = self.admission.waiting_room
        self.now = 0.0
        self.number = 0
        self.inside: list[Lease] = []
        self.waiting: list[tuple[int, float, int]] = []

    def sections(self) -> dict[str, Any]:
        return {
            "limits": {"connections": self.limit},
            "waiting_room": {"size": self.size, "max_wait": self.max_wait},
        }

    @rule(limit=st.integers(1, 5), size=st.integers(1, 6), max_wait=st.sampled_from([5, 30, 60]))
    def apply(self, limit: int, size: int, max_wait: int) -> None:
        self.limit, self.size, self.max_wait = limit, size, float(max_wait)
        settings = Settings.from_mapping(with_a_line({"pacing": OFF, **self.sections()}))
        self.tracker.apply(settings.limits, settings.tiers)
        self.admission.apply(settings, self.now)

    @rule(priority=st.sampled_from([0, 0, 0, 5]))
    def come(self, priority: int) -> None:
        self.number += 1
        who = attempt(self.number % 250, user=f"u{self.number}", priority=priority)
        decision = self.admission.admit(who, self.now)
        if isinstance(decision, Lease):
            assert not self.waiting, "overtook"
            self.inside.append(decision)
            assert len(self.inside) <= self.limit
            return
        assert decision.reason is WAITING
        assert self.waiting or len(self.inside) >= self.limit
        key = (-priority, self.now, self.number)
        position = self.room.enter(key, who, self.now)
        if position is None:
            assert len(self.waiting) >= self.size
            return
        self.waiting = sorted([*self.waiting, key])
        assert position == self.waiting.index(key) + 1

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        lease = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        assert self.tracker.release(lease)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        key = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        assert self.room.leave(key, self.now)
        assert not self.room.leave(key, self.now)

    @rule()
    def promote(self) -> None:
        promotion = self.room.promote(self.now)
        if promotion is None:
            assert not self.waiting or len(self.inside) >= self.limit
            return
        assert promotion.key == self.waiting.pop(0)
        self.inside.append(leased(promotion.outcome))
        assert len(self.inside) <= self.limit

    @rule(seconds=st.sampled_from([0.5, 7.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = [key for key in self.waiting if key[1] + self.max_wait <= self.now]
        assert sorted(self.room.expired(self.now), key=str) == sorted(over, key=str)
        self.waiting = [key for key in self.waiting if key not in over]

    @invariant()
    def counts_agree(self) -> None:
        assert self.tracker.open == len(self.inside)
        assert len(self.room) == len(self.waiting)
        assert bool(self.room._addresses) == bool(self.waiting)


TestWaitingRoomMachine = WaitingRoomMachine.TestCase
TestWaitingRoomMachine.settings = profile(max_examples=40, stateful_step_count=30)
