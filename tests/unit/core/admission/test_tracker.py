from __future__ import annotations

import pytest

from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, SERVER_LIMIT, TIER_LIMIT, USER_LIMIT, Refusal
from tidegate.core.settings import LimitsSettings, Tier


def make(
    connections: int = 100, per_ip: int = 100, per_user: int = 100, **tiers: Tier
) -> ConnectionTracker:
    limits = LimitsSettings(connections=connections, per_ip=per_ip, per_user=per_user)
    return ConnectionTracker(limits, tiers)


def held(outcome: Lease | Reject) -> Lease:
    assert isinstance(outcome, Lease)
    return outcome


def counts(tracker: ConnectionTracker) -> tuple[int, int, int]:
    return tracker.open, tracker.unique_ips, tracker.unique_users


ANN = Identity("ann")
BOB = Identity("bob")
PRO = Identity("ann", "pro")


@pytest.mark.parametrize(
    ("tracker", "identity", "reason", "limit"),
    [
        (make(connections=3), ANONYMOUS, SERVER_LIMIT, 3),
        (make(per_ip=3), ANONYMOUS, IP_LIMIT, 3),
        (make(per_user=3), ANN, USER_LIMIT, 3),
        (make(pro=Tier(per_user=3)), PRO, USER_LIMIT, 3),
        (make(per_user=1, pro=Tier(per_user=3)), PRO, USER_LIMIT, 3),
        (make(pro=Tier(connections=3)), PRO, TIER_LIMIT, 3),
        (make(connections=6, free=Tier(reserved=0.5)), ANONYMOUS, SERVER_LIMIT, 6),
        (make(connections=6, free=Tier(reserved=0.5), pro=Tier()), PRO, SERVER_LIMIT, 6),
        # The order: server, IP, user, tier.
        (make(connections=3, per_ip=3, per_user=3), ANN, SERVER_LIMIT, 3),
        (make(per_ip=3, per_user=3), ANN, IP_LIMIT, 3),
        (make(pro=Tier(per_user=3, connections=3)), PRO, USER_LIMIT, 3),
    ],
)
def test_the_fourth_is_refused_and_takes_nothing(
    tracker: ConnectionTracker, identity: Identity, reason: Refusal, limit: int
) -> None:
    leases = [held(tracker.acquire("192.0.2.1", identity)) for _ in range(3)]
    before = counts(tracker)
    refused = tracker.acquire("192.0.2.1", identity)
    assert refused == Reject(reason, reason.retry_after, limit)
    assert counts(tracker) == before
    tracker.release(leases[0])
    assert isinstance(tracker.acquire("192.0.2.1", identity), Lease)


@pytest.mark.parametrize(
    ("tracker", "reason"),
    [
        (make(connections=0), SERVER_LIMIT),
        (make(per_ip=0), IP_LIMIT),
        (make(per_user=0), USER_LIMIT),
        (make(pro=Tier(per_user=0)), USER_LIMIT),
        (make(pro=Tier(connections=0)), TIER_LIMIT),
    ],
)
def test_a_limit_of_zero_admits_none(tracker: ConnectionTracker, reason: Refusal) -> None:
    refused = tracker.acquire("192.0.2.1", PRO)
    assert isinstance(refused, Reject)
    assert refused.reason is reason
    assert counts(tracker) == (0, 0, 0)


def test_a_reserve_is_kept_for_its_tier_and_used_before_the_pool() -> None:
    tracker = make(connections=10, pro=Tier(reserved=0.4))
    pro = [held(tracker.acquire("192.0.2.1", Identity(None, "pro"))) for _ in range(4)]
    others = [held(tracker.acquire("192.0.2.1")) for _ in range(6)]
    assert tracker.acquire("192.0.2.1", Identity(None, "pro")) == tracker.acquire("192.0.2.1")
    # The pool is for all connections, the reserve is not.
    tracker.release(others.pop())
    pro.append(held(tracker.acquire("192.0.2.1", Identity(None, "pro"))))
    tracker.release(pro.pop())
    others.append(held(tracker.acquire("192.0.2.1")))
    tracker.release(pro.pop())
    assert isinstance(tracker.acquire("192.0.2.1"), Reject)
    assert isinstance(tracker.acquire("192.0.2.1", Identity(None, "pro")), Lease)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58, 1.0, 0.0])
def test_a_reserve_is_the_whole_share(share: float) -> None:
    # In binary 0.29 * 100 is 28.999999999999996.
    tracker = make(connections=100, pro=Tier(reserved=share))
    for _ in range(100 - round(share * 100)):
        held(tracker.acquire("192.0.2.1"))
    assert isinstance(tracker.acquire("192.0.2.1"), Reject)


