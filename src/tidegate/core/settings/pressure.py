"""What pressure is, and what is left under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["SheddingSettings", "ZonesSettings"]

_FASTEST: Final = 1_000_000
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_DAY: Final = 86_400.0


def _range(low: float, high: float, doc: str, *, most: float, unit: str = "") -> Any:
    doc += " at which the pressure is 0 and at which it is 1; empty to leave it out."
    return setting((low, high), doc, unit=unit, low=0, high=most, length=2)


@dataclass(frozen=True, slots=True)
class SheddingSettings(Section):
    """What pressure is, and who is refused under it. Measured and shown also when off."""

    section: ClassVar[str] = "shedding"
    enabled: bool = setting(
        False,
        "Whether pressure refuses and closes connections; off, since a busy core may be normal.",
    )
    warning: float = setting(
        0.70, "Pressure that is a warning; 0.70 leaves time to act.", low=0.01, high=1
    )
    critical: float = setting(
        0.85, "Pressure that is critical; 0.85 is past any normal peak.", low=0.01, high=1
    )
    emergency: float = setting(
        0.95, "Pressure that is an emergency; 0.95 is the last moment to help.", low=0.01, high=1
    )
    hysteresis: float = setting(
        0.05,
        "How far below its threshold a zone is left; 0.05 is more than signals tremble.",
        low=0,
        high=0.5,
    )
    hold: float = setting(
        5.0,
        "Time below it before a zone is left; 5 s outlast a gap between bursts.",
        unit="s",
        low=0,
        high=3600,
    )
    smoothing: float = setting(
        2.0,
        "Time over which CPU and loop lag are averaged; one busy second is no emergency.",
        unit="s",
        low=0.1,
        high=60,
    )
    critical_acceptance: float = setting(
        0.5,
        "Share of newcomers without priority that critical lets in; half halves the growth.",
        low=0,
        high=1,
    )
    min_priority: int = setting(
        50, "Priority of a token from which pressure refuses and closes nobody.", low=0, high=100
    )
    connections: tuple[float, ...] = _range(0.0, 1.0, "Shares of limits.connections", most=1)
    loop_lag: tuple[float, ...] = _range(0.05, 0.5, "Delays of the event loop", most=60, unit="s")
    cpu: tuple[float, ...] = _range(0.80, 1.0, "CPU time a second, in cores,", most=64)
    memory: tuple[float, ...] = _range(0.70, 0.95, "Shares of the memory there is", most=1)
    descriptors: tuple[float, ...] = _range(
        0.70, 0.98, "Shares of the file descriptors there are", most=1
    )
    buffered: tuple[int, ...] = _range(
        64 * _MIB, 512 * _MIB, "Bytes in all outboxes", most=1024 * _GIB, unit="bytes"
    )
    idle_after: float = setting(
        300.0,
        "Time without messages after which an emergency may close a connection.",
        unit="s",
        low=1,
        high=_DAY,
    )
    shed_every: float = setting(
        60.0,
        "Time between such closes; a minute shows what the last ones did.",
        unit="s",
        low=1,
        high=_DAY,
    )
    shed_share: float = setting(
        0.10, "Most of all connections that are closed at a time.", low=0, high=1
    )

    def _check(self) -> None:
        if not self.warning < self.critical:
            raise self.error("critical", "must be above shedding.warning")
        if not self.critical < self.emergency:
            raise self.error("emergency", "must be above shedding.critical")
        if not self.hysteresis < self.warning:
            raise self.error("hysteresis", "must be below shedding.warning")
        for name, (low, high) in self.ranges().items():
            if not low < high:
                raise self.error(name, "must have the lower value first")

    def ranges(self) -> dict[str, tuple[float, ...]]:
        """The low and the high end of every signal that counts, by its name."""
        every = {
            "connections": self.connections,
            "loop_lag": self.loop_lag,
            "cpu": self.cpu,
            "memory": self.memory,
            "descriptors": self.descriptors,
            "buffered": self.buffered,
        }
        return {name: ends for name, ends in every.items() if ends}


def _each(values: tuple[float, ...], doc: str, *, low: float, high: float, unit: str = "") -> Any:
    return setting(values, doc, unit=unit, low=low, high=high, length=3)


@dataclass(frozen=True, slots=True)
class ZonesSettings(Section):
    """What is left in the zones warning, critical and emergency: a value for each, or none."""

    section: ClassVar[str] = "zones"
    broadcast: tuple[bool, ...] = setting(
        (True, True, False),
        "Whether clients may send to rooms; one message to many is what costs most.",
        length=3,
    )
    max_message_size: tuple[int, ...] = _each(
        (512 * _KIB, 64 * _KIB, 16 * _KIB),
        "Most that messages.max_size is; text still fits when files do not.",
        unit="bytes",
        low=1,
        high=_GIB,
    )
    messages_per_second: tuple[float, ...] = _each(
        (50.0, 20.0, 5.0),
        "Most that messages.per_second is; people still type when programs must wait.",
        low=0.01,
        high=_FASTEST,
    )
    ping_interval: tuple[float, ...] = _each(
        (45.0, 60.0, 120.0),
        "Least that heartbeat.interval is; the dead are found later, for fewer pings.",
        unit="s",
        low=0.1,
        high=_DAY,
    )
