"""From a row of the table of reasons to the exception that Python code gets."""

from __future__ import annotations

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import Fault, Refusal
from tidegate.errors import Refused

__all__ = ["refused", "rejected"]


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


def rejected(reject: Reject) -> Refused:
    """Return the exception for a decision of the tracker."""
    return refused(reject.reason, reject.retry_after, reject.limit)
