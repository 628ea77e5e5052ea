"""Load shedding and heartbeats on their own."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.aio import run
from tests.unit.policies.clock import Clock
from tidegate.errors import ConfigError
from tidegate.policies import (
    Change,
    ConnectionTracker,
    HeartbeatManager,
    LoadShedder,
    Refused,
    Zone,
)


def test_shedder_refuses_by_zone_and_priority_and_tells_of_changes() -> None:
    clock, changes = Clock(), list[Change]()
    shedder = LoadShedder(clock=clock, chance=lambda: 0.6, on_change=changes.append)
    shedder.admit()
    clock.now += 1
    shedder.sample(connections=0.9)
    assert shedder.zone is Zone.CRITICAL
    with pytest.raises(Refused, match="shedding"):
        shedder.admit()
    shedder.admit(priority=50)
    clock.now += 1
    shedder.sample(memory=0.99)
    with pytest.raises(Refused):
        shedder.admit(priority=10)
    assert [change.new for change in changes] == [Zone.CRITICAL, Zone.EMERGENCY]
    stats = shedder.stats()
    assert (stats.zone, stats.driver, stats.pressure) == ("emergency", "memory", 1.0)


def test_shedder_refuses_settings_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"shedding\.critcal.*did you mean"):
        LoadShedder(critcal=0.5)


def test_shedder_reads_this_process_while_it_is_entered() -> None:
    async def main() -> None:
        tracker = ConnectionTracker(connections=10)
        with tracker.acquire("192.0.2.1"):
            async with LoadShedder(tracker) as shedder:
                while "connections" not in shedder.stats().pressures:
                    await asyncio.sleep(0.01)
                assert shedder.stats().pressures["connections"] == pytest.approx(0.1)

    run(main())


class Watched:
    """A connection that counts what happens to it."""

    def __init__(self) -> None:
        self.pings = 0
        self.dead = False
        self.idle = 0

    async def ping(self) -> None:
        self.pings += 1

    def die(self) -> None:
        self.dead = True


def test_heartbeat_pings_and_finds_the_dead_and_the_idle() -> None:
    async def main() -> None:
        clock = Clock()

        def idle(connection: Watched) -> None:
            connection.idle += 1

        heartbeat: HeartbeatManager[Watched] = HeartbeatManager(
            ping=Watched.ping,
            on_dead=Watched.die,
            on_idle=idle,
            interval=10,
            timeout=2,
            idle_timeout=30,
            clock=clock,
        )
        alive, dead, left = Watched(), Watched(), Watched()
        for connection in (alive, dead, left):
            heartbeat.add(connection)
        heartbeat.add(alive)
        heartbeat.remove(left)
        assert len(heartbeat) == 2
        for _ in range(800):
            clock.now += 0.05
            heartbeat.tick()
            await asyncio.sleep(0)
            heartbeat.seen(alive)
        assert (dead.dead, alive.dead, left.pings) == (True, False, 0)
        assert alive.pings in (3, 4)
        assert alive.idle > 0
        assert len(heartbeat) == 1
        before = alive.idle
        heartbeat.seen(alive, message=True)
        clock.now += 0.05
        heartbeat.tick()
        assert alive.idle == before

    run(main())


def test_heartbeat_goes_on_when_a_callback_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def broken(_: object) -> None:
            raise RuntimeError("gone")

        async with HeartbeatManager[str](ping=broken, on_dead=print, interval=0.5) as heartbeat:
            heartbeat.add("one")
            while "a callback of the heartbeat failed" not in caplog.text:
                await asyncio.sleep(0.01)
            assert len(heartbeat) == 1

    run(main())
