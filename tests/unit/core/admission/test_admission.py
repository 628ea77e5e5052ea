from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.policies import with_a_line
from tidegate.core.admission.admission import Admission, outcome
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.admission.shedding import LoadShedder, Signals
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import (
    BREAKER,
    DRAINING,
    IP_LIMIT,
    RATE_LIMITED,
    SERVER_LIMIT,
    SHEDDING,
    UNAUTHORIZED,
    USER_LIMIT,
    WAITING,
    Refusal,
)
from tidegate.core.settings import POLICIES, Settings

ANN = Identity("ann")
SECRET = "a" * 32
OFF = {"enabled": False}
CLOSED = {"anonymous": False, "secret": SECRET}


def build(
    chance: float = 0.0, **sections: dict[str, Any]
) -> tuple[Admission, ConnectionTracker, Counter[str]]:
    settings = Settings.from_mapping(with_a_line(sections))
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    tried: Counter[str] = Counter()
    shedder = LoadShedder(settings, 0.0)

    def note(policy: str) -> None:
        tried[policy] += 1

    return Admission(settings, tracker, shedder, lambda: chance, note), tracker, tried


def make(
    limits: dict[str, Any] | None = None, auth: dict[str, Any] | None = None
) -> tuple[Admission, ConnectionTracker]:
    admission, tracker, _ = build(
        limits=limits or {}, auth=auth or {}, waiting_room=OFF, pacing=OFF
    )
    return admission, tracker


@pytest.mark.parametrize(
    ("limits", "auth", "draining", "identity", "in_band", "reason"),
    [
        ({}, {}, False, ANONYMOUS, False, None),
        ({}, {}, False, ANN, False, None),
        ({}, {}, True, ANN, True, DRAINING),
        ({}, CLOSED, False, ANN, False, None),
        ({}, CLOSED, False, ANONYMOUS, False, UNAUTHORIZED),
        # Only a client that is told things in-band has a first message to say who it is.
        ({}, CLOSED, False, ANONYMOUS, True, None),
        ({}, {**CLOSED, "first_message": False}, False, ANONYMOUS, True, UNAUTHORIZED),
        ({"connections": 0}, {}, False, ANN, False, SERVER_LIMIT),
        ({"per_ip": 0}, {}, False, ANN, False, IP_LIMIT),
        ({"per_user": 0}, {}, False, ANN, False, USER_LIMIT),
        # The order of the steps.
        ({"connections": 0}, CLOSED, True, ANONYMOUS, False, DRAINING),
        ({"connections": 0}, CLOSED, False, ANONYMOUS, False, UNAUTHORIZED),
    ],
)
def test_admit(
    limits: dict[str, Any],
    auth: dict[str, Any],
    draining: bool,
    identity: Identity,
    in_band: bool,
    reason: Refusal | None,
) -> None:
    admission, tracker = make(limits, auth)
    admission.draining = draining
    decision = admission.admit(Attempt("192.0.2.1", "/ws", identity, in_band), now=0.0)
    if reason is None:
        assert isinstance(decision, Lease)
        assert (decision.address, decision.user) == ("192.0.2.1", identity.user)
        assert tracker.open == 1
    else:
        assert isinstance(decision, Reject)
        assert (decision.reason, decision.retry_after) == (reason, reason.retry_after)
        assert tracker.open == 0


def test_precheck_takes_nothing() -> None:
    admission, tracker = make({"per_ip": 1})
    assert admission.precheck("192.0.2.1", now=0.0) is None
    assert tracker.open == 0
    admission.admit(Attempt("192.0.2.1", "/ws"), now=0.0)
    rejection = admission.precheck("192.0.2.1", now=0.0)
    assert rejection == Reject(IP_LIMIT, IP_LIMIT.retry_after, 1)
    assert admission.precheck("192.0.2.2", now=0.0) is None


def test_draining_ends_both_steps_and_can_be_undone() -> None:
    admission, _ = make({"per_ip": 0})
    admission.draining = True
    assert admission.precheck("192.0.2.1", now=0.0) == Reject(DRAINING, DRAINING.retry_after)
    admission.draining = False
    rejection = admission.precheck("192.0.2.1", now=0.0)
    assert rejection is not None
    assert rejection.reason is IP_LIMIT


def reason(decision: object) -> Refusal | None:
    return decision.reason if isinstance(decision, Reject) else None


def attempt(number: int = 0, **who: Any) -> Attempt:
    return Attempt(f"192.0.2.{number}", "/ws", Identity(**who) if who else ANONYMOUS)


# Pacing.


def test_an_attempt_that_is_too_early_is_told_its_own_slot() -> None:
    admission, tracker, _ = build(pacing={"rate": 2.0, "burst": 1})
    assert admission.precheck("192.0.2.1", 10.0) is None
    assert isinstance(admission.admit(attempt(1), 10.0), Lease)
    told = [admission.precheck(f"192.0.2.{n}", 9.96) for n in range(2, 6)]
    # 0.54, 1.04, 1.54 and 2.04 s, rounded up to tenths; none is told less than a second.
    assert told == [Reject(RATE_LIMITED, seconds) for seconds in (1.0, 1.1, 1.6, 2.1)]
    assert admission.precheck("192.0.2.2", 11.0) is None
    assert tracker.open == 1


