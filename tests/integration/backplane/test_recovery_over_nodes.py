"""Two nodes, rooms with history, 20 publishers, and a Valkey that is killed or fails over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import in_loop
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.native import NativeClient
from tests.support.valkey import sentinels, valkey
from tests.support.valkey_cluster import valkey_cluster

ROOMS = ("one", "two")
PUBLISHERS, MEMBERS = 20, 6
"""Members of each room at each node."""
GAP = "the member is told that it has missed something"
RULES: dict[str, Any] = {
    "rooms": {"rules": [{"pattern": "*", "history_size": 10_000}]},
    "backplane": {"timeout": 0.5},
    "messages": {"per_second": 0},
}

Fails = tuple[str, Callable[[], None]]


class Publisher:
    """Publishes numbers to a room, and notes those that were acknowledged."""

    def __init__(self, client: NativeClient, name: int) -> None:
        self.client = client
        self.name = name
        self.room = ROOMS[name % 2]
        self.acknowledged: list[int] = []
        self.ended = False
        self._number = 0

    async def run(self) -> None:
        while not self.ended:
            await self.publish()
            await asyncio.sleep(0.01)

    async def publish(self) -> bool:
        number = self._number = self._number + 1
        data = [self.name, number]
        answer = await self.client.ask("room_message", room=self.room, data=data, echo=False)
        if answer["type"] == "ack":
            self.acknowledged.append(number)
        return bool(answer["type"] == "ack")

    async def finish(self) -> int:
        """Publish one more, which the backplane takes, and return its number."""
        async with asyncio.timeout(30):
            while not await self.publish():
                await asyncio.sleep(0.05)
        return self._number


def heard(client: NativeClient, room: str) -> list[Any]:
    """What a member was sent, in its order: messages, and `GAP`."""
    return [
        GAP if one["type"] == "gap" else tuple(one["data"])
        for one in client.got
        if one.get("room") == room and one["type"] in ("room_message", "gap")
    ]


def faults(log: list[Any], publishers: list[Publisher]) -> list[str]:
    """What is wrong with what a member was sent of those who publish to its room."""
    found = []
    gaps = [place for place, one in enumerate(log) if one is GAP]
    for publisher in publishers:
        places = {one[1]: at for at, one in enumerate(log) if one[0] == publisher.name}
        numbers = [one[1] for one in log if one[0] == publisher.name]
        if numbers != sorted(set(numbers)):
            found.append(f"{publisher.name}: twice, or not in order")
        for missing in set(publisher.acknowledged).difference(numbers):
            # Where it belongs, the member was told.
            after = max((at for number, at in places.items() if number < missing), default=-1)
            before = min(
                (at for number, at in places.items() if number > missing), default=len(log)
            )
            if not any(after < gap < before for gap in gaps):
                found.append(f"{publisher.name}: {missing} is missing, and nothing was said")
    return found


@pytest.mark.parametrize(
    ("log", "right"),
    [
        ([(0, 1), (0, 2), (0, 3)], True),
        ([(0, 1), GAP, (0, 3)], True),
        ([(0, 1), (0, 3), GAP], False),
        ([(0, 1), (0, 3)], False),
        ([GAP, (0, 1), (0, 2)], False),
        ([(0, 1), (0, 2), GAP], True),
        ([(0, 1), (0, 3), (0, 2)], False),
        ([(0, 1), (0, 2), (0, 2), (0, 3)], False),
    ],
)
def test_checker_of_planted_faults_finds_each(log: list[Any], right: bool) -> None:
    publisher = Publisher.__new__(Publisher)
    publisher.name, publisher.acknowledged = 0, [1, 2, 3]
    assert (not faults(log, [publisher])) is right


@asynccontextmanager
async def killed(folder: Path) -> AsyncIterator[Fails]:
    """A Valkey that is killed and started again with what it has on disk."""
    with valkey(folder, "--appendonly", "yes", "--appendfsync", "always") as server:

        def fail() -> None:
            server.kill()
            server.start()

        yield server.url, fail


@asynccontextmanager
async def emptied(folder: Path) -> AsyncIterator[Fails]:
    """One that is started again with nothing."""
    with valkey(folder) as server:

        def fail() -> None:
            server.kill()
            server.start()

        yield server.url, fail


@asynccontextmanager
async def failed_over(folder: Path) -> AsyncIterator[Fails]:
    """A primary that is killed, and whose replica takes over."""
    with sentinels(folder) as servers:
        yield servers.url, servers.fail_over


@asynccontextmanager
async def shard_failed_over(folder: Path) -> AsyncIterator[Fails]:
    """A cluster, of which the primary is killed that has one of the rooms."""
    with valkey_cluster(folder) as cluster:
        number = cluster.primary_of("tidegate:{rone}")
        yield cluster.url, partial(cluster.fail_over, number)


@asynccontextmanager
async def home_failed_over(folder: Path) -> AsyncIterator[Fails]:
    """A cluster, of which the primary is killed that has what is not of rooms."""
    with valkey_cluster(folder) as cluster:
        yield cluster.url, partial(cluster.fail_over, cluster.primary_of("{tidegate}"))


WAYS = [killed, emptied, failed_over, shard_failed_over, home_failed_over]


@pytest.mark.parametrize("how", WAYS)
@in_loop
async def test_every_message_comes_once_and_in_order_or_the_member_is_told(
    how: Any, tmp_path: Path
) -> None:
    async with how(tmp_path) as (url, fail), fleet(url, 2, **RULES) as nodes:
        members = {room: [await _member(node, room) for node in nodes * MEMBERS] for room in ROOMS}
        publishers = [
            Publisher(await _member(nodes[n // 2 % 2], ROOMS[n % 2]), n) for n in range(PUBLISHERS)
        ]
        work = [asyncio.create_task(one.run()) for one in publishers]
        await until(lambda: all(len(one.acknowledged) > 20 for one in publishers))
        await asyncio.to_thread(fail)
        before = [len(one.acknowledged) for one in publishers]
        await until(lambda: all(node.up for node in nodes))
        async with asyncio.timeout(30):
            while any(
                len(one.acknowledged) <= count + 20
                for one, count in zip(publishers, before, strict=True)
            ):
                await asyncio.sleep(0.02)
        for one in publishers:
            one.ended = True
        await asyncio.gather(*work)
        last = {one.name: await one.finish() for one in publishers}
        for room, clients in members.items():
            own = [one for one in publishers if one.room == room]
            ends = {(one.name, last[one.name]) for one in own}
            for client in clients:
                await until(partial(_has_all, client, room, ends))
                log = heard(client, room)
                assert faults(log, own) == []
                # All members of all nodes have one order.
                first = heard(clients[0], room)
                both = {*log} & {*first} - {GAP}
                assert [x for x in log if x in both] == [x for x in first if x in both]


def _has_all(client: NativeClient, room: str, wanted: set[tuple[int, int]]) -> bool:
    return wanted <= {*heard(client, room)}


async def _member(node: FleetNode, room: str) -> NativeClient:
    client = await node.client()
    assert (await client.ask("join", room=room))["type"] == "ack"
    return client
