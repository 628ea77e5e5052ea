"""Pressure, the zone that it means, and what a zone allows.

Every signal is mapped to a pressure from 0 to 1 between its two ends; the pressure of the node is
the highest of them, and the signal that it comes from is its driver. The zones:

    pressure   0 ........ 0.70 ........ 0.85 ......... 0.95 ........ 1
    zone         normal         warning      critical      emergency
    admits       all            all          a share       only priority

A zone is entered at once. It is left, directly for the one that fits, when the pressure has been
below its threshold by the hysteresis for the hold time. So a pressure that varies around a
threshold by less than the hysteresis makes one change, and any other at most one rise into a zone
and one fall out of it in each hold time.

CPU and loop lag are averaged first, because one reading of them says little: at any moment a core
is either busy or idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from operator import itemgetter
from typing import Final, TypeVar

from tidegate.core.admission.attempt import Step
from tidegate.core.settings import Settings

__all__ = ["Change", "LoadShedder", "Profile", "Signals", "Zone"]

T = TypeVar("T")

_SMOOTHED: Final = ("cpu", "loop_lag")


class Zone(IntEnum):
    """What the pressure means."""

    NORMAL = 0
    WARNING = 1
    CRITICAL = 2
    EMERGENCY = 3

    @property
    def label(self) -> str:
        """The zone's name as it is shown: `normal` to `emergency`."""
        return self.name.lower()


_RAISED: Final = (Zone.WARNING, Zone.CRITICAL, Zone.EMERGENCY)


