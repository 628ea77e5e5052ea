"""A circuit breaker: too many refusals take this server out of rotation for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Final

from tidegate.core.admission.breaker import CircuitBreaker as Breaker
from tidegate.core.admission.breaker import State
from tidegate.core.codes import BREAKER
from tidegate.core.settings import BreakerSettings
from tidegate.gate.refused import refused

__all__ = ["BreakerStats", "CircuitBreaker"]

_DEFAULTS: Final = BreakerSettings()


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """`state` is `closed`, `open` or `half_open`; `retry_after` the seconds while it is open."""

    state: str
    retry_after: float | None


class CircuitBreaker:
    """Opens when there are too many refusals for lack of capacity. Safe from any thread.

    Ask it first (`check`), and tell it how every attempt ended (`admitted`, `rejected`). Do not
    tell it of refusals that a client causes itself, as by its own limit or a wrong token: one
    client could take the server from all others.

    Args:
        rejections: how many within the window open it.
        window: seconds.
        open_for: seconds for which it refuses all attempts.
        probes: how many admissions close it again afterwards.
        clock: monotonic seconds.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        rejections: int = _DEFAULTS.rejections,
        window: float = _DEFAULTS.window,
        open_for: float = _DEFAULTS.open_for,
        probes: int = _DEFAULTS.probes,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._lock = Lock()
        self._clock = clock
        self._breaker = Breaker(
            BreakerSettings(
                enabled=True, rejections=rejections, window=window, open_for=open_for, probes=probes
            )
        )

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`."""
        with self._lock:
            return self._breaker.state(self._clock()).value

    def check(self) -> None:
        """Let an attempt pass unless the breaker is open.

        Raises:
            Refused: `breaker`; `retry_after` is the time until it is half open.
        """
        with self._lock:
            now = self._clock()
            if self._breaker.state(now) is not State.OPEN:
                return
            delay = self._breaker.retry_after(now)
        raise refused(BREAKER, delay)

    def admitted(self) -> None:
        """Count an attempt that was admitted."""
        with self._lock:
            self._breaker.admitted(self._clock())

    def rejected(self) -> None:
        """Count an attempt that was refused for lack of capacity."""
        with self._lock:
            self._breaker.rejected(self._clock())

    def stats(self) -> BreakerStats:
        """The state, as it is now."""
        with self._lock:
            now = self._clock()
            state = self._breaker.state(now)
            return BreakerStats(
                state.value, self._breaker.retry_after(now) if state is State.OPEN else None
            )
