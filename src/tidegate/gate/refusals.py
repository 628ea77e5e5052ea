"""The refusals of a node: how many for each reason, and the last of them in full."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from tidegate.wire.codecs import TOKEN_PREFIX

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Attempt, Reject
    from tidegate.core.codes import Refusal
    from tidegate.core.stats import Stats

__all__ = ["Refusals", "Refused", "Tally"]

_KEPT: Final = 200
_LONGEST: Final = 200
_HIDDEN: Final = f"{TOKEN_PREFIX}********"


class Refused(NamedTuple):
    """One refused attempt. `at` is in Unix seconds, `retry_after` in seconds.

    What the peer sent is cut to 200 characters, tokens are not in it, and what it did not send is
    empty. `detail` is what exactly was wrong, where the reason alone does not say so.
    """

    at: float
    address: str
    user: str | None
    tier: str | None
    reason: Refusal
    retry_after: float | None
    limit: int | None
    path: str = ""
    host: str = ""
    origin: str = ""
    subprotocols: str = ""
    user_agent: str = ""
    detail: str = ""


class Tally:
    """The refusals for one reason: how many there were since `Refusals.news`, and the last one."""

    __slots__ = ("last", "since")

    def __init__(self, last: Refused) -> None:
        self.last = last
        self.since = 0


class Refusals:
    """Counts every refusal in `stats.rejected`, and keeps the last 200 and the last of each reason.

    `headers` are those of the request, with names in lower case.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._last: deque[Refused] = deque(maxlen=_KEPT)
        self._tallies: dict[str, Tally] = {}

    def count(self, reason: Refusal) -> None:
        """Count a refusal of which nothing else is to be told."""
        self._stats.rejected[reason.name] += 1

    def note(
        self,
        reason: Refusal,
        wall: float,
        address: str,
        *,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        """Count the refusal of a request that is no valid attempt, and keep it."""
        seen = _seen(path, headers)
        self._keep(Refused(wall, address, None, None, reason, None, None, *seen, detail))

    def add(
        self,
        attempt: Attempt,
        reject: Reject,
        wall: float,
        headers: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        """Count the refusal of a valid attempt, and keep it; `wall` is in Unix seconds."""
        reason, retry_after, limit = reject
        who = attempt.identity
        seen = _seen(attempt.path, headers)
        self._keep(
            Refused(
                wall, attempt.address, who.user, who.tier, reason, retry_after, limit, *seen, detail
            )
        )

    def _keep(self, refused: Refused) -> None:
        name = refused.reason.name
        self._stats.rejected[name] += 1
        self._last.append(refused)
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally(refused)
        tally.last = refused
        tally.since += 1

    def news(self) -> Iterator[tuple[int, Refused]]:
        """Yield how many refusals there were for each reason since the last call, and the last."""
        for tally in self._tallies.values():
            if tally.since:
                count, tally.since = tally.since, 0
                yield count, tally.last

    def reasons(self) -> Iterator[Refused]:
        """Yield the last refusal for each reason that there was."""
        return (tally.last for tally in self._tallies.values())

    def __iter__(self) -> Iterator[Refused]:
        """Return the refusals that are kept, the newest first."""
        return reversed(self._last)

    def __len__(self) -> int:
        return len(self._last)


def _seen(path: str, headers: Mapping[str, str] | None) -> tuple[str, str, str, str, str]:
    if headers is None:
        return path[:_LONGEST], "", "", "", ""
    get = headers.get
    offered = get("sec-websocket-protocol", "")
    if TOKEN_PREFIX in offered:
        names = (name.strip() for name in offered.split(","))
        offered = ", ".join(_HIDDEN if TOKEN_PREFIX in name else name for name in names)
    return (
        path[:_LONGEST],
        get("host", "")[:_LONGEST],
        get("origin", "")[:_LONGEST],
        offered[:_LONGEST],
        get("user-agent", "")[:_LONGEST],
    )
