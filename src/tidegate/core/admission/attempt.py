"""The values that admission works with: attempts, who they belong to, and the decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from tidegate.core.codes import Refusal

__all__ = ["ANONYMOUS", "Attempt", "Claims", "Identity", "Lease", "Reject", "Step"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says about rooms and presence, beside who its user is.

    `rooms` are patterns of rooms that it may join where their rule asks the token, `join` are the
    rooms that the server joins it to, `info` is what others see of it (JSON, None for nothing),
    `operator` is whether it may send to everybody.
    """

    rooms: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    info: bytes | None = None
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection belongs to, as its token says.

    `expires_at` is in Unix seconds, None for never. A `tier` that the settings do not name counts
    as no tier. `claims` is None where the token has none of those.
    """

    user: str | None = None
    tier: str | None = None
    priority: int = 0
    expires_at: float | None = None
    claims: Claims | None = None


ANONYMOUS: Final = Identity()
"""The identity of a connection without a token."""


@final
class Lease:
    """The capacity that one admitted connection holds in every count, made only by the tracker.

    Give it back with `ConnectionTracker.release` when the connection ends, whatever the cause.
    `user` and `tier` are what the lease is counted under, None for not at all; `priority` is that
    of the identity, and so are `claims`. `address` is the same string object in all leases of an
    IPv4 address. `fleet` are the counts of the fleet that the lease is in, by name.
    """

    __slots__ = ("address", "claims", "fleet", "held", "priority", "tier", "user")

    def __init__(
        self,
        address: str,
        user: str | None,
        tier: str | None,
        priority: int = 0,
        claims: Claims | None = None,
    ) -> None:
        self.address = address
        self.user = user
        self.tier = tier
        self.priority = priority
        self.claims = claims
        self.held = True
        self.fleet: tuple[str, ...] = ()

    @classmethod
    def unheld(
        cls,
        address: str,
        user: str | None,
        tier: str | None,
        priority: int = 0,
        claims: Claims | None = None,
    ) -> Lease:
        """Make one that holds no capacity, for a connection that waits to be admitted."""
        lease = cls(address, user, tier, priority, claims)
        lease.held = False
        return lease

    def __repr__(self) -> str:
        state = "held" if self.held else "not held"
        return f"<Lease {state} address={self.address!r} user={self.user!r} tier={self.tier!r}>"


@final
class Reject(NamedTuple):
    """The decision to refuse an attempt.

    `retry_after` is in seconds, None for not at all. (HTTP has whole seconds only: round up.)
    `limit` is the limit that was reached, None when the reason is not a limit.
    """

    reason: Refusal
    retry_after: float | None
    limit: int | None = None


@dataclass(slots=True)
class Attempt:
    """One request to open a WebSocket, valid as a request, not yet admitted.

    `address` is the client's own address, behind any trusted proxy. `in_band` says that the client
    offered a subprotocol in which it can be told things in-band.
    """

    address: str
    path: str
    identity: Identity = ANONYMOUS
    in_band: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one policy says of an attempt, and why: for people, beside the decision.

    `name` is the policy's (one of `core.settings.POLICIES`, or a step that cannot be tried out),
    `detail` a sentence without its full stop, `numbers` what it was decided by.
    """

    name: str
    passed: bool
    detail: str
    numbers: Mapping[str, float | int | str | None]
