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
from tidegate.core.stats import Stats

OFF = {"enabled": False}


def build(**sections: Any) -> tuple[Admission, ConnectionTracker]:
    settings = Settings.from_mapping(with_a_line({"pacing": OFF, **sections}))
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    shedder = LoadShedder(settings, 0.0)
    return Admission(settings, tracker, Stats(), shedder, lambda: 0.5), tracker


def attempt(number: int = 0, **who: Any) -> Attempt:
    return Attempt(f"192.0.2.{number}", "/ws", Identity(**who) if who else ANONYMOUS)


def leased(verdict: object) -> Lease:
    assert isinstance(verdict, Lease)
    return verdict


def test_the_head_is_refused_when_a_limit_of_its_own_is_reached_meanwhile() -> None:
    admission, tracker = build(limits={"connections": 2, "per_ip": 1})
    line = admission.waiting_room
    assert line is not None
    first = leased(admission.admit(attempt(1), 0.0))
    second = leased(admission.admit(attempt(2), 0.0))
    line.enter("a", attempt(3), 0.0)
    line.enter("b", attempt(4), 0.0)
    tracker.release(first)
    leased(tracker.acquire("192.0.2.3"))
    tracker.release(second)
    turn = line.promote(0.0)
    assert turn is not None
    assert turn.key == "a"
    assert isinstance(turn.verdict, Reject)
    assert turn.verdict.reason is IP_LIMIT
    turn = line.promote(0.0)
    assert turn is not None
    assert turn.key == "b"
    leased(turn.verdict)
    assert line.promote(0.0) is None
    assert len(line) == 0


def test_a_place_kept_for_a_tier_is_not_for_the_line() -> None:
    admission, tracker = build(limits={"connections": 2}, tiers={"gold": {"reserved": 0.5}})
    line = admission.waiting_room
    assert line is not None
    leased(admission.admit(attempt(1), 0.0))
    line.enter("a", attempt(2), 0.0)
    assert line.promote(0.0) is None
    gold = leased(admission.admit(attempt(3, user="ann", tier="gold"), 0.0))
    # Now one of the tier waits itself, and nobody else of it comes before.
    verdict = admission.admit(attempt(4, user="bob", tier="gold"), 0.0)
    assert isinstance(verdict, Reject)
    assert verdict.reason is WAITING
    line.enter("bob", attempt(4, user="bob", tier="gold"), 0.0)
    tracker.release(gold)
    verdict = admission.admit(attempt(5, user="eve", tier="gold"), 0.0)
    assert isinstance(verdict, Reject)


@pytest.mark.parametrize(
    ("pressure", "priority", "moves"), [(0.5, 0, True), (0.96, 0, False), (0.96, 50, True)]
)
def test_the_line_stands_still_under_pressure(pressure: float, priority: int, moves: bool) -> None:
    admission, _ = build(shedding={"enabled": True})
    line = admission.waiting_room
    assert line is not None
    admission._shedder.sample(Signals(connections=pressure), 0.0)
    line.enter("a", attempt(1, user="ann", priority=priority), 0.0)
    assert (line.promote(0.0) is not None) is moves


def test_those_who_waited_keep_the_pace_as_well() -> None:
    admission, tracker = build(
        limits={"connections": 8}, pacing={"enabled": True, "rate": 4.0, "burst": 2}
    )
    line = admission.waiting_room
    assert line is not None
    inside = [leased(tracker.acquire("198.51.100.1")) for _ in range(8)]
    for number in range(8):
        line.enter(number, attempt(number), 0.0)
    for lease in inside:
        tracker.release(lease)
    let_in: list[float] = []
    for step in range(30):
        now = 10.0 + step / 20
        while (turn := line.promote(now)) is not None:
            leased(turn.verdict)
            assert turn.key == len(let_in)
            let_in.append(now)
    assert let_in == pytest.approx([10.0, 10.0, *(10.0 + 0.25 * n for n in range(1, 6))])
    assert line.wait_for_room(11.25) == pytest.approx(0.25)
    assert line.wait_for_room(11.5) == 0.0
    # Newcomers count for the same pace.
    assert line.promote(11.5) is not None
    assert admission.precheck("192.0.2.99", 11.5) is not None


class Doors(RuleBasedStateMachine):
    """Comers, leavers and waiters against the plainest account of who is where."""

    LIMIT, PLACES, WAIT = 3, 4, 30.0

    def __init__(self) -> None:
        super().__init__()
        self.admission, self.tracker = build(
            limits={"connections": self.LIMIT},
            waiting_room={"size": self.PLACES, "max_wait": self.WAIT},
        )
        assert self.admission.waiting_room is not None
        self.line = self.admission.waiting_room
        self.now = 0.0
        self.number = 0
        self.inside: list[Lease] = []
        self.waiting: list[tuple[int, float, int]] = []

    @rule(priority=st.sampled_from([0, 0, 0, 5]))
    def come(self, priority: int) -> None:
        self.number += 1
        who = attempt(self.number % 250, user=f"u{self.number}", priority=priority)
        verdict = self.admission.admit(who, self.now)
        if isinstance(verdict, Lease):
            assert not self.waiting, "overtook"
            self.inside.append(verdict)
            return
        assert verdict.reason is WAITING
        assert self.waiting or len(self.inside) == self.LIMIT
        key = (-priority, self.now, self.number)
        position = self.line.enter(key, who, self.now)
        if position is None:
            assert len(self.waiting) == self.PLACES
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
        assert self.line.leave(key, self.now)
        assert not self.line.leave(key, self.now)

    @rule()
    def promote(self) -> None:
        turn = self.line.promote(self.now)
        if turn is None:
            assert not self.waiting or len(self.inside) == self.LIMIT
            return
        assert turn.key == self.waiting.pop(0)
        self.inside.append(leased(turn.verdict))

    @rule(seconds=st.sampled_from([0.5, 7.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = [key for key in self.waiting if key[1] + self.WAIT <= self.now]
        assert sorted(self.line.expired(self.now)) == sorted(over)
        self.waiting = [key for key in self.waiting if key not in over]

    @invariant()
    def counts_agree(self) -> None:
        assert self.tracker.open == len(self.inside) <= self.LIMIT
        assert len(self.line) == len(self.waiting) <= self.PLACES
        assert bool(self.line._addresses) == bool(self.waiting)


TestDoors = Doors.TestCase
TestDoors.settings = profile(max_examples=40, stateful_step_count=30, deadline=None)
