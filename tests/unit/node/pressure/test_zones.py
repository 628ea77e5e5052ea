from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from native_node import Node, error

from tidegate.core.admission.attempt import Identity, Lease
from tidegate.core.admission.shedding import Change, LoadShedder, Profile, Signals, Zone
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.node.pressure.zones import Zones

NORMAL, WARNING, CRITICAL, EMERGENCY = Zone
TICK = 0.1


class Connection:
    def __init__(self, number: int, lease: Lease, last_active: float) -> None:
        self.number = number
        self.lease = lease
        self.last_active = last_active
        self.open = True
        self.ended: tuple[float, int, dict[str, Any], str] | None = None
        self.close_at: Callable[[], float] = lambda: 0.0

    def close(self, code: int, reason: str, cause: str) -> None:
        self.open = False
        self.ended = (self.close_at(), code, json.loads(reason), cause)


class Place:
    """Zones on a virtual clock, with a pressure that the test sets."""

    def __init__(self, hook: Any = None, **sections: dict[str, Any]) -> None:
        sections["shedding"] = {"enabled": True, **sections.get("shedding", {})}
        settings = Settings.from_mapping({"limits": {"connections": 100_000}, **sections})
        self.now = 1000.0
        self.pressure = 0.0
        self.samples: list[float] = []
        self.stats = Stats()
        self.shedder = LoadShedder(settings, self.now)
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.present: list[Connection] = []
        self.intervals: list[float] = []
        self.rates: list[float] = []
        self.tasks: list[Any] = []
        self.engine = SimpleNamespace(
            connections=lambda: iter(self.present),
            heartbeat=SimpleNamespace(set_interval=self.intervals.append),
            rates=SimpleNamespace(limit=self.rates.append),
            start_task=self.tasks.append,
        )
        self.zones = Zones(
            self.shedder,
            self.engine,  # type: ignore[arg-type]
            self.tracker,
            self.stats,
            self.read,
            hook,
            lambda: 0.5,
        )
        self.told: list[tuple[float, int, Zone]] = []
        self.profiles: list[Profile] = []
        self.zones.enforce = self.profiles.append
        self.zones.tell = lambda connection: self.told.append(
            (self.now, connection.number, self.shedder.zone)
        )

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


def test_four_samples_a_second() -> None:
    place = Place()
    place.run(10)
    assert len(place.samples) == pytest.approx(40, abs=1)
    # What was missed in a stall is not made up for.
    place.now += 5
    place.run(1)
    assert len(place.samples) == pytest.approx(44, abs=2)


@pytest.mark.parametrize(
    ("pressure", "interval", "rate", "size", "broadcast"),
    [
        (0.70, 45.0, 50.0, 512 * 1024, True),
        (0.85, 60.0, 20.0, 64 * 1024, True),
        (0.95, 120.0, 5.0, 16 * 1024, False),
    ],
)
def test_a_zone_is_in_force_at_once_and_then_no_more(
    pressure: float, interval: float, rate: float, size: int, broadcast: bool
) -> None:
    place = Place()
    place.tick()
    assert place.profiles == place.intervals == place.rates == []
    place.pressure = pressure
    place.run(0.3)
    assert place.profiles == [Profile(broadcast, size, rate, interval)]
    assert (place.intervals, place.rates) == ([interval], [rate])
    place.pressure = 0.0
    place.run(6)
    assert place.profiles[1:] == [Profile(True, 1 << 20, 100.0, 30.0)]
    assert (place.intervals, place.rates) == ([interval, 30.0], [rate, 100.0])


def test_no_rate_in_the_settings_is_no_limit_in_normal() -> None:
    place = Place(messages={"per_second": 0})
    place.pressure = 0.9
    place.run(0.3)
    place.pressure = 0.0
    place.run(6)
    assert place.rates == [20.0, math.inf]


@pytest.mark.parametrize("count", [1, 20, 333, 10_000])
def test_all_are_told_once_in_even_parts(count: int) -> None:
    place = Place()
    place.add(count)
    place.pressure = 0.9
    place.run(0.3)
    place.run(5)
    assert [number for _, number, _ in place.told] == list(range(count))
    parts = [sum(at == when for at, _, _ in place.told) for when in {at for at, _, _ in place.told}]
    assert max(parts) <= max(20, math.ceil(count / 50))
    place.run(5)
    assert len(place.told) == count


def test_a_second_change_tells_everybody_again_and_only_of_the_latest() -> None:
    place = Place()
    place.add(1000)
    place.pressure = 0.9
    place.run(2)
    first = len(place.told)
    assert 300 < first < 500
    place.pressure = 1.0
    place.run(6)
    assert [number for _, number, zone in place.told if zone is EMERGENCY] == list(range(1000))
    assert sum(zone is CRITICAL for _, _, zone in place.told) < 550
    assert len(place.told) == 1000 + sum(zone is CRITICAL for _, _, zone in place.told)


