from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject, Verdict
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, SERVER_LIMIT, TIER_LIMIT, USER_LIMIT, Reason
from tidegate.core.settings import LimitsSettings, Tier


def make(
    connections: int = 100, per_ip: int = 100, per_user: int = 100, **tiers: Tier
) -> ConnectionTracker:
    limits = LimitsSettings(connections=connections, per_ip=per_ip, per_user=per_user)
    return ConnectionTracker(limits, tiers)


def held(verdict: Verdict) -> Lease:
    assert isinstance(verdict, Lease)
    return verdict


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
    tracker: ConnectionTracker, identity: Identity, reason: Reason, limit: int
) -> None:
    leases = [held(tracker.acquire("192.0.2.1", identity)) for _ in range(3)]
    before = counts(tracker)
    refused = tracker.acquire("192.0.2.1", identity)
    assert refused == Reject(reason, reason.retry_after, limit, 0)
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
def test_a_limit_of_zero_is_nobody(tracker: ConnectionTracker, reason: Reason) -> None:
    refused = tracker.acquire("192.0.2.1", PRO)
    assert isinstance(refused, Reject)
    assert refused.reason is reason
    assert counts(tracker) == (0, 0, 0)


def test_a_reserve_is_kept_for_its_tier_and_used_before_the_pool() -> None:
    tracker = make(connections=10, pro=Tier(reserved=0.4))
    pro = [held(tracker.acquire("192.0.2.1", Identity(None, "pro"))) for _ in range(4)]
    others = [held(tracker.acquire("192.0.2.1")) for _ in range(6)]
    assert tracker.acquire("192.0.2.1", Identity(None, "pro")) == tracker.acquire("192.0.2.1")
    # A slot of the pool is for everybody, one of the reserve is not.
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
    def test_refused_changes_nothing(self, identity: Identity, reason: Reason) -> None:
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

    def test_out_of_a_reserve_needs_a_slot_of_the_pool(self) -> None:
        tracker = make(connections=2, pro=Tier(reserved=0.5))
        inside = held(tracker.acquire("192.0.2.1", PRO))
        held(tracker.acquire("192.0.2.1"))
        refused = tracker.identify(inside, BOB)
        assert refused is not None
        assert refused.reason is SERVER_LIMIT
        assert (inside.user, inside.tier, tracker.tier_count("pro")) == ("ann", "pro", 1)

    def test_into_a_reserve_frees_a_slot_of_the_pool(self) -> None:
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


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
IDENTITIES = st.builds(
    Identity,
    user=st.sampled_from([None, "ann", "bob"]),
    tier=st.sampled_from([None, "free", "pro", "unknown"]),
)
CONNECTIONS, PER_IP, PER_USER = 10, 6, 4
RESERVES = {"free": 2, "pro": 3}
TIER_LIMITS = {"free": 4, "pro": 10}
TIER_USERS = {"free": 2, "pro": 5}


class Reality:
    """Who is really connected, and the limits said in the plainest way."""

    def __init__(self) -> None:
        self.present: dict[Lease, tuple[str, Identity]] = {}

    def of_ip(self, address: str) -> int:
        return sum(a == address for a, _ in self.present.values())

    def of_user(self, user: str) -> int:
        return sum(i.user == user for _, i in self.present.values())

    def of_tier(self, tier: str) -> int:
        return sum(i.tier == tier for _, i in self.present.values())

    def full_server(self, tier: str | None) -> bool:
        """Nobody may take a slot that is still kept for another tier."""
        kept = sum(max(0, n - self.of_tier(t)) for t, n in RESERVES.items() if t != tier)
        return len(self.present) + kept >= CONNECTIONS

    def full_identity(self, identity: Identity) -> Reason | None:
        user, tier = identity.user, identity.tier
        most = TIER_USERS.get(tier or "", PER_USER)
        if user is not None and self.of_user(user) >= most:
            return USER_LIMIT
        if tier in TIER_LIMITS and self.of_tier(tier) >= TIER_LIMITS[tier]:
            return TIER_LIMIT
        return None


class TrackerMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    gone = Bundle("gone")

    @initialize()
    def start(self) -> None:
        self.reality = Reality()
        self.peak = 0
        self.tracker = make(
            CONNECTIONS,
            PER_IP,
            PER_USER,
            free=Tier(per_user=2, connections=4, reserved=0.2),
            pro=Tier(per_user=5, reserved=0.3),
        )

    @rule(target=leases, address=ADDRESSES, identity=IDENTITIES)
    def acquire(self, address: str, identity: Identity) -> Lease | None:
        real = self.reality
        expected: Reason | None = None
        if real.full_server(identity.tier):
            expected = SERVER_LIMIT
        elif real.of_ip(address) >= PER_IP:
            expected = IP_LIMIT
        else:
            expected = real.full_identity(identity)
        verdict = self.tracker.acquire(address, identity)
        if isinstance(verdict, Reject):
            assert verdict.reason is expected
            return None
        assert expected is None
        real.present[verdict] = (address, identity)
        self.peak = max(self.peak, len(real.present))
        return verdict

    @rule(target=gone, lease=consumes(leases))
    def release(self, lease: Lease | None) -> Lease | None:
        if lease is not None:
            assert self.tracker.release(lease)
            del self.reality.present[lease]
        return lease

    @rule(lease=gone, identity=IDENTITIES)
    def touch_what_is_gone(self, lease: Lease | None, identity: Identity) -> None:
        if lease is not None:
            assert not self.tracker.release(lease)
            assert self.tracker.identify(lease, identity) is None

    @rule(lease=leases, identity=IDENTITIES)
    def identify(self, lease: Lease | None, identity: Identity) -> None:
        if lease is None:
            return
        real = self.reality
        address, before = real.present.pop(lease)
        expected = real.full_identity(identity)
        if real.full_server(identity.tier):
            expected = SERVER_LIMIT
        refused = self.tracker.identify(lease, identity)
        assert (None if refused is None else refused.reason) is expected
        real.present[lease] = (address, before if refused else identity)

    @invariant()
    def counts_are_reality(self) -> None:
        tracker, present = self.tracker, self.reality.present
        ips = Counter(address for address, _ in present.values())
        users = Counter(i.user for _, i in present.values() if i.user is not None)
        assert tracker.open == len(present)
        assert tracker.peak == self.peak
        assert tracker.unique_ips == len(ips)
        assert sorted(tracker.users()) == sorted(users)
        assert tracker.unique_users == len(users)
        assert all(tracker.ip_count(address) == n for address, n in ips.items())
        assert all(tracker.user_count(user) == n for user, n in users.items())
        for tier in ("free", "pro"):
            assert tracker.tier_count(tier) == self.reality.of_tier(tier)

    @invariant()
    def limits_hold(self) -> None:
        tracker = self.tracker
        assert tracker.open <= CONNECTIONS
        assert all(tracker.ip_count(a) <= PER_IP for a, _ in self.reality.present.values())
        assert all(tracker.user_count(u) <= max(TIER_USERS.values()) for u in tracker.users())
        assert all(tracker.tier_count(t) <= TIER_LIMITS[t] for t in TIER_LIMITS)

    @invariant()
    def reserves_are_honoured(self) -> None:
        kept = sum(max(0, n - self.tracker.tier_count(t)) for t, n in RESERVES.items())
        assert self.tracker.open + kept <= CONNECTIONS

    def teardown(self) -> None:
        if hasattr(self, "tracker"):
            for lease in self.reality.present:
                assert self.tracker.release(lease)
            assert counts(self.tracker) == (0, 0, 0)
            assert self.tracker.tier_count("free") == self.tracker.tier_count("pro") == 0
            # Nothing of the pool or the reserves was lost either.
            for number in range(5):
                held(self.tracker.acquire(f"198.51.100.{number}"))
            assert isinstance(self.tracker.acquire("198.51.100.9"), Reject)


TestTrackerMachine = TrackerMachine.TestCase
TestTrackerMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.fixture
def busy_threads() -> object:
    """Threads take turns after every few instructions, so that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
def test_threads_never_pass_the_limit_and_end_at_zero() -> None:
    tracker = make(connections=5, pro=Tier(connections=3, reserved=0.4))
    together = threading.Barrier(8, timeout=30)
    outside: set[Lease] = set()
    over: list[int] = []
    rounds: list[int] = []

    def look() -> None:
        if len(outside) > 5 or tracker.open > 5 or tracker.tier_count("pro") > 3:
            over.append(tracker.open)

    def hammer(number: int) -> None:
        identity = Identity(f"user{number % 2}", "pro" if number % 2 else None)
        for turn in range(800):
            verdict = tracker.acquire(f"192.0.2.{turn % 3}", identity)
            if isinstance(verdict, Lease):
                outside.add(verdict)
                look()
                tracker.identify(verdict, Identity(f"user{turn % 2}", identity.tier))
                outside.discard(verdict)
            if turn % 40 == 0:
                # All eight hold what they got: the pool of 3 and the reserve of 2, no more.
                together.wait()
                look()
                if number == 0:
                    rounds.append(tracker.open)
                together.wait()
            if isinstance(verdict, Lease):
                tracker.release(verdict)

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    assert max(rounds) == 5
    assert counts(tracker) == (0, 0, 0)
    assert tracker.tier_count("pro") == 0
    verdicts = [tracker.acquire("192.0.2.1") for _ in range(4)]
    assert [isinstance(verdict, Lease) for verdict in verdicts] == [True, True, True, False]


def test_only_one_of_many_threads_releases() -> None:
    tracker = make()
    wins: list[bool] = []
    for _ in range(50):
        lease = held(tracker.acquire("192.0.2.1", ANN))
        start = threading.Barrier(4, timeout=30)

        def end(lease: Lease = lease, start: threading.Barrier = start) -> None:
            start.wait()
            wins.append(tracker.release(lease))

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wins.count(True) == 50
    assert wins.count(False) == 150
    assert counts(tracker) == (0, 0, 0)
