"""The values that admission works with: who asks, and what is said to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from tidegate.core.codes import Reason

__all__ = ["ANONYMOUS", "Attempt", "Identity", "Lease", "Reject", "Step", "Verdict"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection belongs to, as its token says.

    ``expires_at`` is in Unix seconds, None for never. A ``tier`` that the settings do not name
    counts as no tier.
    """

    user: str | None = None
    tier: str | None = None
    priority: int = 0
    expires_at: float | None = None


ANONYMOUS: Final = Identity()
"""The identity of a connection without a token."""


class Lease:
    """The slot that one admitted connection holds in every count, made only by the tracker.

    (A connection that waits to be let in has one that is not held, to say who waits.)

    Give it back with ``ConnectionTracker.release`` when the connection ends, whatever the cause.
    ``user`` and ``tier`` are what the lease is counted under, None for not at all; ``priority``
    is that of the identity.
    """

    __slots__ = ("address", "held", "priority", "tier", "user")

    def __init__(self, address: str, user: str | None, tier: str | None, priority: int = 0) -> None:
        self.address = address
        self.user = user
        self.tier = tier
        self.priority = priority
        self.held = True

    def __repr__(self) -> str:
        state = "held" if self.held else "released"
        return f"<Lease {state} address={self.address!r} user={self.user!r} tier={self.tier!r}>"


class Reject(NamedTuple):
    """An attempt is refused: why, when to come back, and how much there is.

    ``retry_after`` is in seconds, None for not at all. (HTTP has whole seconds only: round up.)
    ``limit`` is the limit that was reached (None when the reason is not a limit) and ``remaining``
    what is left of it.
    """

    reason: Reason
    retry_after: float | None
    limit: int | None = None
    remaining: int = 0


Verdict = Lease | Reject


@dataclass(slots=True)
class Attempt:
    """One request to open a WebSocket, valid as a request, not yet admitted.

    ``address`` is the client's own address, behind any trusted proxy. ``native`` says that the
    client offered the native subprotocol, so it can be told things in-band.
    """

    address: str
    path: str
    identity: Identity = ANONYMOUS
    native: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one policy says of an attempt, and why: for people, beside the verdict.

    ``name`` is the policy's (one of ``core.settings.POLICIES``, or a step that cannot be tried
    out), ``detail`` a sentence without its full stop, ``numbers`` what it was decided by.
    """

    name: str
    passed: bool
    detail: str
    numbers: Mapping[str, float | int | str | None]
