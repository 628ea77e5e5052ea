"""Who has logged in to the dashboard."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from time import monotonic
from typing import Final

from tidegate.core.timing.rates import TokenBucket

__all__ = ["COOKIE", "Sessions"]

COOKIE: Final = "tidegate_session"
"""The name of the cookie."""

_SECONDS: Final = 12 * 3600.0
_MOST: Final = 100  # one more ends the oldest
_TRIES_PER_SECOND: Final = 0.5
_TRIES: Final = 10.0


class Sessions:
    """Sessions of operators, in memory only: after a restart they log in again.

    Args:
        token: the admin token; None where there is none, and nobody can log in.
        clock: monotonic seconds.
    """

    def __init__(self, token: str | None, clock: Callable[[], float] = monotonic) -> None:
        self._token = token.encode() if token else None
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._tries = TokenBucket(_TRIES_PER_SECOND, _TRIES)

    def log_in(self, token: str) -> str | float | None:
        """Return the id of a new session; None for a wrong token.

        After ten tries there is one in two seconds: the seconds until the next are returned then.
        """
        if self._token is None:
            return None
        now = self._clock()
        wait = self._tries.take(1, now)
        if wait:
            return wait
        if not hmac.compare_digest(token.encode(errors="surrogatepass"), self._token):
            return None
        if len(self._ends) >= _MOST:
            del self._ends[next(iter(self._ends))]
        session = secrets.token_urlsafe(32)
        self._ends[session] = now + _SECONDS
        return session

    def knows(self, session: str) -> bool:
        """Tell whether a session goes on."""
        end = self._ends.get(session)
        if end is None:
            return False
        if self._clock() >= end:
            del self._ends[session]
            return False
        return True

    def log_out(self, session: str) -> None:
        """End a session, if there is such a one."""
        self._ends.pop(session, None)
