"""The readings that pressure is made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.admission.shedding import Signals
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.settings import Settings
from tidegate.node.pressure.signals import Readings, Sparing


class World:
    """A node of which everything is known."""

    def __init__(self, connections: int = 4) -> None:
        settings = Settings.from_mapping({"limits": {"connections": connections}})
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.cpu = 100.0
        self.engine = SimpleNamespace(take_lag=lambda: 0.125, buffered=77)
        self.readings = Readings(
            self.tracker,
            self.engine,
            memory=lambda: 0.5,
            descriptors=lambda: None,
            cpu_time=lambda: self.cpu,
        )

    def read(self, now: float) -> Signals:
        return self.readings.read(now)


def about(value: float) -> Any:
    return pytest.approx(value)


def test_readings_have_all_signals() -> None:
    world = World()
    world.tracker.acquire("192.0.2.1")
    world.read(10.0)
    world.cpu += 0.2
    assert world.read(10.25) == Signals(
        connections=0.25,
        loop_lag=0.125,
        cpu=about(0.8),
        memory=0.5,
        descriptors=None,
        buffered=77,
    )


def test_readings_have_the_cpu_time_since_the_last() -> None:
    world = World()
    assert world.read(0.0).cpu is None
    found: list[Any] = []
    for now, used in [(0.25, 0.25), (0.5, 0.0), (1.0, 1.0), (5.0, 1.0)]:
        world.cpu += used
        found.append(world.read(now).cpu)
    assert found == [1.0, 0.0, 2.0, 0.25]
    assert world.read(5.0).cpu is None


def test_readings_of_a_node_without_capacity_have_no_share_of_it() -> None:
    assert World(connections=0).read(0.0).connections is None


@pytest.mark.parametrize(
    ("cost", "pause"),
    [(0.0, 0.0), (0.00001, 0.001), (0.001, 0.1), (0.01, 1.0), (0.5, 50.0)],
)
def test_sparing_repeats_a_slow_reading_so_seldom_that_it_takes_a_hundredth(
    cost: float, pause: float
) -> None:
    clock = 0.0
    taken: list[float] = []

    def read() -> float:
        nonlocal clock
        clock += cost
        taken.append(now)
        return len(taken)

    now = 0.0
    reading = Sparing(read, lambda: clock)
    for quarter in range(4 * 300):
        now = quarter / 4
        value = reading(now)
        assert value == len(taken)
    assert len(taken) == pytest.approx(300 / max(pause, 0.25), rel=0.02)
    assert clock <= 300 * 0.011 + cost
