"""One client has a whole IPv6 network of addresses: what it may take with all of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.policies import with_a_line
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Lease, Reject
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, RATE_LIMITED, WAITING
from tidegate.core.settings import Settings

ADDRESSES = 40_000
OTHERS = 50


def build(**sections: Any) -> Admission:
    settings = Settings.from_mapping(with_a_line(sections))
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    shedder = LoadShedder(settings, 0.0)
    return Admission(settings, tracker, shedder, lambda: 0.0, lambda policy: None)


def host(number: int, network: int = 1) -> str:
    return f"2001:db8:0:{network:x}::{number:x}"


def enter(admission: Admission, address: str, now: float) -> Lease | Reject:
    reject = admission.precheck(address, now)
    return admission.admit(Attempt(address, "/ws"), now) if reject is None else reject


def longest_told(admission: Admission, attackers: int) -> float:
    """The longest delay that others are told who come in a second with attempts of one network."""
    coming = [(number / max(attackers, 1), host(number)) for number in range(attackers)]
    coming += [(number / OTHERS, f"198.51.100.{number}") for number in range(OTHERS)]
    longest = 0.0
    for now, address in sorted(coming):
        outcome = enter(admission, address, now)
        if isinstance(outcome, Reject) and ":" not in address:
            assert outcome.reason is RATE_LIMITED
            assert outcome.retry_after is not None
            longest = max(longest, outcome.retry_after)
    return longest


@pytest.mark.parametrize("burst", [1, 1000], ids=["at the pace", "after a quiet time"])
@pytest.mark.parametrize("per_ip", [2, 100])
def test_one_network_of_forty_thousand_addresses_delays_others_by_a_second_at_most(
    per_ip: int, burst: int
) -> None:
    sections = {"limits": {"per_ip": per_ip}, "pacing": {"rate": 2000.0, "burst": burst}}
    alone = longest_told(build(**sections), 0)
    among = longest_told(build(**sections), ADDRESSES)
    assert among <= alone + 1.0


def test_addresses_by_themselves_take_the_slots_of_others() -> None:
    """What `limits.ipv6_prefix = 128` allows: the test above would fail with it."""
    limits = {"per_ip": 2, "ipv6_prefix": 128}
    assert longest_told(build(limits=limits, pacing={"rate": 2000.0, "burst": 1}), ADDRESSES) > 10


def test_a_hundred_addresses_of_one_network_get_what_one_address_may_have() -> None:
    admission = build(limits={"per_ip": 2})
    outcomes = [enter(admission, host(number), 0.0) for number in range(100)]
    assert sum(isinstance(outcome, Lease) for outcome in outcomes) == 2
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Reject)} == {IP_LIMIT}
    assert isinstance(enter(admission, host(1, network=2), 0.0), Lease)


def test_positions_of_one_network_count_for_its_limit() -> None:
    limits = {"connections": 1, "per_ip": 2}
    admission = build(limits=limits, waiting_room={"enabled": True}, pacing={"enabled": False})
    room = admission.waiting_room
    assert room is not None
    assert isinstance(enter(admission, "192.0.2.1", 0.0), Lease)
    for number in range(2):
        outcome = enter(admission, host(number), 0.0)
        assert isinstance(outcome, Reject)
        assert outcome.reason is WAITING
        room.enter(number, Attempt(host(number), "/ws"), 0.0)
    outcome = enter(admission, host(2), 0.0)
    assert isinstance(outcome, Reject)
    assert outcome.reason is IP_LIMIT
    assert room.leave(0, 0.0)
    outcome = enter(admission, host(3), 0.0)
    assert isinstance(outcome, Reject)
    assert outcome.reason is WAITING


def test_explain_counts_slots_of_a_network() -> None:
    admission = build(limits={"per_ip": 5}, pacing={"rate": 1.0, "burst": 1})
    assert isinstance(enter(admission, "192.0.2.1", 0.0), Lease)
    for number in range(3):
        assert isinstance(enter(admission, host(number), 0.0), Reject)
    steps = {step.name: step for step in admission.explain(Attempt(host(9), "/ws", ANONYMOUS), 0.0)}
    assert steps["pacing"].numbers["slots"] == 3
    assert not steps["pacing"].passed
