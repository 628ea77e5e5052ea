"""Zones on a virtual clock: what is in force, who is told of it, and who is closed."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.admission.attempt import Identity, Lease
from tidegate.core.admission.shedding import Change, LoadShedder, Profile, Signals, Zone
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import Close, Refusal, close_text
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.engine.application import Application
from tidegate.engine.states import Admission
from tidegate.engine.tasks import Tasks
from tidegate.node.pressure.zones import Zones

NORMAL, WARNING, CRITICAL, EMERGENCY = Zone
TICK = 0.1


class Connection:
    def __init__(self, number: int, lease: Lease, last_active: float) -> None:
        self.number = number
        self.lease = lease
        self.last_active = last_active
        self.admission = Admission.ADMITTED
        self.open = True
        self.ended: tuple[float, int, dict[str, Any], str] | None = None
        self.close_at: Callable[[], float] = lambda: 0.0

    def end(self, reason: Refusal | Close, retry_after: float | None = None) -> None:
        self.open = False
        text = close_text(reason, reason.retry_after if retry_after is None else retry_after)
        self.ended = (self.close_at(), reason.code, json.loads(text), reason.name)


class Recorder(Application[Connection]):
    """An application that notes the profiles it is given, and which connections it tells."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.zone = NORMAL
        self.changes: list[tuple[Zone, Profile, bool]] = []
        self.told: list[tuple[float, int, Zone]] = []

    def profile_changed(self, zone: Zone, profile: Profile, degraded: bool, /) -> None:
        self.zone = zone
        self.changes.append((zone, profile, degraded))

    def tell_profile(self, connection: Connection, /) -> None:
        self.told.append((self.now(), connection.number, self.zone))


class World:
    """Zones on a virtual clock, with a pressure that the test sets."""

    def __init__(self, hook: Any = None, **sections: dict[str, Any]) -> None:
        settings = settings_of(**sections)
        self.now = 1000.0
        self.pressure = 0.0
        self.samples: list[float] = []
        self.stats = Stats()
        self.shedder = LoadShedder(settings, self.now)
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.present: list[Connection] = []
        self.intervals: list[float] = []
        self.rates: list[float] = []
        self.tasks = Tasks()
        self.engine = SimpleNamespace(
            connections=lambda: (each for each in self.present if each.lease.held),
            shared=SimpleNamespace(
                heartbeat=SimpleNamespace(set_interval=self.intervals.append),
                rates=SimpleNamespace(limit=self.rates.append),
                tasks=self.tasks,
            ),
        )
        self.application = Recorder(lambda: self.now)
        self.zones = Zones(
            self.shedder,
            self.engine,  # type: ignore[arg-type]
            self.tracker,
            self.stats,
            self.application,  # type: ignore[arg-type]
            self.read,
            hook,
            lambda: 0.5,
        )

    @property
    def told(self) -> list[tuple[float, int, Zone]]:
        """When a connection was told, its number, and the zone that was in force."""
        return self.application.told

    @property
    def profiles(self) -> list[Profile]:
        return [profile for _, profile, _ in self.application.changes]

    def read(self, now: float) -> Signals:
        self.samples.append(now)
        return Signals(connections=self.pressure)

    def add(self, count: int = 1, *, idle: float = 0.0, priority: int = 0) -> list[Connection]:
        added = []
        for _ in range(count):
            lease = self.tracker.acquire(f"a{len(self.present)}", Identity(None, priority=priority))
            assert isinstance(lease, Lease)
            connection = Connection(len(self.present), lease, self.now - idle)
            connection.close_at = lambda: self.now
            self.present.append(connection)
            added.append(connection)
        return added

    def tick(self, **options: Any) -> None:
        self.now += TICK
        self.zones.tick(self.now, **options)

    def run(self, seconds: float, **options: Any) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick(**options)

    @property
    def shed(self) -> list[Connection]:
        return [connection for connection in self.present if connection.ended is not None]


def settings_of(**sections: dict[str, Any]) -> Settings:
    """Settings with shedding switched on, unless they say otherwise."""
    sections["shedding"] = {"enabled": True, **sections.get("shedding", {})}
    return Settings.from_mapping({"limits": {"connections": 100_000}, **sections})


def test_pressure_is_sampled_four_times_a_second() -> None:
    world = World()
    world.run(10)
    assert len(world.samples) == pytest.approx(40, abs=1)
    # What was missed in a stall is not made up for.
    world.now += 5
    world.run(1)
    assert len(world.samples) == pytest.approx(44, abs=2)


@pytest.mark.parametrize(
    ("pressure", "interval", "rate", "size", "broadcast"),
    [
        (0.70, 45.0, 50.0, 512 * 1024, True),
        (0.85, 60.0, 20.0, 64 * 1024, True),
        (0.95, 120.0, 5.0, 16 * 1024, False),
    ],
)
def test_zone_is_in_force_at_once_and_no_longer_than_it_lasts(
    pressure: float, interval: float, rate: float, size: int, broadcast: bool
) -> None:
    world = World()
    world.tick()
    assert world.profiles == world.intervals == world.rates == []
    world.pressure = pressure
    world.run(0.3)
    assert world.profiles == [Profile(broadcast, size, rate, interval)]
    assert (world.intervals, world.rates) == ([interval], [rate])
    world.pressure = 0.0
    world.run(6)
    assert world.profiles[1:] == [Profile(True, 1 << 20, 100.0, 30.0)]
    assert (world.intervals, world.rates) == ([interval, 30.0], [rate, 100.0])


