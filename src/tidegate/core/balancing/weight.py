"""Which share of new connections a process should get, in percent of what an idle one gets.

    pressure   0 ........ 0.70 ........ 0.85 ......... 0.95 ........ 1
    zone         normal         warning      critical      emergency
    weight       100 - 100 x pressure, but no more than
                 100            50           10            0

A balancer moves new connections only, so what it does is felt late. The weight therefore goes in
steps of 10 with a dead band: it falls at once, and rises by one step a second at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Load", "Weight", "wanted"]

_MOST: Final = {"normal": 100.0, "warning": 50.0, "critical": 10.0, "emergency": 0.0}
_STEP: Final = 10
_BAND: Final = 7.5  # more than half a step, so that a value between two steps stays with one
_RISE_SECONDS: Final = 1.0


class Load(NamedTuple):
    """What one process carries.

    Attributes:
        zone: `normal`, `warning`, `critical` or `emergency`.
        pressure: 0 to 1.
    """

    zone: str
    pressure: float


def wanted(loads: Sequence[Load | None]) -> float:
    """Return the weight of processes that share a port, 0 to 100: the mean of theirs.

    Args:
        loads: what each of them carries; None of one that should get nobody new.
    """
    if not loads:
        return 0.0
    return sum(_of(load) for load in loads) / len(loads)


def _of(load: Load | None) -> float:
    if load is None:
        return 0.0
    return max(0.0, min(_MOST[load.zone], 100.0 * (1.0 - load.pressure)))


class Weight:
    """A weight that follows what is wanted without swinging."""

    def __init__(self) -> None:
        self._shown: int | None = None
        self._changed = 0.0

    def follow(self, wanted: float, now: float) -> int:
        """Return the weight to show, in steps of 10 from 0 to 100.

        Who can take a few connections gets 10; 0 is for who should get none.

        Args:
            wanted: 0 to 100.
            now: monotonic seconds; never falls.
        """
        step = _step(wanted)
        shown = self._shown
        if shown is None or step == 0 or wanted < shown - _BAND:
            return self._show(step, now)
        rises = shown == 0 or wanted > shown + _BAND
        if rises and now - self._changed >= _RISE_SECONDS:
            return self._show(shown + _STEP, now)
        return shown

    def _show(self, step: int, now: float) -> int:
        if step != self._shown:
            self._shown, self._changed = step, now
        return step


def _step(wanted: float) -> int:
    if wanted <= 0:
        return 0
    return max(_STEP, _STEP * round(wanted / _STEP))
