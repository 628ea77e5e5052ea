"""Warnings that may come often, and must not fill the log."""

from __future__ import annotations

import logging
from time import monotonic

__all__ = ["Warner"]

_log = logging.getLogger("tidegate")

_SECONDS = 1.0


class Warner:
    """Logs a warning at most once a second, and says how many were left out."""

    __slots__ = ("_at", "_left_out")

    def __init__(self) -> None:
        self._at = float("-inf")
        self._left_out = 0

    def __call__(self, text: str) -> None:
        """Log ``text``, or count it."""
        now = monotonic()
        if now < self._at + _SECONDS:
            self._left_out += 1
            return
        more = f" ({self._left_out} more warnings since)" if self._left_out else ""
        self._at, self._left_out = now, 0
        _log.warning("%s%s", text, more)
