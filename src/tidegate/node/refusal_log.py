"""Refusals in the log: a line a second at the most for each reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tidegate.gate.refusals import Refusals, Refused

__all__ = ["RefusalLog"]

_log = logging.getLogger("tidegate")

_SECONDS: Final = 1.0


class RefusalLog:
    """Logs how many attempts were refused for each reason, and the last of them as an example."""

    __slots__ = ("_next", "_refusals")

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._next = 0.0

    def tick(self, now: float) -> None:
        """Log what there is, if the last time was a second ago."""
        if now < self._next:
            return
        self._next = now + _SECONDS
        self.write()

    def write(self) -> None:
        """Log what there is."""
        for count, last in self._refusals.news():
            _log.info("refused", extra={"reason": last.reason.name, "count": count, **_of(last)})


def _of(refused: Refused) -> dict[str, Any]:
    known = {
        "detail": refused.detail,
        "address": refused.address,
        "user": refused.user,
        "path": refused.path,
        "host": refused.host,
        "origin": refused.origin,
        "subprotocols": refused.subprotocols,
        "user_agent": refused.user_agent,
    }
    return {name: value for name, value in known.items() if value}
