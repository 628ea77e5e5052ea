"""Settings that change: what the gate hands on to its policies, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.policies import with_a_line
from tests.unit.core.admission.test_admission import OFF, attempt, build, reason
from tidegate.core.admission.admission import Admission, outcome
from tidegate.core.admission.attempt import Lease
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import DRAINING, RATE_LIMITED, SERVER_LIMIT, WAITING
from tidegate.core.settings import Settings


def apply(
    admission: Admission, tracker: ConnectionTracker, now: float = 0.0, **sections: Any
) -> None:
    """As a node does."""
    settings = Settings.from_mapping(with_a_line(sections))
    tracker.apply(settings.limits, settings.tiers)
    admission.apply(settings, now)


def admit(admission: Admission, now: float, *numbers: int) -> list[object]:
    """What becomes of some attempts, one from each address: their reason, None if admitted."""
    decisions: list[object] = []
    for number in numbers:
        asked = attempt(number)
        decisions.append(admission.precheck(asked.address, now) or admission.admit(asked, now))
    return [reason(decision) for decision in decisions]


def test_the_pace() -> None:
    admission, tracker, _ = build(pacing={"rate": 1.0, "burst": 2})
    assert admit(admission, 10.0, 1, 2, 3) == [None, None, RATE_LIMITED]
    apply(admission, tracker, 10.0, pacing={"rate": 1.0, "burst": 4})
    assert admit(admission, 11.0, 3) == [None]
    assert admit(admission, 12.1, 4, 5, 6, 7) == [None, None, None, RATE_LIMITED]
    assert admission.explain(attempt(9), 12.1)[3].numbers["burst"] == 4


def test_the_pace_that_is_only_tried_out() -> None:
    admission, tracker, tried = build(
        pacing={"rate": 0.1, "burst": 1}, limits={"dry_run": ["pacing"]}
    )
    assert admit(admission, 10.0, 1, 2) == [None, None]
    assert tried["pacing"] == 1
    apply(
        admission, tracker, 10.0, pacing={"rate": 100.0, "burst": 9}, limits={"dry_run": ["pacing"]}
    )
    assert admit(admission, 10.1, 3, 4, 5) == [None] * 3
    assert tried["pacing"] == 1


def test_the_slots_of_an_address_follow_its_limit() -> None:
    pacing = {"rate": 1.0, "burst": 1}
    admission, tracker, _ = build(pacing=pacing, limits={"per_ip": 2})
    assert admit(admission, 10.0, 1) == [None]
    apply(admission, tracker, 10.0, pacing=pacing, limits={"per_ip": 4})
    rejections = [admission.precheck("192.0.2.7", 10.0) for _ in range(5)]
    assert [rejection and rejection.retry_after for rejection in rejections] == [
        *(1.0, 2.0, 3.0, 4.0, 4.0),
    ]


def test_the_breaker() -> None:
    own = {"enabled": True, "rejections": 3}
    sections: dict[str, Any] = {"limits": {"connections": 0}, "waiting_room": OFF, "pacing": OFF}
    admission, tracker, _ = build(breaker=own, **sections)
    admit(admission, 0.0, 1, 2)
    apply(admission, tracker, breaker={**own, "rejections": 4}, **sections)
    admit(admission, 0.0, 3)
    assert not admission.out_of_rotation(0.0)
    admit(admission, 0.0, 4)
    assert admission.out_of_rotation(0.0)


def test_the_waiting_room() -> None:
    limits = {"connections": 1}
    admission, tracker, _ = build(limits=limits, pacing=OFF, waiting_room={"size": 1})
    room = admission.waiting_room
    assert room is not None
    assert admit(admission, 0.0, 1, 2) == [None, WAITING]
    assert room.enter("a", attempt(2), 0.0) == 1
    assert room.enter("b", attempt(3), 0.0) is None
    apply(admission, tracker, limits=limits, pacing=OFF, waiting_room={"size": 2, "max_wait": 5})
    assert room.enter("b", attempt(3), 0.0) == 2
    assert list(room.expired(5.0)) == ["a", "b"]


def test_the_window_over_which_a_draining_server_spreads_its_refusals() -> None:
    admission, tracker, _ = build(pacing={"rate": 10.0}, drain={"window": 1})
    apply(admission, tracker, pacing={"rate": 100.0}, drain={"window": 3})
    admission.draining = True
    delays = {
        rejection.retry_after
        for number in range(150)
        if (rejection := admission.precheck(f"192.0.2.{number}", 0.0))
    }
    assert DRAINING.retry_after is not None
    assert delays == {DRAINING.retry_after, DRAINING.retry_after + 1}


class TestCapacity:
    def test_that_is_more_admits_those_that_wait_first(self) -> None:
        admission, tracker, _ = build(limits={"connections": 1}, pacing=OFF)
        room = admission.waiting_room
        assert room is not None
        assert admit(admission, 0.0, 1) == [None]
        room.enter("a", attempt(2), 0.0)
        apply(admission, tracker, limits={"connections": 2}, pacing=OFF)
        assert admit(admission, 0.0, 3) == [WAITING]
        promotion = room.promote(0.0)
        assert promotion is not None
        assert isinstance(promotion.outcome, Lease)
        assert room.promote(0.0) is None

    def test_that_is_less_lets_attempts_wait_until_the_count_is_below_it(self) -> None:
        admission, tracker, _ = build(limits={"connections": 3}, pacing=OFF)
        room = admission.waiting_room
        assert room is not None
        leases = [admission.admit(attempt(number), 0.0) for number in range(3)]
        apply(admission, tracker, limits={"connections": 1}, pacing=OFF)
        assert admit(admission, 0.0, 4) == [WAITING]
        room.enter("a", attempt(4), 0.0)
        for lease in leases:
            assert room.promote(0.0) is None
            assert isinstance(lease, Lease)
            tracker.release(lease)
        assert room.promote(0.0) is not None

    def test_of_none_at_all_is_not_waited_for(self) -> None:
        admission, tracker, _ = build(limits={"connections": 1}, pacing=OFF)
        room = admission.waiting_room
        assert room is not None
        admit(admission, 0.0, 1)
        room.enter("a", attempt(2), 0.0)
        apply(admission, tracker, limits={"connections": 0}, pacing=OFF)
        assert admit(admission, 0.0, 3) == [SERVER_LIMIT]
        assert outcome(admission.explain(attempt(3), 0.0)) == "reject"
        # The one that waits stays until its time is over.
        assert len(room) == 1

    def test_that_comes_to_a_server_without_any_is_waited_for(self) -> None:
        admission, tracker, _ = build(limits={"connections": 0}, pacing=OFF)
        assert admit(admission, 0.0, 1) == [SERVER_LIMIT]
        apply(admission, tracker, limits={"connections": 1}, pacing=OFF)
        assert admit(admission, 0.0, 1, 2) == [None, WAITING]


@pytest.mark.parametrize("on", [True, False])
def test_what_is_on_or_off_stays_so(on: bool) -> None:
    def sections(enabled: bool) -> dict[str, Any]:
        own = {"enabled": enabled}
        return {
            "limits": {"connections": 1},
            "pacing": {**own, "rate": 0.1, "burst": 1},
            "waiting_room": own,
            "breaker": {**own, "rejections": 1},
        }

    admission, tracker, _ = build(**sections(on))
    apply(admission, tracker, **sections(not on))
    assert (admission.waiting_room is not None) is on
    assert admit(admission, 10.0, 1, 2) == [None, RATE_LIMITED if on else SERVER_LIMIT]
    assert admission.out_of_rotation(10.0) is on