def test_an_attempt_that_is_refused_for_another_reason_does_not_use_the_rate_up() -> None:
    admission, _, _ = build(
        limits={"connections": 2}, waiting_room=OFF, pacing={"rate": 1.0, "burst": 2}
    )
    for number in range(2):
        assert admission.precheck(f"192.0.2.{number}", 0.0) is None
        assert isinstance(admission.admit(attempt(number), 0.0), Lease)
    assert reason(admission.precheck("192.0.2.9", 0.0)) is RATE_LIMITED
    for number in range(10, 30):
        assert admission.precheck(f"192.0.2.{number}", 10.0) is None
        assert reason(admission.admit(attempt(number), 10.0)) is SERVER_LIMIT


def test_an_address_at_its_limit_does_not_use_the_rate_up() -> None:
    admission, _, _ = build(limits={"per_ip": 1}, pacing={"rate": 1.0, "burst": 2})
    admission.precheck("192.0.2.1", 0.0)
    assert isinstance(admission.admit(attempt(1), 0.0), Lease)
    for _ in range(100):
        assert reason(admission.precheck("192.0.2.1", 0.0)) is IP_LIMIT
    assert admission.precheck("192.0.2.2", 0.0) is None


def test_a_ticket_has_been_paced_already_until_it_turns_out_to_be_worth_nothing() -> None:
    admission, _, _ = build(pacing={"rate": 1.0, "burst": 1})
    assert admission.precheck("192.0.2.1", 0.0) is None
    assert isinstance(admission.admit(attempt(1), 0.0), Lease)
    assert admission.precheck("192.0.2.2", 0.0, ticket=True) is None
    assert reason(admission.arrive("192.0.2.2", 0.0)) is RATE_LIMITED


def test_accepting_waits_only_while_there_is_pacing() -> None:
    admission, _, _ = build(pacing={"rate": 1.0, "burst": 1})
    for now in (0.0, 1.0):
        assert admission.precheck("192.0.2.1", now) is None
        assert isinstance(admission.admit(attempt(1), now), Lease)
    assert admission.wait_to_decide(2.0) == 0.0
    off, _, _ = build(pacing=OFF)
    for _ in range(1000):
        assert off.precheck("192.0.2.1", 0.0) is None
    assert off.wait_to_decide(0.0) == 0.0


# The breaker.


@pytest.mark.parametrize("dry", [(), ("breaker",)])
def test_the_breaker_opens_and_comes_back(dry: tuple[str, ...]) -> None:
    admission, tracker, tried = build(
        limits={"connections": 1, "dry_run": dry},
        pacing=OFF,
        waiting_room=OFF,
        breaker={"enabled": True, "rejections": 3, "open_for": 10.0, "probes": 1},
    )
    lease = admission.admit(attempt(), 0.0)
    assert isinstance(lease, Lease)
    for _ in range(3):
        assert reason(admission.admit(attempt(), 0.0)) is SERVER_LIMIT
    assert admission.out_of_rotation(4.0) is not bool(dry)
    tried["breaker"] = 0
    found = admission.precheck("192.0.2.1", 4.0)
    assert found == (None if dry else Reject(BREAKER, 6))
    assert tried["breaker"] == len(dry)
    tracker.release(lease)
    assert admission.precheck("192.0.2.1", 10.0) is None
    assert isinstance(admission.admit(attempt(), 10.0), Lease)
    assert admission.breaker.state(10.0) == "closed"


@pytest.mark.parametrize("limits", [{"per_ip": 0}, {"per_user": 0}])
def test_limits_of_a_client_do_not_open_the_breaker(limits: dict[str, int]) -> None:
    admission, _, _ = build(limits=limits, breaker={"enabled": True, "rejections": 1})
    admission.admit(attempt(user="ann"), 0.0)
    admission.precheck("192.0.2.0", 0.0)
    assert not admission.out_of_rotation(0.0)


# The waiting room.


def test_a_full_server_lets_attempts_wait_that_nothing_else_refuses() -> None:
    admission, tracker, _ = build(limits={"connections": 1, "per_user": 1})
    lease = admission.admit(attempt(1, user="ann"), 0.0)
    assert isinstance(lease, Lease)
    assert reason(admission.admit(attempt(2), 0.0)) is WAITING
    assert reason(admission.admit(attempt(2, user="ann"), 0.0)) is USER_LIMIT
    # A position counts like a connection of the user's own.
    assert admission.waiting_room is not None
    admission.waiting_room.enter("bob", attempt(3, user="bob"), 0.0)
    assert reason(admission.admit(attempt(4, user="bob"), 0.0)) is USER_LIMIT
    # Capacity that becomes free is for those that wait.
    tracker.release(lease)
    assert reason(admission.admit(attempt(5), 0.0)) is WAITING
    promotion = admission.waiting_room.promote(0.0)
    assert promotion is not None
    assert promotion.key == "bob"
    assert isinstance(promotion.outcome, Lease)