def test_a_tier_that_is_not_in_the_settings_is_no_tier() -> None:
    tracker = make(pro=Tier())
    lease = held(tracker.acquire("192.0.2.1", Identity("ann", "gold")))
    assert lease.tier is None
    assert tracker.tier_count("gold") == 0
    assert tracker.user_count("ann") == 1


def test_release_is_true_once() -> None:
    tracker = make()
    first = held(tracker.acquire("192.0.2.1", ANN))
    second = held(tracker.acquire("192.0.2.1", ANN))
    assert [tracker.release(first), tracker.release(first)] == [True, False]
    assert (tracker.open, tracker.ip_count("192.0.2.1"), tracker.user_count("ann")) == (1, 1, 1)
    assert tracker.release(second)
    assert counts(tracker) == (0, 0, 0)


def test_zero_counts_are_not_kept() -> None:
    tracker = make()
    for number in range(50):
        tracker.release(held(tracker.acquire(f"192.0.2.{number}", Identity(f"user{number}"))))
    assert counts(tracker) == (0, 0, 0)
    assert tracker.users() == []
    assert tracker.peak == 1


def test_ip_rejection_looks_and_takes_nothing() -> None:
    tracker = make(per_ip=1)
    assert tracker.ip_rejection("192.0.2.1") is None
    assert tracker.open == 0
    lease = held(tracker.acquire("192.0.2.1"))
    assert tracker.ip_rejection("192.0.2.1") == tracker.acquire("192.0.2.1")
    assert tracker.ip_rejection("192.0.2.2") is None
    tracker.release(lease)
    assert tracker.ip_rejection("192.0.2.1") is None


def test_utilization() -> None:
    tracker = make(connections=4)
    assert tracker.utilization == 0.0
    held(tracker.acquire("192.0.2.1"))
    assert tracker.utilization == 0.25
    assert make(connections=0).utilization == 1.0
    held(tracker.acquire("192.0.2.1"))
    tracker.apply(LimitsSettings(connections=1), {})
    assert tracker.utilization == 1.0  # a share, though two are open


class TestIdentify:
    def test_moves_the_counts(self) -> None:
        tracker = make(pro=Tier(reserved=0.5))
        lease = held(tracker.acquire("192.0.2.1"))
        assert tracker.identify(lease, PRO) is None
        assert (lease.user, lease.tier) == ("ann", "pro")
        assert (tracker.open, tracker.user_count("ann"), tracker.tier_count("pro")) == (1, 1, 1)
        assert tracker.identify(lease, BOB) is None
        assert tracker.users() == ["bob"]
        assert tracker.tier_count("pro") == 0
        tracker.release(lease)
        assert counts(tracker) == (0, 0, 0)

    def test_to_the_same_identity_is_fine_at_the_limit(self) -> None:
        tracker = make(connections=1, per_user=1, pro=Tier(connections=1))
        lease = held(tracker.acquire("192.0.2.1", PRO))
        assert tracker.identify(lease, PRO) is None
        assert tracker.user_count("ann") == 1

    @pytest.mark.parametrize(
        ("identity", "reason"),
        [
            (ANN, USER_LIMIT),
            (Identity("bob", "pro"), TIER_LIMIT),
        ],
    )
    def test_refused_changes_nothing(self, identity: Identity, reason: Refusal) -> None:
        tracker = make(per_user=1, pro=Tier(connections=1))
        held(tracker.acquire("192.0.2.1", ANN))
        held(tracker.acquire("192.0.2.1", Identity(None, "pro")))
        lease = held(tracker.acquire("192.0.2.1", Identity("carl")))
        refused = tracker.identify(lease, identity)
        assert refused is not None
        assert refused.reason is reason
        assert lease.user == "carl"
        assert sorted(tracker.users()) == ["ann", "carl"]
        assert tracker.tier_count("pro") == 1

    def test_out_of_a_reserve_takes_from_the_pool(self) -> None:
        tracker = make(connections=2, pro=Tier(reserved=0.5))
        inside = held(tracker.acquire("192.0.2.1", PRO))
        held(tracker.acquire("192.0.2.1"))
        refused = tracker.identify(inside, BOB)
        assert refused is not None
        assert refused.reason is SERVER_LIMIT
        assert (inside.user, inside.tier, tracker.tier_count("pro")) == ("ann", "pro", 1)

    def test_into_a_reserve_gives_back_to_the_pool(self) -> None:
        tracker = make(connections=2, pro=Tier(reserved=0.5))
        lease = held(tracker.acquire("192.0.2.1"))
        assert isinstance(tracker.acquire("192.0.2.1"), Reject)
        assert tracker.identify(lease, PRO) is None
        assert isinstance(tracker.acquire("192.0.2.1"), Lease)

    def test_after_release_does_nothing(self) -> None:
        tracker = make()
        lease = held(tracker.acquire("192.0.2.1"))
        tracker.release(lease)
        assert tracker.identify(lease, ANN) is None
        assert counts(tracker) == (0, 0, 0)


