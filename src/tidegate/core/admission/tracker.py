"""Exact counts of connections by server, IP, user and tier, and the leases that hold them.

Every count changes under one lock, all of them or none, so that no limit is exceeded at any
instant, whichever threads ask. All operations are O(1).

The reserve of a tier is capacity that only its connections can use. A connection of a tier uses
the reserve first, and the shared pool only when the reserve is used up. All other connections use
the pool, which is what the reserves leave of the server:

    pool = limits.connections - sum of reserves
    used of the pool = sum over tiers of max(0, open - reserve), and all without a tier

The limits can change at any time (`apply`). A lower one closes no connection: while a count is
above its limit, the attempts that would raise it are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from tidegate.addresses import network
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject, Step
from tidegate.core.admission.counts import FAR, Shared, TierCount, limit_reached
from tidegate.core.admission.fleet import FleetCounts
from tidegate.core.codes import IP_LIMIT, SERVER_LIMIT, USER_LIMIT
from tidegate.core.settings import LimitsSettings, Tier

__all__ = ["ConnectionTracker"]


class ConnectionTracker:
    """Counts connections and never admits one more than the limits allow. Safe from any thread.

    Limits that are only tried out (`limits.dry_run`) admit every attempt; `explain` says what they
    would have refused.

    Args:
        limits: the limits of this process.
        tiers: those of the tiers.
        fleet: is told what becomes of leases that it has counted too.
    """

    def __init__(
        self,
        limits: LimitsSettings,
        tiers: Mapping[str, Tier],
        fleet: FleetCounts | None = None,
    ) -> None:
        self._fleet = fleet
        self._lock = Lock()
        self._tiers = {name: TierCount(tier, limits) for name, tier in tiers.items()}
        self._prefix = limits.ipv6_prefix
        # By address, and IPv6 by network: the key itself while it has one connection, else what
        # they share. Every connection comes with a string of its own; so those of one address keep
        # only one of them.
        # (`sys.intern` would do the same, but CPython 3.12.0 to 3.12.6 never frees what it is
        # given.)
        self._ips: dict[str, str | Shared] = {}
        self._users: dict[str, int] = {}
        self._open = 0
        self._peak = 0
        self.apply(limits, tiers)

    def apply(self, limits: LimitsSettings, tiers: Mapping[str, Tier]) -> None:
        """Take over other limits, for all counts at once. No connection loses its lease.

        While a count is above its new limit, attempts are refused until it is below. Tiers that
        are added or removed are left as they were: they need a restart.
        """
        with self._lock:
            counts = self._tiers.values()
            for name, count in self._tiers.items():
                count.apply(tiers.get(name, count.tier), limits)
            dry = limits.is_dry("connections")
            self._limit = limits.connections
            self._nominal = limits
            self._per_ip = FAR if limits.is_dry("per_ip") else limits.per_ip
            self._per_user = FAR if limits.is_dry("per_user") else limits.per_user
            self._nominal_pool = self._limit - sum(count.reserve for count in counts)
            self._pool = FAR if dry else self._nominal_pool
            self._most = FAR if dry else self._limit
            without_tier = self._open - sum(count.open for count in counts)
            beyond = sum(max(0, count.open - count.reserve) for count in counts)
            self._pool_used = without_tier + beyond
            # A storm of refusals must not make a value for each.
            self._server_full = limit_reached(SERVER_LIMIT, self._limit)
            self._ip_full = limit_reached(IP_LIMIT, limits.per_ip)
            self._user_full = limit_reached(USER_LIMIT, limits.per_user)

    def acquire(self, address: str, identity: Identity = ANONYMOUS) -> Lease | Reject:
        """Count a connection everywhere, or nowhere and say which limit was reached. HOT.

        The limits are looked at in this order: server (with the reserves of the tiers), IP,
        user, tier. The caller must `release` the lease when the connection ends.
        """
        user = identity.user
        name = identity.tier
        tier = None if name is None else self._tiers.get(name)
        with self._lock:
            # A reserve may be free of a server that is above a limit that was lowered.
            if self._pool_used >= self._pool and (
                tier is None or tier.open >= tier.reserve or self._open >= self._most
            ):
                return self._server_full
            ips = self._ips
            key = network(address, self._prefix) if ":" in address else address
            present = ips.get(key)
            if present is None:
                here = 0
            elif type(present) is Shared:
                here = present.count
                if key is address:
                    address = present.address
            else:
                here = 1
                if key is address:
                    address = present
            if here >= self._per_ip:
                return self._ip_full
            if user is None and tier is None:
                self._pool_used += 1
            else:
                full = self._identity_full(user, tier)
                if full is not None:
                    return full
                self._count(user, tier)
            if present is None:
                ips[key] = key
            elif type(present) is Shared:
                present.count = here + 1
            else:
                ips[present] = Shared(present)
            self._open = opened = self._open + 1
            if opened > self._peak:
                self._peak = opened
        name = None if tier is None else name
        return Lease(address, user, name, identity.priority, identity.claims)

    def identify(self, lease: Lease, identity: Identity) -> Reject | None:
        """Move a connection that authenticates late to the counts of its user and tier.

        Returns None when done. A rejection changes nothing: the connection keeps its lease and
        its earlier identity. A limit refuses only a move that raises its count. A lease that was
        released already is left alone.
        """
        user = identity.user
        name = identity.tier if identity.tier in self._tiers else None
        tier = None if name is None else self._tiers[name]
        with self._lock:
            if not lease.held:
                return None
            if user != lease.user or name != lease.tier:
                old = None if lease.tier is None else self._tiers[lease.tier]
                before = self._pool_used
                self._uncount(lease.user, old)
                takes_pool = tier is None or tier.open >= tier.reserve
                full: Reject | None
                if takes_pool and self._pool_used == before and before >= self._pool:
                    full = self._server_full
                else:
                    full = self._identity_full(user, tier)
                    if tier is not None and tier is old and full is tier.full:
                        full = None
                if full is not None:
                    self._count(lease.user, old)
                    return full
                self._count(user, tier)
                lease.user = user
                lease.tier = name
            lease.priority = identity.priority
            lease.claims = identity.claims
        return None

    def release(self, lease: Lease) -> bool:
        """Take the connection out of every count. True the first time; later calls do nothing. HOT.

        The lease holds no capacity from then on.
        """
        address = lease.address
        with self._lock:
            if not lease.held:
                return False
            lease.held = False
            ips = self._ips
            key = network(address, self._prefix) if ":" in address else address
            present = ips[key]
            if type(present) is Shared and present.count > 1:
                present.count -= 1
            else:
                del ips[key]
            self._open -= 1
            user = lease.user
            name = lease.tier
            if user is None and name is None:
                self._pool_used -= 1
            else:
                self._uncount(user, None if name is None else self._tiers[name])
        if lease.fleet and self._fleet is not None:
            names, lease.fleet = lease.fleet, ()
            self._fleet.released(names)
        return True

    def replace(self, lease: Lease, address: str, identity: Identity) -> Lease | Reject:
        """Release a lease and acquire another one for the same client, with nobody in between.

        A rejection means that a limit of the new one is reached; the old one is released too.
        """
        names, lease.fleet = lease.fleet, ()
        self.release(lease)
        new = self.acquire(address, identity)
        if names and self._fleet is not None:
            if isinstance(new, Reject):
                self._fleet.released(names)
            else:
                self._fleet.replaced(names, new)
        return new

    def ip_rejection(self, address: str) -> Reject | None:
        """Return a rejection if this address is at its limit: a cheap look before authentication.

        It takes nothing, so `acquire` may still refuse a moment later.
        """
        return self._ip_full if self.ip_count(address) >= self._per_ip else None

    def own_rejection(
        self, address: str, identity: Identity, *, more_here: int = 0, more_of_user: int = 0
    ) -> Reject | None:
        """Return a rejection if a limit of the client's own is reached: IP, user or tier.

        It takes nothing, and does not look at the server's limit. `more_here` and `more_of_user`
        are how many of this address and of this user count beside those that are open.
        """
        if self.ip_count(address) + more_here >= self._per_ip:
            return self._ip_full
        tier = None if identity.tier is None else self._tiers.get(identity.tier)
        return self._identity_full(identity.user, tier, more_of_user)

    def has_reserve(self, tier: str | None) -> bool:
        """Whether capacity is free that is kept for this tier."""
        count = None if tier is None else self._tiers.get(tier)
        return count is not None and count.open < count.reserve and self._open < self._most

    def explain(self, address: str, identity: Identity) -> tuple[Step, Step, Step, Step]:
        """What the limits say of one more: by address, server, user and tier. Takes nothing."""
        tier = None if identity.tier is None else self._tiers.get(identity.tier)
        used, pool = self._pool_used, self._nominal_pool
        reserve = self.has_reserve(identity.tier)
        server = Step(
            "connections",
            used < pool or reserve,
            "its tier has a reserve that is free"
            if reserve
            else f"{used} of {pool} leases are taken",
            {"open": self._open, "limit": self._limit, "pool": pool, "pool_used": used},
        )
        here = self.ip_count(address)
        key = network(address, self._prefix)
        whose = "this address" if key == address else key
        of_user, per_user = 0, self._nominal.per_user if tier is None else tier.nominal[1]
        if identity.user is not None:
            of_user = self._users.get(identity.user, 0)
        by_tier, tier_limit = (0, 0) if tier is None else (tier.open, tier.nominal[0])
        return (
            _step("per_ip", f"from {whose}", here, self._nominal.per_ip),
            server,
            _step("per_user", "of this user", of_user, per_user)
            if identity.user is not None
            else Step("per_user", True, "it has no user", {}),
            _step("tiers", "of this tier", by_tier, tier_limit)
            if tier is not None
            else Step("tiers", True, "it has no tier with limits of its own", {}),
        )

    def _identity_full(
        self, user: str | None, tier: TierCount | None, more: int = 0
    ) -> Reject | None:
        if user is not None:
            count = self._users.get(user, 0) + more
            if tier is None:
                if count >= self._per_user:
                    return self._user_full
            elif count >= tier.per_user:
                return tier.user_full
        return tier.full if tier is not None and tier.open >= tier.limit else None

    def _count(self, user: str | None, tier: TierCount | None) -> None:
        if user is not None:
            self._users[user] = self._users.get(user, 0) + 1
        if tier is None:
            self._pool_used += 1
        else:
            self._pool_used += tier.open >= tier.reserve
            tier.open += 1

    def _uncount(self, user: str | None, tier: TierCount | None) -> None:
        if user is not None:
            left = self._users[user] - 1
            if left:
                self._users[user] = left
            else:
                del self._users[user]
        if tier is None:
            self._pool_used -= 1
        else:
            tier.open -= 1
            self._pool_used -= tier.open >= tier.reserve

    @property
    def open(self) -> int:
        """Connections that hold a lease now."""
        return self._open

    @property
    def peak(self) -> int:
        """The most that `open` has been."""
        return self._peak

    @property
    def limit(self) -> int:
        """The most that `open` can be; it may be above a limit that was lowered."""
        return self._limit

    @property
    def utilization(self) -> float:
        """`open` as a share of the limit, 0 to 1; 1 also after the limit was lowered below it."""
        return min(1.0, self._open / self._limit) if self._limit else 1.0

    @property
    def unique_ips(self) -> int:
        """Addresses that hold a lease now; an IPv6 network counts as one."""
        return len(self._ips)

    @property
    def unique_users(self) -> int:
        """Users that hold a lease now."""
        return len(self._users)

    def ip_count(self, address: str) -> int:
        """Connections from this address; those from all of its network if it is IPv6."""
        present = self._ips.get(network(address, self._prefix))
        if type(present) is Shared:
            return present.count
        return 0 if present is None else 1

    def user_count(self, user: str) -> int:
        """Connections of this user."""
        return self._users.get(user, 0)

    def tier_count(self, tier: str) -> int:
        """Connections of this tier; 0 for a tier that the settings do not name."""
        count = self._tiers.get(tier)
        return 0 if count is None else count.open

    def users(self) -> list[str]:
        """The users that hold a lease now; a copy."""
        with self._lock:
            return list(self._users)


def _step(name: str, whose: str, count: int, limit: int) -> Step:
    detail = f"{count} of {limit} connections {whose}"
    return Step(name, count < limit, detail, {"open": count, "limit": limit})
