"""Exact counts of connections by server, address, user and tier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

from tidegate.addresses import counted
from tidegate.core.admission import attempt as core
from tidegate.core.admission.tracker import ConnectionTracker as Counts
from tidegate.core.settings import LimitsSettings, Tier
from tidegate.gate.refused import rejected

__all__ = ["ConnectionTracker", "Lease", "TrackerStats"]

_DEFAULTS: Final = LimitsSettings()


@dataclass(frozen=True, slots=True)
class TrackerStats:
    """The counts at one moment. `utilization` is the share of the limit that is in use, 0 to 1."""

    open: int
    peak: int
    limit: int
    utilization: float
    addresses: int
    users: int


@final
class Lease:
    """The capacity that one connection holds; a context manager, plain and async.

    Release it when the connection ends, whatever the cause. Releasing it again does nothing.
    """

    __slots__ = ("_lease", "_release")

    def __init__(self, lease: core.Lease, release: Callable[[core.Lease], None]) -> None:
        self._lease = lease
        self._release = release

    @property
    def address(self) -> str:
        """The address that it is counted under."""
        return self._lease.address

    @property
    def user(self) -> str | None:
        """The user that it is counted under, None for nobody."""
        return self._lease.user

    @property
    def tier(self) -> str | None:
        """The tier that it is counted under, None for none."""
        return self._lease.tier

    @property
    def held(self) -> bool:
        """Whether it holds capacity still."""
        return self._lease.held

    def release(self) -> None:
        """Give the capacity back, once. Safe from any thread."""
        self._release(self._lease)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.release()


class ConnectionTracker:
    """Counts connections and never admits one more than the limits allow. Safe from any thread.

    Args:
        connections: the most connections of the server; 0 to 10,000,000, as the next two.
        per_ip: the most from one address.
        per_user: the most of one user.
        tiers: limits and reserves for tiers of users, by the tier's name.

    Raises:
        ConfigError: a limit is out of its range.
    """

    def __init__(
        self,
        *,
        connections: int = _DEFAULTS.connections,
        per_ip: int = _DEFAULTS.per_ip,
        per_user: int = _DEFAULTS.per_user,
        tiers: Mapping[str, Tier] | None = None,
    ) -> None:
        self._limits = LimitsSettings(connections=connections, per_ip=per_ip, per_user=per_user)
        self._tiers = dict(tiers or {})
        self.counts = Counts(self._limits, self._tiers)
        """The counts themselves, for policies that are built on them."""
        self._listeners: list[Callable[[], None]] = []

    def acquire(
        self, address: str, user: str | None = None, *, tier: str | None = None, priority: int = 0
    ) -> Lease:
        """Count a connection everywhere, or nowhere and say which limit was reached.

        Args:
            address: the IP address of the client; IPv4-mapped IPv6 counts as IPv4.
            user: who it is, None for an anonymous client.
            tier: the tier of that user; one that was not given limits counts as none.
            priority: kept with the lease.

        Raises:
            Refused: `server_limit`, `ip_limit`, `user_limit` or `tier_limit`.
        """
        identity = core.Identity(user, tier, priority) if user or tier else core.ANONYMOUS
        lease = self.counts.acquire(counted(address), identity)
        if isinstance(lease, core.Reject):
            raise rejected(lease)
        return self.held(lease)

    def held(self, lease: core.Lease) -> Lease:
        """Wrap a lease of `counts`, so that its release is heard of here."""
        return Lease(lease, self._release)

    def on_release(self, callback: Callable[[], None]) -> None:
        """Call back after every release, in the thread that released."""
        self._listeners.append(callback)

    def set_limits(
        self,
        *,
        connections: int | None = None,
        per_ip: int | None = None,
        per_user: int | None = None,
    ) -> None:
        """Change limits while connections are open; None leaves a limit as it is.

        A lower limit closes nobody: attempts are refused until the count is below it.

        Raises:
            ConfigError: a limit is out of its range; nothing has changed then.
        """
        old = self._limits
        self._limits = replace(
            old,
            connections=old.connections if connections is None else connections,
            per_ip=old.per_ip if per_ip is None else per_ip,
            per_user=old.per_user if per_user is None else per_user,
        )
        self.counts.apply(self._limits, self._tiers)
        self._tell()

    def of_address(self, address: str) -> int:
        """How many connections this address has."""
        return self.counts.ip_count(counted(address))

    def of_user(self, user: str) -> int:
        """How many connections this user has."""
        return self.counts.user_count(user)

    def of_tier(self, tier: str) -> int:
        """How many connections this tier has."""
        return self.counts.tier_count(tier)

    def stats(self) -> TrackerStats:
        """The counts, as they are now."""
        counts = self.counts
        return TrackerStats(
            counts.open,
            counts.peak,
            counts.limit,
            counts.utilization,
            counts.unique_ips,
            counts.unique_users,
        )

    def __len__(self) -> int:
        """How many connections hold a lease now."""
        return self.counts.open

    def _release(self, lease: core.Lease) -> None:
        if self.counts.release(lease):
            self._tell()

    def _tell(self) -> None:
        for callback in self._listeners:
            callback()