def test_zone_normal_without_a_rate_in_the_settings_has_no_limit() -> None:
    world = World(messages={"per_second": 0})
    world.pressure = 0.9
    world.run(0.3)
    world.pressure = 0.0
    world.run(6)
    assert world.rates == [20.0, math.inf]


@pytest.mark.parametrize("count", [1, 20, 333, 10_000])
def test_change_is_told_to_every_connection_once_in_even_batches(count: int) -> None:
    world = World()
    world.add(count)
    world.pressure = 0.9
    world.run(0.3)
    world.run(5)
    assert [number for _, number, _ in world.told] == list(range(count))
    batches = [
        sum(at == when for at, _, _ in world.told) for when in {at for at, _, _ in world.told}
    ]
    assert max(batches) <= max(20, math.ceil(count / 50))
    world.run(5)
    assert len(world.told) == count


def test_change_after_a_change_is_told_to_all_again_and_only_the_latest() -> None:
    world = World()
    world.add(1000)
    world.pressure = 0.9
    world.run(2)
    first = len(world.told)
    assert 300 < first < 500
    world.pressure = 1.0
    world.run(6)
    assert [number for _, number, zone in world.told if zone is EMERGENCY] == list(range(1000))
    assert sum(zone is CRITICAL for _, _, zone in world.told) < 550
    assert len(world.told) == 1000 + sum(zone is CRITICAL for _, _, zone in world.told)


def test_change_is_not_told_to_connections_that_have_gone_or_came_later() -> None:
    world = World()
    gone = world.add(100)[-1]
    world.pressure = 0.9
    world.run(0.3)
    gone.open = False
    world.add(5)
    world.run(5)
    assert [number for _, number, _ in world.told] == list(range(99))


@pytest.mark.parametrize(
    "sections",
    [{"shedding": {"enabled": False}}, {"limits": {"dry_run": ["shedding"]}}],
    ids=["off", "on trial"],
)
def test_zone_without_consequences_is_only_known(sections: Any) -> None:
    changes: list[Change] = []
    world = World(changes.append, **sections)
    world.add(100, idle=1000)
    world.pressure = 1.0
    world.run(70)
    assert world.shedder.zone is EMERGENCY
    assert [change.new for change in changes] == [EMERGENCY]
    assert world.stats.zone_changes["emergency"] == 1
    assert world.told == world.profiles == world.intervals == world.shed == []


def test_zone_changes_are_counted() -> None:
    world = World()
    world.pressure = 0.91
    world.run(0.3)
    world.pressure = 0.0
    world.run(6)
    expected = {"normal": 1, "warning": 0, "critical": 1, "emergency": 0}
    assert world.stats.zone_changes == expected


