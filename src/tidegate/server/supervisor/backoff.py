"""How long a worker that has died stays away: not at all, unless it keeps dying at its start."""

from __future__ import annotations

from typing import Final

__all__ = ["Backoff"]

_STEADY_SECONDS: Final = 10.0
_FIRST_SECONDS: Final = 0.25
_MOST_SECONDS: Final = 15.0


class Backoff:
    """Says when the next worker is started in the place of one that has died."""

    def __init__(self) -> None:
        self._deaths = 0

    def after(self, lived: float) -> float:
        """Return the seconds to wait after a worker that lived for so many seconds.

        The first death is followed by a start at once. Each further one that comes within ten
        seconds doubles the wait, up to 15 seconds.
        """
        if lived >= _STEADY_SECONDS:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        return float(min(_MOST_SECONDS, _FIRST_SECONDS * 2 ** (self._deaths - 2)))
