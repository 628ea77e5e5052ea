"""The gate: the ordered steps that every attempt goes through.

Cheap steps come before authentication (``precheck``), those that need to know who asks after it
(``admit``). A refused attempt is a verdict, never an exception, and holds nothing.
"""

from __future__ import annotations

from typing import Final

from tidegate.core.attempt import Attempt, Rejection, Verdict
from tidegate.core.codes import DRAINING, UNAUTHORIZED
from tidegate.core.settings import Settings
from tidegate.core.tracker import ConnectionTracker

__all__ = ["Admission"]

_DRAINING: Final = Rejection(DRAINING, DRAINING.retry_after)
_UNAUTHORIZED: Final = Rejection(UNAUTHORIZED, UNAUTHORIZED.retry_after)


class Admission:
    """Decides who gets in. Set ``draining`` to let nobody in any more."""

    __slots__ = ("_anonymous", "_late", "_tracker", "draining")

    def __init__(self, settings: Settings, tracker: ConnectionTracker) -> None:
        self._tracker = tracker
        self._anonymous = settings.auth.anonymous
        self._late = settings.auth.first_message
        self.draining = False

    # Every step is asked about a moment, also while none of the present ones needs to know it.
    def precheck(self, address: str, now: float) -> Rejection | None:  # noqa: ARG002
        """The steps that need no identity; None when the attempt may go on to authentication.

        ``now`` is in monotonic seconds. Nothing is taken yet.
        """
        if self.draining:
            return _DRAINING
        return self._tracker.ip_rejection(address)

    def admit(self, attempt: Attempt, now: float) -> Verdict:  # noqa: ARG002
        """All steps, for an attempt that is valid in full and whose identity is known.

        ``now`` is in monotonic seconds. A lease must be released when the connection ends,
        a failed upgrade included.
        """
        # The drain may have begun while the attempt was being authenticated.
        if self.draining:
            return _DRAINING
        identity = attempt.identity
        # A native client may still say who it is in its first message.
        if identity.user is None and not (self._anonymous or (self._late and attempt.native)):
            return _UNAUTHORIZED
        return self._tracker.acquire(attempt.address, identity)