def test_log_says_what_happened_and_why(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.pressure = 0.9
    with caplog.at_level(logging.INFO, "tidegate"):
        world.run(0.3)
        world.pressure = 0.0
        world.run(6)
    fields = ("levelname", "zone", "was", "pressure", "driver")
    assert [tuple(getattr(record, name) for name in fields) for record in caplog.records] == [
        ("WARNING", "critical", "normal", 0.9, "connections"),
        ("INFO", "normal", "critical", 0.0, None),
    ]


# The operator's hook.


def test_hook_is_called_with_the_change() -> None:
    changes: list[Change] = []
    world = World(changes.append)
    world.pressure = 0.75
    world.run(0.3)
    (change,) = changes
    assert (change.old, change.new, change.driver) == (NORMAL, WARNING, "connections")
    assert change.pressure == 0.75
    assert change.at in world.samples


def test_hook_that_raises_is_logged_and_the_zone_is_in_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(change: Change) -> None:
        raise RuntimeError("of the hook")

    world = World(fail)
    world.add(3)
    world.pressure = 0.9
    world.run(1)
    assert "of the hook" in caplog.text
    assert len(world.told) == 3
    assert len(world.profiles) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_hook_that_is_async_runs_and_is_logged_when_it_raises(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    changes: list[Change] = []

    async def hook(change: Change) -> None:
        await asyncio.sleep(0)
        if fails:
            raise RuntimeError("of the hook")
        changes.append(change)

    async def main() -> None:
        world = World(hook)
        world.pressure = 0.9
        world.run(0.3)
        assert len(world.tasks) == 1
        await world.tasks.wait()

    asyncio.run(main())
    assert len(changes) == (not fails)
    assert ("of the hook" in caplog.text) is fails


# Shedding.


def emergency(**sections: Any) -> World:
    world = World(**sections)
    world.pressure = 1.0
    return world


def test_shedding_closes_those_idle_longest_a_tenth_at_most_once_a_minute() -> None:
    world = emergency()
    for number in range(1000):
        world.add(idle=301 + number)
    world.run(59)
    assert [connection.number for connection in world.shed] == list(range(900, 1000))
    for connection in world.shed:
        world.tracker.release(connection.lease)
    world.run(7)
    assert [connection.number for connection in world.shed] == list(range(810, 1000))


def test_shedding_says_why_and_when_to_come_back() -> None:
    world = emergency(shedding={"shed_share": 1})
    (connection,) = world.add(idle=400)
    world.run(1)
    assert connection.ended is not None
    assert connection.ended[1:] == (1001, {"error": "shed", "retryAfter": 90}, "shed")


def test_shedding_closes_in_even_batches() -> None:
    world = emergency(shedding={"shed_share": 0.5})
    world.add(10_000, idle=400)
    world.run(6)
    times = [connection.ended[0] for connection in world.shed if connection.ended]
    assert len(times) == 5000
    assert max(times.count(at) for at in set(times)) == 100


@pytest.mark.parametrize(
    ("idle", "priority", "admission", "goes"),
    [
        (310, 0, Admission.ADMITTED, True),
        (310, 0, Admission.UNIDENTIFIED, True),
        (310, 49, Admission.ADMITTED, True),
        (310, 50, Admission.ADMITTED, False),
        (200, 0, Admission.ADMITTED, False),
        (310, 0, Admission.WAITING, False),
    ],
)
def test_shedding_closes_only_idle_connections_without_priority(
    idle: float, priority: int, admission: Admission, goes: bool
) -> None:
    world = emergency(shedding={"shed_share": 1})
    world.add(10)
    (connection,) = world.add(idle=idle, priority=priority)
    connection.admission = admission
    world.run(2)
    assert (connection.ended is not None) is goes
    assert len(world.shed) == goes


def test_shedding_spares_a_connection_that_sends_before_its_turn() -> None:
    world = emergency(shedding={"shed_share": 1})
    connections = world.add(1000, idle=400)
    world.run(0.5)
    last = connections[-1]
    assert last.open
    last.last_active = world.now
    world.run(6)
    assert [connection for connection in connections if connection.open] == [last]


def test_shedding_closes_no_more_once_the_emergency_is_over() -> None:
    world = emergency(shedding={"shed_share": 1, "hold": 0})
    world.add(10_000, idle=400)
    world.run(1)
    world.pressure = 0.1
    world.run(0.5)
    count = len(world.shed)
    assert 0 < count < 5000
    world.run(10)
    assert len(world.shed) == count


def test_shedding_closes_nobody_while_all_are_closed_anyway() -> None:
    world = emergency(shedding={"shed_share": 1})
    world.add(100, idle=400)
    world.run(10, may_shed=False)
    assert world.shed == []


@pytest.mark.parametrize("pressure", [0.0, 0.75, 0.9])
def test_shedding_closes_nobody_in_other_zones(pressure: float) -> None:
    world = World(shedding={"shed_share": 1})
    world.pressure = pressure
    world.add(100, idle=400)
    world.run(70)
    assert world.shed == []


# Settings that change.


def test_apply_of_a_stricter_zone_is_in_force_at_once_and_told() -> None:
    world = World()
    world.add(3)
    world.pressure = 0.9
    world.run(6)
    assert len(world.told) == 3
    world.zones.apply(settings_of(zones={"messages_per_second": [50, 7, 5]}))
    assert world.application.changes[-1] == (
        CRITICAL,
        Profile(True, 64 * 1024, 7.0, 60.0),
        True,
    )
    assert world.rates == [20.0, 7.0]
    world.run(1)
    assert [number for _, number, _ in world.told] == [0, 1, 2] * 2


def test_apply_of_another_rate_is_in_force_in_the_zone_that_allows_it() -> None:
    world = World()
    world.add(1)
    world.zones.apply(settings_of(messages={"per_second": 10}))
    assert world.rates == [10.0]
    assert world.application.changes == [(NORMAL, Profile(True, 1 << 20, 10.0, 30.0), False)]
    world.run(1)
    assert len(world.told) == 1


def test_apply_that_changes_nothing_for_connections_is_not_told() -> None:
    world = World()
    world.add(3)
    world.pressure = 0.9
    world.run(6)
    world.zones.apply(settings_of(shedding={"idle_after": 500}))
    world.run(6)
    assert len(world.told) == 3
    assert world.profiles[-1] == world.profiles[0]


def test_apply_that_switches_shedding_off_gives_back_what_the_zone_had_taken() -> None:
    world = emergency(shedding={"shed_share": 1})
    connections = world.add(10_000, idle=400)
    world.run(1)
    count = len(world.shed)
    assert 0 < count < 5000
    world.zones.apply(settings_of(shedding={"enabled": False}))
    assert world.application.changes[-1] == (
        EMERGENCY,
        Profile(True, 1 << 20, 100.0, 30.0),
        False,
    )
    told = len(world.told)
    world.run(7)
    assert len(world.shed) == count, "a connection was shed while shedding is off"
    assert len(world.told) == told + len(connections) - count