@dataclass(frozen=True, slots=True)
class Signals:
    """What was measured. None where there is nothing to measure, as memory without a limit.

    `connections`, `memory` and `descriptors` are shares of their limits, 0 to 1. `loop_lag` is
    the longest delay of the event loop since the last sample, in seconds; `cpu` the CPU time of
    the process a second since then, in cores; `buffered` the bytes in all outboxes.
    """

    connections: float | None = None
    loop_lag: float | None = None
    cpu: float | None = None
    memory: float | None = None
    descriptors: float | None = None
    buffered: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What admitted connections may do.

    `max_message_size` is in bytes, `messages_per_second` counts for one connection (0 for no
    limit), `ping_interval` is in seconds. `broadcast`: clients may publish to rooms.
    """

    broadcast: bool
    max_message_size: int
    messages_per_second: float
    ping_interval: float


@dataclass(frozen=True, slots=True)
class Change:
    """The zone changed at `at` (monotonic seconds), because of a pressure and its driver."""

    old: Zone
    new: Zone
    pressure: float
    driver: str | None
    at: float


class LoadShedder:
    """Measures pressure, and says which attempts it admits and which connections it closes.

    It also measures while `shedding.enabled` is false, and while shedding is only tried out
    (`limits.dry_run`): the zone is known then, but its profile is that of normal, and no
    connection is closed. `admits` refuses also when tried out, for the caller to count.
    """

    __slots__ = (
        "_acceptance",
        "_acts",
        "_averages",
        "_enabled",
        "_enter",
        "_hold",
        "_idle_after",
        "_leave",
        "_min_priority",
        "_profiles",
        "_ranges",
        "_sampled",
        "_shed_at",
        "_shed_every",
        "_shed_share",
        "_smoothing",
        "_touched",
        "driver",
        "pressure",
        "pressures",
        "since",
        "zone",
    )

    zone: Zone
    """The present zone."""
    since: float
    """When the zone became the present one, in monotonic seconds."""
    pressure: float
    """The highest pressure of the last sample, 0 to 1."""
    driver: str | None
    """The signal that it comes from; None while there is no pressure at all."""
    pressures: Mapping[str, float]
    """The pressure of every signal of the last sample."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._averages = dict.fromkeys(_SMOOTHED, 0.0)
        self._touched = [-math.inf] * len(Zone)
        self._sampled = now
        self._shed_at = -math.inf
        self.apply(settings)
        self.zone = Zone.NORMAL
        self.since = now
        self.pressure = 0.0
        self.driver = None
        self.pressures = {}

    def apply(self, settings: Settings) -> None:
        """Take over other settings, those of the profiles too; shedding may be switched on or off.

        The zone and the averages stay: the next sample is judged by the new thresholds.
        """
        own = settings.shedding
        self._enabled = own.enabled
        self._acts = own.enabled and not settings.limits.is_dry("shedding")
        self._ranges = own.ranges()
        # As in `sample`: an average is never beyond the end, and is none of a signal left out.
        for name, average in self._averages.items():
            self._averages[name] = min(average, self._ranges.get(name, (0.0, 0.0))[1])
        self._smoothing = own.smoothing
        self._hold = own.hold
        self._enter = (0.0, own.warning, own.critical, own.emergency)
        self._leave = tuple(threshold - own.hysteresis for threshold in self._enter)
        self._acceptance = own.critical_acceptance
        self._min_priority = own.min_priority
        self._idle_after = own.idle_after
        self._shed_every = own.shed_every
        self._shed_share = own.shed_share
        self._profiles = _profiles(settings)

    @property
    def acts(self) -> bool:
        """Whether the zone has consequences: shedding is on, and not only tried out."""
        return self._acts

    @property
    def profile(self) -> Profile:
        """What the present zone allows."""
        return self._profiles[self.zone if self._acts else Zone.NORMAL]

    @property
    def degraded(self) -> bool:
        """Whether that is less than what is allowed in the normal zone."""
        return self.profile != self._profiles[Zone.NORMAL]

    def prefers(self, priority: int) -> bool:
        """Whether pressure neither refuses nor closes a client of this priority."""
        return priority >= self._min_priority

    def idle(self, last_active: float, now: float) -> bool:
        """Whether an emergency may close a connection that has been silent since then."""
        return last_active <= now - self._idle_after

    def sample(self, signals: Signals, now: float) -> Change | None:
        """Take new readings, and return the change of zone that they make, if any.

        Call it regularly, a few times a second; `now` is in monotonic seconds.
        """
        weight = 1.0 - math.exp((self._sampled - now) / self._smoothing)
        self._sampled = now
        pressures: dict[str, float] = {}
        for name, (low, high) in self._ranges.items():
            reading = getattr(signals, name)
            if reading is None:
                continue
            # A reading beyond the end is no worse, and must not take longer to be forgotten.
            value = min(reading, high)
            if name in _SMOOTHED:
                average = self._averages[name]
                self._averages[name] = value = average + weight * (value - average)
            pressures[name] = max(0.0, (value - low) / (high - low))
        self.pressures = pressures
        self.pressure = max(pressures.values(), default=0.0)
        self.driver = max(pressures, key=pressures.__getitem__) if self.pressure else None
        return self._move(now)

    def admits(self, priority: int, chance: float) -> bool:
        """Whether an attempt of this priority is admitted; `chance` is random, in [0, 1)."""
        zone = self.zone
        if zone < Zone.CRITICAL or not self._enabled or self.prefers(priority):
            return True
        return zone is Zone.CRITICAL and chance < self._acceptance

    def shed(self, idle: Iterable[tuple[float, T]], total: int, now: float) -> list[T]:
        """Return the connections to close now: the longest idle, at most a share of all.

        `idle` yields the time of the last message and the connection, for every connection
        without priority; it is only read when closes are due. `total` is the number of all
        connections. O(n log n) then. Mostly, no connection is to be closed.
        """
        if self.zone is not Zone.EMERGENCY or not self._acts:
            return []
        if now < self._shed_at + self._shed_every:
            return []
        self._shed_at = now
        # Binary fractions fall just short of the whole: 0.29 * 100 is 28.999999999999996.
        count = int(total * self._shed_share + 1e-6)
        # A share of all is so many that sorting them all takes less time than a heap.
        longest = sorted((c for c in idle if self.idle(c[0], now)), key=itemgetter(0))
        return [connection for _, connection in longest[:count]]

    def explain(self, priority: int) -> Step:
        """Say what happens to an attempt of this priority, and by which numbers."""
        zone, share = self.zone.label, 1.0
        if not self._enabled:
            detail = f"shedding is off; the zone is {zone}"
        elif self.zone < Zone.CRITICAL:
            detail = f"{zone}: all attempts are admitted"
        elif priority >= self._min_priority:
            detail = f"{zone}: attempts with priority {self._min_priority} or more are admitted"
        else:
            share = self._acceptance if self.zone is Zone.CRITICAL else 0.0
            detail = f"{zone}: {share:.0%} of the attempts without priority are admitted"
        numbers: dict[str, float | int | str | None] = {
            "zone": zone,
            "pressure": self.pressure,
            "driver": self.driver,
            "priority": priority,
            "min_priority": self._min_priority,
            "share": share,
        }
        numbers |= {f"{name}_pressure": value for name, value in self.pressures.items()}
        return Step("shedding", share > 0.0, detail, numbers)

    def _move(self, now: float) -> Change | None:
        old, new = self.zone, Zone.NORMAL
        for zone in _RAISED:
            if self.pressure >= self._leave[zone]:
                self._touched[zone] = now
            stays = zone <= old and now - self._touched[zone] <= self._hold
            if stays or self.pressure >= self._enter[zone]:
                new = zone
        if new is old:
            return None
        self.zone = new
        self.since = now
        return Change(old, new, self.pressure, self.driver, now)


def _profiles(settings: Settings) -> tuple[Profile, ...]:
    """A profile for each zone: the normal settings, made stricter by those of the zone."""
    zones, messages = settings.zones, settings.messages
    size, rate, interval = messages.max_size, messages.per_second, settings.heartbeat.interval
    return (
        Profile(True, size, rate, interval),
        *(
            Profile(broadcast, min(size, most), min(rate or fastest, fastest), max(interval, least))
            for broadcast, most, fastest, least in zip(
                zones.broadcast or (True,) * 3,
                zones.max_message_size or (size,) * 3,
                zones.messages_per_second or (rate,) * 3,
                zones.ping_interval or (interval,) * 3,
                strict=True,
            )
        ),
    )