def test_none_waits_in_front_of_a_server_without_capacity() -> None:
    admission, _, _ = build(limits={"connections": 0}, breaker={"enabled": True, "rejections": 1})
    assert outcome(admission.explain(attempt(), 0.0)) == "reject"
    assert reason(admission.admit(attempt(), 0.0)) is SERVER_LIMIT
    assert admission.out_of_rotation(0.0)


@pytest.mark.parametrize(
    ("room", "priority", "chance", "expected"),
    [
        (False, 0, 0.4, None),
        (False, 0, 0.6, SHEDDING),
        (True, 0, 0.6, WAITING),
        (True, 50, 0.6, None),
    ],
)
def test_pressure(room: bool, priority: int, chance: float, expected: Refusal | None) -> None:
    admission, _, _ = build(
        chance, shedding={"enabled": True}, waiting_room={"enabled": room}, limits={"per_ip": 9}
    )
    admission._shedder.sample(Signals(connections=0.9), 1.0)
    assert reason(admission.admit(attempt(user="ann", priority=priority), 1.0)) is expected


# Dry run and explain.

DRY: dict[str, dict[str, Any]] = {
    "connections": {"limits": {"connections": 0}},
    "per_ip": {"limits": {"per_ip": 0}},
    "per_user": {"limits": {"per_user": 0}},
    "tiers": {"tiers": {"gold": {"connections": 0}}},
    "pacing": {"pacing": {"rate": 0.1, "burst": 1}},
    "shedding": {"shedding": {"enabled": True, "critical_acceptance": 0.0}},
}
GOLD = {"user": "ann", "tier": "gold"}


def pass_all(admission: Admission, now: float) -> Refusal | None:
    asked = attempt(1, **GOLD)
    rejection = admission.precheck(asked.address, now)
    return reason(rejection if rejection is not None else admission.admit(asked, now))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("policy", DRY)
def test_what_is_only_tried_out_is_counted_and_not_done(policy: str, everything: bool) -> None:
    sections: dict[str, Any] = {name: dict(values) for name, values in DRY[policy].items()}
    for dry in (False, True):
        if dry:
            sections.setdefault("limits", {})["dry_run"] = ("all" if everything else policy,)
        sections["waiting_room"] = OFF
        admission, tracker, tried = build(**sections)
        admission._shedder.sample(Signals(connections=0.9), 0.0)
        pass_all(admission, 0.0)
        asked = [step for step in admission.explain(attempt(1, **GOLD), 0.0) if not step.passed]
        assert [step.name for step in asked] == ([] if dry else [policy])
        found = pass_all(admission, 0.0)
        assert (found is None) is dry, found
        assert set(tried) == ({policy} if dry else set())
        assert tracker.open == (2 if dry else policy == "pacing")


def test_explain_walks_every_step_in_order_and_takes_nothing() -> None:
    admission, tracker, _ = build(
        limits={"connections": 1}, pacing={"rate": 1.0, "burst": 1}, tiers={"gold": {}}
    )
    for _ in range(3):
        steps = admission.explain(attempt(1, **GOLD), 0.0)
        assert [step.name for step in steps] == [
            *("draining", "breaker", "per_ip", "pacing", "authentication"),
            *("waiting_room", "shedding", "connections", "per_user", "tiers"),
        ]
        assert all(step.passed for step in steps)
        assert outcome(steps) == "admit"
    assert tracker.open == 0
    assert {step.name for step in steps} | {"messages"} >= set(POLICIES)


@pytest.mark.parametrize(
    ("sections", "expected", "by"),
    [
        ({}, "wait", "connections"),
        ({"waiting_room": OFF}, "reject", "connections"),
        ({"limits": {"connections": 1, "per_ip": 1}}, "reject", "per_ip"),
        ({"pacing": {"rate": 1.0, "burst": 1}}, "reject", "pacing"),
    ],
)
def test_outcome(sections: dict[str, Any], expected: str, by: str) -> None:
    admission, _, _ = build(**({"limits": {"connections": 1}} | sections))
    assert pass_all(admission, 0.0) is None
    steps = admission.explain(attempt(1), 0.0)
    assert outcome(steps) == expected
    assert next(step.name for step in steps if not step.passed) == by


def test_explain_says_who_would_wait_and_who_is_refused() -> None:
    admission, _, _ = build(
        limits={"connections": 1},
        pacing=OFF,
        waiting_room={"size": 1},
        auth={"anonymous": False, "first_message": False, "secret": SECRET},
    )
    assert pass_all(admission, 0.0) is None
    assert admission.waiting_room is not None
    assert outcome(admission.explain(attempt(1, user="bob"), 0.0)) == "wait"
    admission.waiting_room.enter("one", attempt(2), 0.0)
    assert outcome(admission.explain(attempt(1, user="bob"), 0.0)) == "reject"
    assert outcome(admission.explain(attempt(1), 0.0)) == "reject"