def test_leases_of_one_address_share_one_string() -> None:
    tracker = make()
    leases = [held(tracker.acquire("".join(("192.0.2", ".1")))) for _ in range(5)]
    other = held(tracker.acquire("192.0.2.2"))
    assert len({id(lease.address) for lease in leases}) == 1
    for lease in (leases[0], leases[3]):
        tracker.release(lease)
    leases.append(held(tracker.acquire("".join(("192.0.2", ".1")))))
    assert leases[-1].address is leases[1].address
    assert (tracker.ip_count("192.0.2.1"), tracker.ip_count("192.0.2.2")) == (4, 1)
    for lease in (*leases, other):
        tracker.release(lease)
    assert counts(tracker) == (0, 0, 0)


def test_an_address_that_was_forgotten_is_not_kept() -> None:
    tracker = make()
    old = held(tracker.acquire("".join(("192.0.2", ".1"))))
    tracker.release(old)
    new = held(tracker.acquire("".join(("192.0.2", ".1"))))
    assert new.address is not old.address


@pytest.mark.parametrize(
    ("open_now", "identity", "passed", "detail"),
    [
        (0, ANONYMOUS, True, "0 of 6 leases are taken"),
        (5, ANONYMOUS, True, "5 of 6 leases are taken"),
        (6, ANONYMOUS, False, "6 of 6 leases are taken"),
        (6, PRO, True, "its tier has a reserve that is free"),
    ],
)
def test_explain_of_the_server(
    open_now: int, identity: Identity, passed: bool, detail: str
) -> None:
    tracker = make(connections=10, pro=Tier(reserved=0.4))
    for _ in range(open_now):
        held(tracker.acquire("192.0.2.1"))
    step = tracker.explain("192.0.2.1", identity)[1]
    assert (step.name, step.passed, step.detail) == ("connections", passed, detail)
    assert step.numbers == {"open": open_now, "limit": 10, "pool": 6, "pool_used": open_now}


def ipv6(network: int, host: int) -> str:
    return f"2001:db8:0:{network:x}::{host:x}"


def tracker_of(per_ip: int, ipv6_prefix: int) -> ConnectionTracker:
    return ConnectionTracker(LimitsSettings(per_ip=per_ip, ipv6_prefix=ipv6_prefix), {})


def test_addresses_of_one_ipv6_network_share_a_limit_and_keep_their_own_names() -> None:
    tracker = tracker_of(2, 64)
    leases = [held(tracker.acquire(ipv6(1, host))) for host in (1, 2)]
    assert [lease.address for lease in leases] == [ipv6(1, 1), ipv6(1, 2)]
    assert isinstance(tracker.acquire(ipv6(1, 3)), Reject)
    assert tracker.ip_rejection(ipv6(1, 4)) is not None
    assert tracker.own_rejection(ipv6(1, 5), ANONYMOUS) is not None
    assert tracker.ip_count(ipv6(1, 99)) == 2
    assert tracker.unique_ips == 1
    step = tracker.explain(ipv6(1, 6), ANONYMOUS)[0]
    assert not step.passed
    assert step.detail == "2 of 2 connections from 2001:db8:0:1::/64"
    leases.append(held(tracker.acquire(ipv6(2, 1))))
    assert tracker.unique_ips == 2
    for lease in leases:
        assert tracker.release(lease)
    assert counts(tracker) == (0, 0, 0)


def test_addresses_of_one_ipv6_network_with_a_prefix_of_128_count_by_themselves() -> None:
    tracker = tracker_of(1, 128)
    leases = [held(tracker.acquire(ipv6(1, host))) for host in range(5)]
    assert tracker.unique_ips == 5
    assert isinstance(tracker.acquire(ipv6(1, 0)), Reject)
    for lease in leases:
        tracker.release(lease)
    assert counts(tracker) == (0, 0, 0)


def test_a_prefix_that_changes_needs_a_restart() -> None:
    tracker = tracker_of(2, 64)
    leases = [held(tracker.acquire(ipv6(1, host))) for host in (1, 2)]
    tracker.apply(LimitsSettings(per_ip=2, ipv6_prefix=128), {})
    assert isinstance(tracker.acquire(ipv6(1, 3)), Reject)
    for lease in leases:
        tracker.release(lease)
    assert counts(tracker) == (0, 0, 0)
