"""How pressure is measured, and what is allowed under it."""

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
    doc += " at which the pressure is 0 and at which it is 1; empty to ignore this signal."
    return setting((low, high), doc, unit=unit, low=0, high=most, length=2, live=True)


@dataclass(frozen=True, slots=True)
class SheddingSettings(Section):
    """How pressure is measured, and which clients it refuses. It is measured also when off."""

    section: ClassVar[str] = "shedding"
    enabled: bool = setting(
        False,
        "Whether pressure refuses and closes connections; off, because a busy core may be normal.",
        live=True,
    )
    warning: float = setting(
        0.70,
        "Pressure at which the warning zone begins; 0.70 leaves time to act.",
        low=0.01,
        high=1,
        live=True,
    )
    critical: float = setting(
        0.85,
        "Pressure at which the critical zone begins; 0.85 is above any normal peak.",
        low=0.01,
        high=1,
        live=True,
    )
    emergency: float = setting(
        0.95,
        "Pressure at which the emergency zone begins; 0.95 is the last moment to help.",
        low=0.01,
        high=1,
        live=True,
    )
    hysteresis: float = setting(
        0.05,
        "How far pressure must fall below a threshold to leave its zone; signals vary by less.",
        low=0,
        high=0.5,
        live=True,
    )
    hold: float = setting(
        5.0,
        "Time below the threshold before a zone is left; 5 s outlast a gap between bursts.",
        unit="s",
        low=0,
        high=3600,
        live=True,
    )
    smoothing: float = setting(
        2.0,
        "Time over which CPU and loop lag are averaged; one busy second is no emergency.",
        unit="s",
        low=0.1,
        high=60,
        live=True,
    )
    critical_acceptance: float = setting(
        0.5,
        "Share of attempts without priority that the critical zone admits; half halves the growth.",
        low=0,
        high=1,
        live=True,
    )
    min_priority: int = setting(
        50,
        "Priority of a token from which pressure neither refuses nor closes a client.",
        low=0,
        high=100,
        live=True,
    )
    connections: tuple[float, ...] = _range(0.0, 1.0, "Shares of limits.connections", most=1)
    loop_lag: tuple[float, ...] = _range(0.05, 0.5, "Delays of the event loop", most=60, unit="s")
    cpu: tuple[float, ...] = _range(0.80, 1.0, "CPU time per second, in cores,", most=64)
    memory: tuple[float, ...] = _range(0.70, 0.95, "Shares of the memory limit", most=1)
    descriptors: tuple[float, ...] = _range(
        0.70, 0.98, "Shares of the file descriptors for connections", most=1
    )
    buffered: tuple[int, ...] = _range(
        64 * _MIB, 512 * _MIB, "Bytes in all outboxes", most=1024 * _GIB, unit="bytes"
    )
    idle_after: float = setting(
        300.0,
        "Time without messages after which the emergency zone may close a connection.",
        unit="s",
        low=1,
        high=_DAY,
        live=True,
    )
    shed_every: float = setting(
        60.0,
        "Time between two rounds of closing idle connections; a minute shows what one has changed.",
        unit="s",
        low=1,
        high=_DAY,
        live=True,
    )
    shed_share: float = setting(
        0.10, "Share of all connections that one such round may close.", low=0, high=1, live=True
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
    return setting(values, doc, unit=unit, low=low, high=high, length=3, live=True)


@dataclass(frozen=True, slots=True)
class ZonesSettings(Section):
    """What clients may do in the zones warning, critical and emergency; empty for no change."""

    section: ClassVar[str] = "zones"
    broadcast: tuple[bool, ...] = setting(
        (True, True, False),
        "Whether clients may publish to rooms; one message to many costs the most.",
        length=3,
        live=True,
    )
    max_message_size: tuple[int, ...] = _each(
        (512 * _KIB, 64 * _KIB, 16 * _KIB),
        "Upper bound of messages.max_size; text still fits when files do not.",
        unit="bytes",
        low=1,
        high=_GIB,
    )
    messages_per_second: tuple[float, ...] = _each(
        (50.0, 20.0, 5.0),
        "Upper bound of messages.per_second; people can still type when programs must wait.",
        low=0.01,
        high=_FASTEST,
    )
    ping_interval: tuple[float, ...] = _each(
        (45.0, 60.0, 120.0),
        "Lower bound of heartbeat.interval; fewer pings find dead peers later.",
        unit="s",
        low=0.1,
        high=_DAY,
    )
