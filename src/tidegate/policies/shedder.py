"""Load shedding: measured pressure, zones, and whom each of them admits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import random
from threading import Lock
from time import monotonic, process_time
from typing import Final

from tidegate.core.admission.shedding import Change, Signals, Zone
from tidegate.core.admission.shedding import LoadShedder as Zones
from tidegate.core.codes import SHEDDING
from tidegate.core.settings import Settings, SheddingSettings
from tidegate.gate.refused import refused
from tidegate.node.pressure.descriptors import descriptors_used_ratio
from tidegate.node.pressure.memory import Memory
from tidegate.node.pressure.signals import Sparing
from tidegate.policies.ticking import Ticking
from tidegate.policies.tracker import ConnectionTracker

__all__ = ["LoadShedder", "ShedderStats"]

_EVERY: Final = 0.25  # seconds between two readings, as in the server


@dataclass(frozen=True, slots=True)
class ShedderStats:
    """What the last readings mean. `since` is how many seconds the zone has lasted."""

    zone: str
    since: float
    pressure: float
    driver: str | None
    pressures: Mapping[str, float]


class LoadShedder:
    """Refuses attempts when the process is under pressure. Safe from any thread.

    As an async context manager it reads the signals of this process four times a second: CPU,
    event loop lag, memory, file descriptors and, with a `tracker`, connections. Or call `sample`
    with readings of your own.

        async with LoadShedder(tracker, on_change=print) as shedder:
            shedder.admit()          # raises Refused in a critical zone

    Args:
        tracker: its share of the limit counts as the signal `connections`.
        on_change: called with the `Change` when the zone becomes another one.
        clock: monotonic seconds.
        chance: a random number in [0, 1).
        settings: those of `[shedding]` by name, such as `critical=0.9` or `cpu=(0.5, 0.9)`.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        tracker: ConnectionTracker | None = None,
        *,
        on_change: Callable[[Change], None] | None = None,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random,
        **settings: object,
    ) -> None:
        whole = Settings.from_mapping({"shedding": {"enabled": True, **settings}})
        self._lock = Lock()
        self._tracker = tracker
        self._on_change = on_change
        self._clock = clock
        self._chance = chance
        self.zones = Zones(whole, clock())
        """The zones themselves, for policies that are built on them."""
        self._memory = Sparing(Memory().share)
        self._descriptors = Sparing(descriptors_used_ratio)
        self._cpu: tuple[float, float] | None = None
        self._ticking = Ticking(self._tick, lambda: _EVERY)

    @property
    def zone(self) -> Zone:
        """The present zone."""
        return self.zones.zone

    def admit(self, priority: int = 0) -> None:
        """Admit an attempt, or refuse it in a zone that has no room for its priority.

        Raises:
            Refused: `shedding`.
        """
        if not self.zones.admits(priority, self._chance()):
            raise refused(SHEDDING)

    def sample(self, signals: Signals | None = None, **readings: float | None) -> Change | None:
        """Take readings, and return the change of zone that they make, if any.

        Args:
            signals: the readings as one value.
            readings: or by name: `connections`, `memory` and `descriptors` as shares, 0 to 1;
                `loop_lag` in seconds; `cpu` in cores; `buffered` in bytes.
        """
        taken = replace(signals or Signals(), **readings)
        with self._lock:
            change = self.zones.sample(taken, self._clock())
        if change is not None and self._on_change is not None:
            self._on_change(change)
        return change

    def stats(self) -> ShedderStats:
        """What the last readings mean."""
        zones = self.zones
        return ShedderStats(
            zones.zone.label,
            self._clock() - zones.since,
            zones.pressure,
            zones.driver,
            dict(zones.pressures),
        )

    async def __aenter__(self) -> LoadShedder:
        self._ticking.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._ticking.stop()

    def _tick(self, lag: float) -> None:
        now = self._clock()
        counts = None if self._tracker is None else self._tracker.counts
        self.sample(
            connections=counts.utilization if counts is not None and counts.limit else None,
            loop_lag=lag,
            cpu=self._cores(now),
            memory=self._memory(now),
            descriptors=self._descriptors(now),
        )

    def _cores(self, now: float) -> float | None:
        used = process_time()
        last, self._cpu = self._cpu, (now, used)
        if last is None or now <= last[0]:
            return None
        return (used - last[1]) / (now - last[0])


def shedding_off() -> Zones:
    """Return zones that admit everybody, for a policy that works without a shedder."""
    return Zones(Settings(shedding=SheddingSettings(enabled=False)), 0.0)
