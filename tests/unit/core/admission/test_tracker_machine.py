"""The tracker beside the plainest account of who is connected, and under threads."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

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

from tests.unit.core.admission.test_tracker import ANN, counts, held, make
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, SERVER_LIMIT, TIER_LIMIT, USER_LIMIT, Refusal
from tidegate.core.settings import LimitsSettings, Tier

V6_NETWORK = "2001:db8::"
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", f"{V6_NETWORK}1", f"{V6_NETWORK}2"])
IDENTITIES = st.builds(
    Identity,
    user=st.sampled_from([None, "ann", "bob"]),
    tier=st.sampled_from([None, "free", "pro", "unknown"]),
)
FEW = st.integers(0, 6)
LIMITS = st.builds(
    LimitsSettings,
    connections=st.sampled_from([0, 3, 5, 8, 10, 12]),
    per_ip=FEW,
    per_user=FEW,
)
TIER = st.builds(
    Tier,
    per_user=st.none() | FEW,
    connections=st.none() | FEW,
    reserved=st.sampled_from([0.0, 0.2, 0.3, 0.5]),
)


def counted_as(address: str) -> str:
    return V6_NETWORK if address.startswith(V6_NETWORK) else address


class Reality:
    """Who is really connected, and the limits said in the plainest way."""

    def __init__(self, limits: LimitsSettings, tiers: dict[str, Tier]) -> None:
        self.present: dict[Lease, tuple[str, Identity]] = {}
        self.limits = limits
        self.tiers = tiers

    @property
    def reserves(self) -> dict[str, int]:
        most = self.limits.connections
        return {name: int(tier.reserved * most + 1e-6) for name, tier in self.tiers.items()}

    @property
    def pool(self) -> int:
        return self.limits.connections - sum(self.reserves.values())

    @property
    def pool_used(self) -> int:
        beyond = sum(max(0, self.of_tier(t) - n) for t, n in self.reserves.items())
        return beyond + sum(i.tier not in self.tiers for _, i in self.present.values())

    def of_ip(self, address: str) -> int:
        return sum(counted_as(a) == counted_as(address) for a, _ in self.present.values())

    def of_user(self, user: str) -> int:
        return sum(i.user == user for _, i in self.present.values())

    def of_tier(self, tier: str) -> int:
        return sum(i.tier == tier for _, i in self.present.values())

    def most_of_user(self, identity: Identity) -> int:
        tier = self.tiers.get(identity.tier or "")
        return self.limits.per_user if tier is None or tier.per_user is None else tier.per_user

    def most_of_tier(self, name: str) -> int:
        most = self.tiers[name].connections
        return self.limits.connections if most is None else most

    def full_server(self, tier: str | None) -> bool:
        """No attempt may take capacity that is still kept for another tier."""
        if len(self.present) >= self.limits.connections:
            return True
        if tier in self.tiers and self.of_tier(tier) < self.reserves[tier]:
            return False
        return self.pool_used >= self.pool

    def full_identity(self, identity: Identity) -> Refusal | None:
        user, tier = identity.user, identity.tier
        if user is not None and self.of_user(user) >= self.most_of_user(identity):
            return USER_LIMIT
        if tier in self.tiers and self.of_tier(tier) >= self.most_of_tier(tier):
            return TIER_LIMIT
        return None

    def full_move(self, lease: Lease, identity: Identity) -> Refusal | None:
        """Why a connection cannot become another's; only for a count that the move raises."""
        address, before = self.present[lease]
        known = (before.tier in self.tiers, identity.tier in self.tiers)
        same_tier = before.tier == identity.tier or known == (False, False)
        if before.user == identity.user and same_tier:
            return None
        pool_used = self.pool_used
        self.present[lease] = (address, identity)
        grows = self.pool_used > pool_used
        del self.present[lease]
        full = self.full_identity(identity)
        self.present[lease] = (address, before)
        if grows and pool_used >= self.pool:
            return SERVER_LIMIT
        return None if full is TIER_LIMIT and same_tier else full


class TrackerMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    gone = Bundle("gone")

    @initialize()
    def start(self) -> None:
        limits = LimitsSettings(connections=10, per_ip=6, per_user=4)
        tiers = {
            "free": Tier(per_user=2, connections=4, reserved=0.2),
            "pro": Tier(per_user=5, reserved=0.3),
        }
        self.reality = Reality(limits, tiers)
        self.peak = 0
        self.tracker = ConnectionTracker(limits, tiers)

    @rule(limits=LIMITS, free=TIER, pro=TIER)
    def apply(self, limits: LimitsSettings, free: Tier, pro: Tier) -> None:
        self.reality.limits = limits
        self.reality.tiers = {"free": free, "pro": pro}
        self.tracker.apply(limits, self.reality.tiers)

    @rule(target=leases, address=ADDRESSES, identity=IDENTITIES)
    def acquire(self, address: str, identity: Identity) -> Lease | None:
        real = self.reality
        expected: Refusal | None = None
        if real.full_server(identity.tier):
            expected = SERVER_LIMIT
        elif real.of_ip(address) >= real.limits.per_ip:
            expected = IP_LIMIT
        else:
            expected = real.full_identity(identity)
        # A string of its own each time, as from the kernel.
        outcome = self.tracker.acquire("".join(list(address)), identity)
        if isinstance(outcome, Reject):
            assert outcome.reason is expected
            return None
        assert expected is None
        real.present[outcome] = (address, identity)
        self.peak = max(self.peak, len(real.present))
        self.within_all_limits(address, identity)
        return outcome

    def within_all_limits(self, address: str, identity: Identity) -> None:
        """A count may be above a limit that was lowered, but not by one more."""
        real = self.reality
        assert len(real.present) <= real.limits.connections
        assert real.of_ip(address) <= real.limits.per_ip
        if identity.user is not None:
            assert real.of_user(identity.user) <= real.most_of_user(identity)
        if identity.tier in real.tiers:
            assert real.of_tier(identity.tier) <= real.most_of_tier(identity.tier)

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
        expected = real.full_move(lease, identity)
        refused = self.tracker.identify(lease, identity)
        assert (None if refused is None else refused.reason) is expected
        if refused is None:
            real.present[lease] = (real.present[lease][0], identity)

    @invariant()
    def counts_are_reality(self) -> None:
        tracker, present = self.tracker, self.reality.present
        ips = Counter(counted_as(address) for address, _ in present.values())
        users = Counter(i.user for _, i in present.values() if i.user is not None)
        assert tracker.open == len(present)
        assert tracker.peak == self.peak
        assert tracker.limit == self.reality.limits.connections
        assert tracker.unique_ips == len(ips)
        assert sorted(tracker.users()) == sorted(users)
        assert tracker.unique_users == len(users)
        assert all(tracker.ip_count(a) == ips[counted_as(a)] for a, _ in present.values())
        assert all(tracker.user_count(user) == n for user, n in users.items())
        for tier in ("free", "pro"):
            assert tracker.tier_count(tier) == self.reality.of_tier(tier)

    @invariant()
    def the_pool_is_exact(self) -> None:
        real = self.reality
        numbers = self.tracker.explain("192.0.2.9", ANONYMOUS)[1].numbers
        assert (numbers["pool"], numbers["pool_used"]) == (real.pool, real.pool_used)
        if real.pool_used <= real.pool:
            kept = sum(max(0, n - real.of_tier(t)) for t, n in real.reserves.items())
            assert len(real.present) + kept <= real.limits.connections

    @invariant()
    def leases_keep_their_address_and_share_its_string(self) -> None:
        present = self.reality.present
        assert all(lease.address == address for lease, (address, _) in present.items())
        strings = {(lease.address, id(lease.address)) for lease in present}
        by_itself = {text for text, _ in strings if ":" not in text}
        assert sum(":" not in text for text, _ in strings) == len(by_itself)

    def teardown(self) -> None:
        if hasattr(self, "tracker"):
            for lease in self.reality.present:
                assert self.tracker.release(lease)
            assert counts(self.tracker) == (0, 0, 0)
            assert self.tracker.tier_count("free") == self.tracker.tier_count("pro") == 0
            # Nothing of the pool or the reserves was lost either.
            if self.reality.limits.per_ip:
                for number in range(self.reality.pool):
                    held(self.tracker.acquire(f"198.51.100.{number}"))
            assert isinstance(self.tracker.acquire("198.51.100.99"), Reject)


TestTrackerMachine = TrackerMachine.TestCase
TestTrackerMachine.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads switch after every few instructions, so that a race shows."""
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
        for step in range(800):
            outcome = tracker.acquire(f"192.0.2.{step % 3}", identity)
            if isinstance(outcome, Lease):
                outside.add(outcome)
                look()
                tracker.identify(outcome, Identity(f"user{step % 2}", identity.tier))
                outside.discard(outcome)
            if step % 40 == 0:
                # All eight hold what they got: the pool of 3 and the reserve of 2, no more.
                together.wait()
                look()
                if number == 0:
                    rounds.append(tracker.open)
                together.wait()
            if isinstance(outcome, Lease):
                tracker.release(outcome)

    run_together([partial(hammer, number) for number in range(8)])
    assert over == []
    assert max(rounds) == 5
    assert counts(tracker) == (0, 0, 0)
    assert tracker.tier_count("pro") == 0
    outcomes = [tracker.acquire("192.0.2.1") for _ in range(4)]
    assert [isinstance(outcome, Lease) for outcome in outcomes] == [True, True, True, False]


@pytest.mark.usefixtures("busy_threads")
def test_limits_that_change_under_threads_leave_exact_counts() -> None:
    limits = [LimitsSettings(connections=n, per_ip=9, per_user=9) for n in (2, 8, 5, 0, 10)]
    tiers = [{"pro": Tier(reserved=share)} for share in (0.0, 0.5, 1.0)]
    tracker = ConnectionTracker(limits[0], tiers[0])
    done = threading.Event()

    def change() -> None:
        step = 0
        while not done.is_set():
            step += 1
            tracker.apply(limits[step % 5], tiers[step % 3])

    def hammer(number: int) -> None:
        identity = Identity(f"user{number}", "pro" if number % 2 else None)
        for step in range(1500):
            outcome = tracker.acquire(f"192.0.2.{step % 3}", identity)
            if isinstance(outcome, Lease):
                tracker.release(outcome)

    changer = threading.Thread(target=change)
    changer.start()
    run_together([partial(hammer, number) for number in range(6)])
    done.set()
    changer.join()
    assert counts(tracker) == (0, 0, 0)
    tracker.apply(limits[4], tiers[1])
    numbers = tracker.explain("192.0.2.1", ANN)[1].numbers
    assert numbers == {"open": 0, "limit": 10, "pool": 5, "pool_used": 0}


def test_only_one_of_many_threads_releases() -> None:
    tracker = make()
    wins: list[bool] = []
    for _ in range(50):
        lease = held(tracker.acquire("192.0.2.1", ANN))
        start = threading.Barrier(4, timeout=30)

        def end(lease: Lease = lease, start: threading.Barrier = start) -> None:
            start.wait()
            wins.append(tracker.release(lease))

        run_together([end] * 4)
    assert wins.count(True) == 50
    assert wins.count(False) == 150
    assert counts(tracker) == (0, 0, 0)


def run_together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=own) for own in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
