"""When each connection of a draining server gets its notice, and when it is closed.

    start   notice                                        last close    deadline
      |       |                                                |           |
      +-------+------------------------------------------------+-----------+
      | all   | one close after the other, at even distances   | handshakes|
      | told  |                                                | end       |

A client is told its slot as the delay to reconnect after. Whether it leaves at the notice or stays
until it is closed, it comes to the other servers at that time: they are spread over the window.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["DrainSchedule"]

# Longest time for the notices, in seconds and as a share of the window. All at once is a burst.
_NOTICE: Final = 1.0
_NOTICE_SHARE: Final = 0.04

# Share of the window after which the last close is sent: its handshake takes time as well.
_CLOSES: Final = 0.96

# How much faster than evenly over the whole window the closes may be, to catch up when late.
# On their way to the clients closes move closer together; there it must not be more than 1.2.
_FASTEST: Final = 1.15


class DrainSchedule:
    """The schedule of `total` connections over `window` seconds from `now` (monotonic).

    The caller numbers its connections once, from 0, and asks about every 50 ms: first `told`,
    then `due`. A window of 0 closes all at once.
    """

    __slots__ = (
        "_closed",
        "_first",
        "_most",
        "_notice",
        "_recent",
        "_recently",
        "_start",
        "_step",
        "_total",
        "deadline",
    )

    def __init__(self, total: int, window: float, now: float) -> None:
        self.deadline = now + window
        self._total = total
        self._start = now
        self._notice = self._first = min(_NOTICE, _NOTICE_SHARE * window)
        self._step = (_CLOSES * window - self._first) / total if total else 0.0
        # At a rate below one a second, there is one in some seconds.
        # Within less than a second there may be all.
        self._most = math.ceil(_FASTEST * total / max(1.0, window))
        self._closed = 0
        # How many became due at which moments of the last second, and all together.
        self._recent: deque[tuple[float, int]] = deque()
        self._recently = 0

    def told(self, now: float) -> int:
        """Return how many connections, the first ones, must have had their notice by `now`.

        All have it before the first one is due to be closed.
        """
        elapsed = now - self._start
        if elapsed >= self._notice:
            return self._total
        return math.ceil(self._total * elapsed / self._notice)

    def slot(self, index: int) -> float:
        """Return the seconds from the start to the close of a connection, by its number.

        The client is told them as the delay to reconnect after. They are exact as long as `due`
        is asked for in time.
        """
        return self._first + index * self._step

    def due(self, now: float) -> int:
        """Return how many connections, the first ones, must be closed by `now`.

        The caller closes those at once; the number never falls. No second has more closes than
        1.15 times the total divided by the window, rounded up. A call that comes late catches up
        within that bound. Connections that are left at the `deadline` are to be aborted.
        """
        recent = self._recent
        while recent and recent[0][0] <= now - 1.0:
            self._recently -= recent.popleft()[1]
        more = min(self._scheduled(now) - self._closed, self._most - self._recently)
        if more > 0:
            recent.append((now, more))
            self._recently += more
            self._closed += more
        return self._closed

    def _scheduled(self, now: float) -> int:
        late = now - self._start - self._first
        if late < 0:
            return 0
        return min(self._total, int(late / self._step) + 1) if self._step else self._total