def test_who_has_gone_or_came_later_is_not_told() -> None:
    place = Place()
    gone = place.add(100)[-1]
    place.pressure = 0.9
    place.run(0.3)
    gone.open = False
    place.add(5)
    place.run(5)
    assert [number for _, number, _ in place.told] == list(range(99))


@pytest.mark.parametrize(
    "sections",
    [{"shedding": {"enabled": False}}, {"limits": {"dry_run": ["shedding"]}}],
    ids=["off", "on trial"],
)
def test_without_consequences_the_zone_is_only_known(sections: Any) -> None:
    changes: list[Change] = []
    place = Place(changes.append, **sections)
    place.add(100, idle=1000)
    place.pressure = 1.0
    place.run(70)
    assert place.shedder.zone is EMERGENCY
    assert [change.new for change in changes] == [EMERGENCY]
    assert place.stats.zone_changes["emergency"] == 1
    assert place.told == place.profiles == place.intervals == place.shed == []


def test_what_is_shown() -> None:
    place = Place()
    place.pressure = 0.91
    place.run(0.3)
    place.now += 2
    assert place.zones.snapshot(place.now) == {
        "zone": "critical",
        "since": pytest.approx(2.2, abs=0.11),
        "pressure": 0.91,
        "driver": "connections",
        "pressures": {"connections": 0.91},
        "acts": True,
    }
    place.pressure = 0.0
    place.run(6)
    expected = {"normal": 1, "warning": 0, "critical": 1, "emergency": 0}
    assert place.stats.zone_changes == expected


