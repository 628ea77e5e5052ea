"""The refusals of a node: how many for each reason, and the last of them in full."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Attempt, Reject
    from tidegate.core.codes import Refusal
    from tidegate.core.stats import Stats

__all__ = ["Refusals", "Refused"]

_KEPT: Final = 200


class Refused(NamedTuple):
    """One refused attempt. `at` is in Unix seconds, `retry_after` in seconds."""

    at: float
    address: str
    user: str | None
    tier: str | None
    reason: Refusal
    retry_after: float | None
    limit: int | None


class Refusals:
    """Counts every refusal in `stats.rejected`, and keeps the last 200 of valid attempts."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._last: deque[Refused] = deque(maxlen=_KEPT)

    def count(self, reason: Refusal) -> None:
        """Count a refusal of a request that is no valid attempt."""
        self._stats.rejected[reason.name] += 1

    def add(self, attempt: Attempt, reject: Reject, wall: float) -> None:
        """Count the refusal of a valid attempt, and keep it; `wall` is in Unix seconds."""
        reason = reject.reason
        self._stats.rejected[reason.name] += 1
        who = attempt.identity
        self._last.append(
            Refused(
                wall,
                attempt.address,
                who.user,
                who.tier,
                reason,
                reject.retry_after,
                reject.limit,
            )
        )

    def __iter__(self) -> Iterator[Refused]:
        """Return the refusals that are kept, the newest first."""
        return reversed(self._last)

    def __len__(self) -> int:
        return len(self._last)
