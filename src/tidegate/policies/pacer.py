"""How fast new connections are admitted."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Final

from tidegate.core.admission.pacing import Pacer as Slots
from tidegate.core.codes import RATE_LIMITED
from tidegate.core.settings import PacingSettings
from tidegate.gate.refused import refused

__all__ = ["Pacer", "PacerStats"]

_DEFAULTS: Final = PacingSettings()


@dataclass(frozen=True, slots=True)
class PacerStats:
    """What was decided since the start."""

    admitted: int
    refused: int


class Pacer:
    """Admits `rate` new connections a second, `burst` at once after a quiet time.

    An attempt that is too early is given a slot of its own, so that a herd that comes at once comes
    back exactly as fast as you admit it. Safe from any thread.

    Args:
        rate: new connections a second, 0.1 to 1,000,000.
        burst: the most at once after a quiet time, from 1.
        per_key: the most slots that are kept for one key (an address or a user).
        clock: monotonic seconds.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        rate: float = _DEFAULTS.rate,
        burst: int = _DEFAULTS.burst,
        *,
        per_key: int = 100,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        checked = PacingSettings(rate=rate, burst=burst)
        self._lock = Lock()
        self._clock = clock
        self._per_key = max(1, per_key)
        self.slots = Slots(checked.rate, checked.burst, per_key=self._per_key)
        """The slots themselves, for policies that are built on them."""
        self._admitted = self._refused = 0

    def admit(self, key: Hashable) -> None:
        """Admit an attempt of this key (its address, say), or refuse it with its delay.

        Ask last, when no other policy refuses: an attempt that is admitted uses up one of the rate.

        Raises:
            Refused: `rate_limited`; `retry_after` is the time until its own slot, 1 s or more.
        """
        with self._lock:
            now = self._clock()
            delay = self.slots.ask(key, now)
            if not delay:
                self.slots.admitted(now)
                self._admitted += 1
                return
            self._refused += 1
        raise refused(RATE_LIMITED, max(1.0, delay))

    def set_rate(self, rate: float, burst: int) -> None:
        """Change the rate and the burst; slots that were given stay valid.

        Raises:
            ConfigError: a number is out of its range; nothing has changed then.
        """
        checked = PacingSettings(rate=rate, burst=burst)
        with self._lock:
            self.slots.apply(checked.rate, checked.burst, per_key=self._per_key, now=self._clock())

    def stats(self) -> PacerStats:
        """What was decided so far."""
        return PacerStats(self._admitted, self._refused)
