"""The counts of which the tracker has many: of an address, and of a tier."""

from __future__ import annotations

from typing import Final, final

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import TIER_LIMIT, USER_LIMIT, Refusal
from tidegate.core.settings import LimitsSettings, Tier

__all__ = ["FAR", "Shared", "TierCount", "limit_reached"]

# A limit that is only tried out is far away; `explain` says what it would refuse.
FAR: Final = 1 << 62


@final
class Shared:
    """An address with several connections: their number, and the string that all leases share.

    Of an IPv6 network the string is shared by none: each lease has the address itself.
    """

    __slots__ = ("address", "count")

    def __init__(self, address: str) -> None:
        self.address = address
        self.count = 2


class TierCount:
    """The count of one tier beside its limits."""

    __slots__ = ("full", "limit", "nominal", "open", "per_user", "reserve", "tier", "user_full")

    def __init__(self, tier: Tier, limits: LimitsSettings) -> None:
        self.open = 0
        self.apply(tier, limits)

    def apply(self, tier: Tier, limits: LimitsSettings) -> None:
        """Take over other limits; the count stays."""
        limit = limits.connections if tier.connections is None else tier.connections
        per_user = limits.per_user if tier.per_user is None else tier.per_user
        self.tier = tier
        self.nominal = (limit, per_user)
        self.limit = FAR if limits.is_dry("tiers") else limit
        self.per_user = FAR if limits.is_dry("per_user") else per_user
        # Binary fractions fall just short of the whole: 0.29 * 100 is 28.999999999999996.
        self.reserve = int(tier.reserved * limits.connections + 1e-6)
        self.full = limit_reached(TIER_LIMIT, limit)
        self.user_full = limit_reached(USER_LIMIT, per_user)


def limit_reached(reason: Refusal, limit: int) -> Reject:
    """Return the rejection for a limit that is reached."""
    return Reject(reason, reason.retry_after, limit)
