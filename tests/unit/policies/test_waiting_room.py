"""The waiting room on its own."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tests.support.aio import run
from tests.unit.policies.clock import Clock
from tidegate.policies import ConnectionTracker, Position, Refused, WaitingRoom


def test_those_that_wait_are_admitted_in_order_and_told_their_position() -> None:
    async def main() -> None:
        tracker = ConnectionTracker(connections=1)
        room = WaitingRoom(tracker)
        told: list[Position] = []
        held = await room.acquire("192.0.2.1")
        first = asyncio.create_task(room.acquire("192.0.2.2", on_position=told.append))
        second = asyncio.create_task(room.acquire("192.0.2.3"))
        urgent = asyncio.create_task(room.acquire("192.0.2.4", priority=1))
        await asyncio.sleep(0)
        assert len(room) == 3
        assert (told[0].position, told[0].total) == (1, 1)
        order = []
        for task in (urgent, first, second):
            held.release()
            held = await task
            order.append(held.address)
            assert len(tracker) == 1
        assert order == ["192.0.2.4", "192.0.2.2", "192.0.2.3"]
        held.release()
        assert len(tracker) == len(room) == 0
        await room.stop()

    run(main())


def test_a_full_room_a_long_wait_and_an_own_limit_are_refused() -> None:
    async def main() -> None:
        clock = Clock()
        tracker = ConnectionTracker(connections=1, per_ip=2)
        room = WaitingRoom(tracker, size=1, max_wait=10, clock=clock)
        with tracker.acquire("192.0.2.1"):
            waits = asyncio.create_task(room.acquire("192.0.2.1"))
            await asyncio.sleep(0)
            with pytest.raises(Refused, match="queue_full"):
                await room.acquire("192.0.2.3")
            with pytest.raises(Refused, match="ip_limit"):
                await room.acquire("192.0.2.1")
            clock.now += 11
            room.tick()
            with pytest.raises(Refused, match="wait_timeout"):
                await waits
        await room.stop()

    run(main())


def test_cancelling_gives_the_position_up_and_never_leaks_a_lease() -> None:
    async def main() -> None:
        tracker = ConnectionTracker(connections=1)
        room = WaitingRoom(tracker)
        held = tracker.acquire("192.0.2.1")
        task = asyncio.create_task(room.acquire("192.0.2.2"))
        await asyncio.sleep(0)
        held.release()
        room.tick()  # admitted, and cancelled in the same turn
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).release()
        assert len(tracker) == len(room) == 0
        await room.stop()

    run(main())


def test_a_crowd_that_comes_and_goes_is_never_above_the_limit_and_ends_at_zero() -> None:
    dice = random.Random(7)

    async def main() -> None:
        tracker = ConnectionTracker(connections=3, per_ip=1000, per_user=1000)
        room = WaitingRoom(tracker, size=20)

        async def client() -> None:
            with contextlib.suppress(Refused):
                async with await room.acquire("192.0.2.1", priority=dice.randrange(3)):
                    assert len(tracker) <= 3
                    await asyncio.sleep(dice.random() * 0.002)

        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(client()))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [t for t in tasks if not t.cancelled() and t.exception()] == []
        assert len(tracker) == len(room) == 0
        assert tracker.stats().peak == 3
        await room.stop()

    run(main())
