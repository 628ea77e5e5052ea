"""Between rows of the table of reasons and the exception that Python code gets and raises."""

from __future__ import annotations

from math import inf
from typing import Final

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import (
    BACKPLANE_DOWN,
    FLEET_DOWN,
    REASONS,
    ROOM_FULL,
    ROOM_LIMIT,
    Fault,
    Refusal,
)
from tidegate.errors import Refused, UsageError

__all__ = ["not_joined", "refuse", "refused", "reject_of", "rejected"]

# A client that comes for a room and cannot join it is refused like one that comes for the server.
_OF_ROOMS: Final = {ROOM_LIMIT.name: ROOM_FULL, BACKPLANE_DOWN.name: FLEET_DOWN}


def refuse(reason: str, retry_after: float | None = None) -> Refused:
    """Make a refusal, to return or to raise where a client is identified, joins or publishes.

    Args:
        reason: of the table of reasons. For an attempt, a refusal such as "unauthorized" or
            "forbidden", which has an HTTP status and a close code; for a message, an error such as
            "refused" or "not_allowed".
        retry_after: seconds after which the client may come back; the usual delay of the reason
            when None.

    Raises:
        UsageError: there is no such reason, or the delay is negative or infinite.
    """
    row = REASONS.get(reason)
    if not isinstance(row, Refusal | Fault):
        names = ", ".join(row.name for row in REASONS.values() if isinstance(row, Refusal | Fault))
        raise UsageError(f"reason must be one of {names}, not {reason!r}")
    if retry_after is not None and not 0 <= retry_after < inf:
        raise UsageError(f"retry_after must be 0 or more seconds, not {retry_after}")
    return refused(row, retry_after)


def refused(
    reason: Refusal | Fault, retry_after: float | None = None, limit: int | None = None
) -> Refused:
    """Return the exception for a reason; the delay of the table counts where none is given."""
    status, code = (reason.status, reason.code) if isinstance(reason, Refusal) else (None, None)
    return Refused(
        reason.name,
        reason.message,
        retry_after=reason.retry_after if retry_after is None else retry_after,
        status=status,
        close_code=code,
        limit=limit,
    )


def not_joined(fault: Fault) -> Refused:
    """Return the exception for a room that cannot be joined."""
    return refused(_OF_ROOMS.get(fault.name, fault))


def rejected(reject: Reject) -> Refused:
    """Return the exception for a decision of the tracker."""
    return refused(reject.reason, reject.retry_after, reject.limit)


def reject_of(refusal: Refused) -> Reject:
    """Return the decision that an exception stands for.

    Raises:
        UsageError: its reason is no refusal of the table.
    """
    row = REASONS.get(refusal.reason)
    if not isinstance(row, Refusal):
        raise UsageError(f"{refusal.reason!r} is no reason to refuse an attempt; see refuse()")
    return Reject(row, refusal.retry_after, refusal.limit)