def test_the_log_says_what_happened_and_why(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.pressure = 0.9
    with caplog.at_level(logging.INFO, "tidegate"):
        place.run(0.3)
        place.pressure = 0.0
        place.run(6)
    fields = ("levelname", "zone", "was", "pressure", "driver")
    assert [tuple(getattr(record, name) for name in fields) for record in caplog.records] == [
        ("WARNING", "critical", "normal", 0.9, "connections"),
        ("INFO", "normal", "critical", 0.0, None),
    ]


class TestHook:
    def test_plain(self) -> None:
        changes: list[Change] = []
        place = Place(changes.append)
        place.pressure = 0.75
        place.run(0.3)
        (change,) = changes
        assert (change.old, change.new, change.driver) == (NORMAL, WARNING, "connections")
        assert change.pressure == 0.75
        assert change.at in place.samples

    def test_one_that_raises_is_logged_and_the_zone_is_in_force(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(change: Change) -> None:
            raise RuntimeError("of the hook")

        place = Place(fail)
        place.add(3)
        place.pressure = 0.9
        place.run(1)
        assert "of the hook" in caplog.text
        assert len(place.told) == 3
        assert len(place.profiles) == 1

    @pytest.mark.parametrize("fails", [False, True])
    def test_async(self, fails: bool, caplog: pytest.LogCaptureFixture) -> None:
        changes: list[Change] = []

        async def hook(change: Change) -> None:
            await asyncio.sleep(0)
            if fails:
                raise RuntimeError("of the hook")
            changes.append(change)

        place = Place(hook)
        place.pressure = 0.9
        place.run(0.3)
        (task,) = place.tasks
        asyncio.run(task)
        assert len(changes) == (not fails)
        assert ("of the hook" in caplog.text) is fails


class TestShedding:
    def emergency(self, **sections: Any) -> Place:
        place = Place(**sections)
        place.pressure = 1.0
        return place

    def test_those_idle_longest_go_a_tenth_at_most_once_a_minute(self) -> None:
        place = self.emergency()
        for number in range(1000):
            place.add(idle=301 + number)
        place.run(59)
        assert [connection.number for connection in place.shed] == list(range(900, 1000))
        for connection in place.shed:
            place.tracker.release(connection.lease)
        place.run(7)
        assert [connection.number for connection in place.shed] == list(range(810, 1000))

    def test_they_are_told_why_and_when_to_come_back(self) -> None:
        place = self.emergency(shedding={"shed_share": 1})
        (connection,) = place.add(idle=400)
        place.run(1)
        assert connection.ended is not None
        assert connection.ended[1:] == (
            1001,
            {"error": "shed", "message": "Server shedding load", "retryAfter": 90},
            "shed",
        )

    def test_they_go_in_even_parts(self) -> None:
        place = self.emergency(shedding={"shed_share": 0.5})
        place.add(10_000, idle=400)
        place.run(6)
        times = [connection.ended[0] for connection in place.shed if connection.ended]
        assert len(times) == 5000
        assert max(times.count(at) for at in set(times)) == 100

    @pytest.mark.parametrize(
        ("idle", "priority", "held", "goes"),
        [
            (310, 0, True, True),
            (310, 49, True, True),
            (310, 50, True, False),
            (200, 0, True, False),
            (310, 0, False, False),  # it waits to be let in
        ],
    )
    def test_who_goes(self, idle: float, priority: int, held: bool, goes: bool) -> None:
        place = self.emergency(shedding={"shed_share": 1})
        place.add(10)
        (connection,) = place.add(idle=idle, priority=priority)
        if not held:
            place.tracker.release(connection.lease)
        place.run(2)
        assert (connection.ended is not None) is goes
        assert len(place.shed) == goes

    def test_who_says_something_before_its_turn_stays(self) -> None:
        place = self.emergency(shedding={"shed_share": 1})
        connections = place.add(1000, idle=400)
        place.run(0.5)
        last = connections[-1]
        assert last.open
        last.last_active = place.now
        place.run(6)
        assert [connection for connection in connections if connection.open] == [last]

    def test_no_more_go_once_the_emergency_is_over(self) -> None:
        place = self.emergency(shedding={"shed_share": 1, "hold": 0})
        place.add(10_000, idle=400)
        place.run(1)
        place.pressure = 0.1
        place.run(0.5)
        count = len(place.shed)
        assert 0 < count < 5000
        place.run(10)
        assert len(place.shed) == count

    def test_nobody_goes_while_all_are_closed_anyway(self) -> None:
        place = self.emergency(shedding={"shed_share": 1})
        place.add(100, idle=400)
        place.run(10, may_shed=False)
        assert place.shed == []

    @pytest.mark.parametrize("pressure", [0.0, 0.75, 0.9])
    def test_nobody_goes_in_other_zones(self, pressure: float) -> None:
        place = Place(shedding={"shed_share": 1})
        place.pressure = pressure
        place.add(100, idle=400)
        place.run(70)
        assert place.shed == []


SETTINGS = {
    "pingInterval": 120.0,
    "maxMessageSize": 100,
    "messagesPerSecond": 5.0,
    "broadcast": False,
}


class TestNative:
    """What the native protocol makes of a profile."""

    PROFILE = Profile(False, 100, 5.0, 120.0)

    def test_sending_to_rooms_is_off_and_on_again(self) -> None:
        node = Node()
        ann, bob = node.member("a", "ann"), node.member("a", "bob")
        node.app.enforce(self.PROFILE, True)
        answer = node.say(ann, type="room_message", room="a", data=1, id=7)
        assert answer == [error("broadcast_off", id=7, retryAfter=10)]
        assert bob.take() == []
        stranger = node.say(ann, type="room_message", room="b", data=1)
        assert stranger == [error("not_joined")]
        # The rest works.
        assert node.say(ann, type="direct_message", user="bob", data=1, id=8)[0]["type"] == "ack"
        assert [message["type"] for message in bob.take()] == ["direct_message"]
        node.app.enforce(Profile(True, 1 << 20, 100.0, 30.0), False)
        assert len(node.say(ann, type="room_message", room="a", data=1, id=9)) == 2

    @pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
    def test_the_largest_message(self, size: int, fits: bool) -> None:
        node = Node()
        ann = node.open("ann")
        ann.take()
        node.app.enforce(self.PROFILE, True)
        text = '{"type":"leave","room":"a","id":1}'.ljust(size)
        (answer,) = node.give(ann, text)
        assert answer["code"] == ("not_joined" if fits else "too_big")

    def test_a_newcomer_is_told_in_connected(self) -> None:
        node = Node()
        node.app.enforce(self.PROFILE, True)
        (connected,) = node.open("ann").take()
        assert connected["degraded"] is True
        assert connected["settings"] == SETTINGS

    def test_the_others_with_system(self) -> None:
        node = Node()
        ann = node.open("ann")
        ann.take()
        node.app.enforce(self.PROFILE, True)
        node.app.tell(ann, EMERGENCY)  # type: ignore[arg-type]
        assert ann.take() == [
            {"type": "system", "zone": "emergency", "degraded": True, "settings": SETTINGS}
        ]

    def test_nobody_is_told_before_connected(self) -> None:
        node = Node()
        pending = node.open(pending=True)
        waiting = node.open()
        waiting.take()
        node.tracker.release(waiting.lease)
        for peer in (pending, waiting):
            node.app.tell(peer, EMERGENCY)  # type: ignore[arg-type]
            assert peer.take() == []
