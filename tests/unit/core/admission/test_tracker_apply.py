"""Limits that change while connections are open."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.admission.test_tracker import ANN, BOB, PRO, counts, held
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, SERVER_LIMIT, TIER_LIMIT, USER_LIMIT, Refusal
from tidegate.core.settings import LimitsSettings, Tier

WIDE: dict[str, Any] = {"connections": 10, "per_ip": 10, "per_user": 10}


def tracker_of(
    identity: Identity, count: int, **limits: Any
) -> tuple[ConnectionTracker, list[Lease]]:
    tracker = ConnectionTracker(LimitsSettings(**{**WIDE, **limits}), {"pro": Tier()})
    return tracker, [held(tracker.acquire("192.0.2.1", identity)) for _ in range(count)]


def apply(tracker: ConnectionTracker, pro: Tier | None = None, **limits: Any) -> None:
    tracker.apply(LimitsSettings(**{**WIDE, **limits}), {"pro": pro or Tier()})


@pytest.mark.parametrize(
    ("identity", "limits", "pro", "reason"),
    [
        (ANONYMOUS, {"connections": 3}, Tier(), SERVER_LIMIT),
        (ANONYMOUS, {"per_ip": 3}, Tier(), IP_LIMIT),
        (ANN, {"per_user": 3}, Tier(), USER_LIMIT),
        (PRO, {}, Tier(per_user=3), USER_LIMIT),
        (PRO, {}, Tier(connections=3), TIER_LIMIT),
        # The reserve of a tier leaves the others less.
        (ANONYMOUS, {}, Tier(reserved=0.7), SERVER_LIMIT),
    ],
)
def test_a_lower_limit_closes_none_and_refuses_until_the_count_is_below_it(
    identity: Identity, limits: dict[str, int], pro: Tier, reason: Refusal
) -> None:
    tracker, leases = tracker_of(identity, 5)
    apply(tracker, pro, **limits)
    assert tracker.open == 5
    assert all(lease.held for lease in leases)
    while len(leases) >= 3:
        refused = tracker.acquire("192.0.2.1", identity)
        assert isinstance(refused, Reject)
        assert refused.reason is reason
        assert tracker.release(leases.pop())
    held(tracker.acquire("192.0.2.1", identity))
    assert isinstance(tracker.acquire("192.0.2.1", identity), Reject)


@pytest.mark.parametrize(
    ("identity", "limits", "wider", "pro"),
    [
        (ANONYMOUS, {"connections": 3}, {"connections": 4}, Tier()),
        (ANONYMOUS, {"per_ip": 3}, {"per_ip": 4}, Tier()),
        (ANN, {"per_user": 3}, {"per_user": 4}, Tier()),
        (PRO, {"connections": 3}, {"connections": 3, "per_user": 9}, Tier(connections=9)),
    ],
)
def test_a_higher_limit_admits_at_once_and_not_more_than_it_allows(
    identity: Identity, limits: dict[str, int], wider: dict[str, int], pro: Tier
) -> None:
    tracker, _ = tracker_of(identity, 3, **limits)
    assert isinstance(tracker.acquire("192.0.2.1", identity), Reject)
    apply(tracker, pro, **wider)
    more = 1 if wider.get("connections") != 3 else 0
    outcomes = [tracker.acquire("192.0.2.1", identity) for _ in range(2)]
    assert sum(isinstance(outcome, Lease) for outcome in outcomes) == more


def test_the_limit_that_was_reached_is_the_new_one() -> None:
    tracker, _ = tracker_of(ANN, 4)
    apply(tracker, per_user=2)
    refused = tracker.acquire("192.0.2.1", ANN)
    assert refused == Reject(USER_LIMIT, USER_LIMIT.retry_after, 2)
    assert tracker.limit == 10
    assert tracker.explain("192.0.2.1", ANN)[2].detail == "4 of 2 connections of this user"


def test_a_reserve_that_grows_takes_from_the_pool_and_one_that_shrinks_gives_back() -> None:
    tracker, _ = tracker_of(ANONYMOUS, 6)
    pro = held(tracker.acquire("192.0.2.1", PRO))
    for share, pool, used in ((0.4, 6, 6), (0.0, 10, 7), (0.1, 9, 6), (1.0, 0, 6)):
        apply(tracker, Tier(reserved=share))
        numbers = tracker.explain("192.0.2.1", ANONYMOUS)[1].numbers
        assert (numbers["pool"], numbers["pool_used"]) == (pool, used)
    tracker.release(pro)
    assert tracker.explain("192.0.2.1", ANONYMOUS)[1].numbers["pool_used"] == 6


def test_a_free_reserve_does_not_admit_above_the_limit() -> None:
    tracker, leases = tracker_of(ANONYMOUS, 6)
    apply(tracker, Tier(reserved=0.5), connections=4)
    assert not tracker.has_reserve("pro")
    refused = tracker.acquire("192.0.2.1", PRO)
    assert isinstance(refused, Reject)
    assert refused.reason is SERVER_LIMIT
    assert not tracker.explain("192.0.2.1", PRO)[1].passed
    for _ in range(3):
        tracker.release(leases.pop())
    assert tracker.has_reserve("pro")
    held(tracker.acquire("192.0.2.1", PRO))
    assert isinstance(tracker.acquire("192.0.2.1", PRO), Reject)
    assert tracker.open == tracker.limit == 4


class TestIdentify:
    """A connection that is open already keeps its lease, also above the limits."""

    @pytest.mark.parametrize("limits", [{"connections": 2}, {"per_ip": 2}, {"per_user": 9}])
    def test_of_a_new_user_is_fine_above_the_limit_of_the_server(
        self, limits: dict[str, Any]
    ) -> None:
        tracker, leases = tracker_of(ANONYMOUS, 4)
        apply(tracker, **limits)
        assert tracker.identify(leases[0], ANN) is None
        assert counts(tracker) == (4, 1, 1)

    def test_of_the_same_user_is_fine_above_its_limit(self) -> None:
        tracker, leases = tracker_of(PRO, 4)
        apply(tracker, Tier(per_user=1, connections=1), connections=1)
        again = Identity("ann", "pro", priority=7)
        assert tracker.identify(leases[0], again) is None
        assert leases[0].priority == 7
        assert tracker.tier_count("pro") == 4

    def test_of_another_user_of_the_tier_is_fine_above_the_limit_of_the_tier(self) -> None:
        tracker, leases = tracker_of(PRO, 4)
        apply(tracker, Tier(connections=1))
        assert tracker.identify(leases[0], Identity("bob", "pro")) is None
        assert sorted(tracker.users()) == ["ann", "bob"]

    def test_into_a_count_above_its_limit_is_refused(self) -> None:
        tracker, leases = tracker_of(ANN, 3)
        leases.append(held(tracker.acquire("192.0.2.1", BOB)))
        apply(tracker, per_user=2)
        refused = tracker.identify(leases[3], ANN)
        assert refused is not None
        assert refused.reason is USER_LIMIT
        assert tracker.user_count("bob") == 1


def test_tiers_that_come_and_go_are_left_for_a_restart() -> None:
    tracker, _ = tracker_of(PRO, 2)
    tracker.apply(LimitsSettings(**WIDE), {"new": Tier(reserved=0.5)})
    assert tracker.tier_count("pro") == 2
    assert tracker.tier_count("new") == 0
    numbers = tracker.explain("192.0.2.1", ANONYMOUS)[1].numbers
    assert (numbers["pool"], numbers["pool_used"]) == (10, 2)


def test_limits_that_are_tried_out_still_admit_every_attempt() -> None:
    limits = LimitsSettings(**WIDE, dry_run=("all",))
    tracker = ConnectionTracker(limits, {"pro": Tier()})
    tracker.apply(
        LimitsSettings(connections=1, per_ip=1, per_user=1, dry_run=("all",)),
        {"pro": Tier(connections=1, reserved=1.0)},
    )
    for _ in range(5):
        held(tracker.acquire("192.0.2.1", PRO))
    per_ip, server, per_user, tier = tracker.explain("192.0.2.1", PRO)
    assert [step.passed for step in (per_ip, server, per_user, tier)] == [False] * 4


def test_a_reserve_is_free_also_above_a_limit_that_is_only_tried_out() -> None:
    dry: dict[str, Any] = {
        "connections": 1,
        "per_ip": 9,
        "per_user": 9,
        "dry_run": ("connections",),
    }
    tracker = ConnectionTracker(LimitsSettings(**dry), {"pro": Tier(reserved=1.0)})
    for _ in range(3):
        held(tracker.acquire("192.0.2.1"))
    assert tracker.has_reserve("pro")
    held(tracker.acquire("192.0.2.1", PRO))
    assert not tracker.has_reserve("pro")
