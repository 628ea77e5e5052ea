"""Who may have how many of the file descriptors of the process.

    0 . . . . . . . . . . . . . . . . . . . . . . . . . . . . . limit
    | connections, and all else that is open | attempts | others |

The kernel gives a new descriptor the lowest number that is free (POSIX, section 2.6), so the number
of a socket says how many are in use, and nobody has to count. Connections stay below the attempts'
share: a server whose descriptors have run out reads requests, answers health checks, and refuses
with a reason. Clients stay below the others' share, which is for the admin listener, for files and
for what the application opens.
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

__all__ = ["Shares"]

_PART: Final = 8  # of the limit: one in eight
_ATTEMPTS: Final = (16, 8192)  # at least, at most; a TLS handshake takes some 50 KB of memory
_OTHERS: Final = (8, 64)
_LINGERING: Final = 1024  # more of them would only make the looks at each rarer


class Shares(NamedTuple):
    """The shares of one process, in descriptors."""

    connections: int
    """A connection has a lower number than this, when no attempt holds one."""
    attempts: int
    """How many attempts may be unfinished at a time."""
    others: int
    """How many no client may have."""

    @classmethod
    def of(cls, limit: int | None) -> Shares:
        """Return the shares of a process that may have so many descriptors; None is no limit."""
        most = sys.maxsize if limit is None else limit
        attempts = _within(_ATTEMPTS, most // _PART)
        others = _within(_OTHERS, most // _PART)
        return cls(max(0, most - attempts - others), attempts, others)

    @property
    def lingering(self) -> int:
        """How many of the attempts may be answered, and wait for the client to read it."""
        return min(_LINGERING, self.attempts // 4)

    @property
    def openings(self) -> int:
        """How many of the attempts may wait for bytes or for a decision."""
        return self.attempts - self.lingering

    @property
    def clients(self) -> int:
        """The descriptor of a client, admitted or not, has a lower number than this."""
        return self.connections + self.attempts


def _within(bounds: tuple[int, int], number: int) -> int:
    low, high = bounds
    return max(low, min(high, number))
