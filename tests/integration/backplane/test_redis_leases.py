"""Counts of two nodes over a real Valkey, and what happens when it forgets them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import in_loop
from tests.support.valkey import Valkey, sentinels, valkey
from tests.support.valkey_cluster import valkey_cluster
from tidegate.backplane.redis.leases import RedisLeases
from tidegate.backplane.redis.links import links_of
from tidegate.backplane.redis.scripts import SCRIPTS
from tidegate.backplane.redis.servers import connector_of
from tidegate.core.settings import BackplaneSettings
from tidegate.errors import BackplaneError

TTL = 1.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as started:
        yield started


class Node:
    """The counts of one node, and what it holds."""

    def __init__(self, url: str, name: str, ttl: float = TTL) -> None:
        settings = BackplaneSettings(url=url, timeout=1.0)
        self.leases = RedisLeases(connector_of(url, 1.0, "{fleet}"), settings, ttl, name)
        self.name = name
        self.held: Counter[str] = Counter()
        self.lost = 0

    async def start(self) -> None:
        await self.leases.start(self.held, self.lose)

    def lose(self) -> None:
        self.lost += 1

    async def take(self, limit: int | None, *names: str) -> int | None:
        """Ask for one more; 0 when it was taken, and is held from now on."""
        told: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.leases.take(names, [limit] * len(names), told.set_result)
        taken = await asyncio.wait_for(told, 20)
        if taken == 0:
            self.held.update(names)
        return taken

    def give_back(self, name: str) -> None:
        self.held[name] -= 1
        if not self.held[name]:
            del self.held[name]
        self.leases.change((name,), ())


@asynccontextmanager
async def pair(own: Valkey, ttl: float = TTL) -> AsyncIterator[tuple[Node, Node]]:
    one, other = Node(own.url, "one", ttl), Node(own.url, "other", ttl)
    await one.start()
    await other.start()
    try:
        yield one, other
    finally:
        await one.leases.stop()
        await other.leases.stop()


def counts(own: Valkey, node: Node) -> dict[str, int]:
    """What the server has of a node."""
    fields = own.command("HGETALL", f"tidegate:{{fleet}}:counts:{node.name}").split(b"\r\n")[2::2]
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    pairs.pop(b"run", None)
    return {name.decode(): int(count) for name, count in pairs.items()}


async def until_right(own: Valkey, *nodes: Node) -> None:
    async with asyncio.timeout(20):
        while not all(counts(own, node) == node.held and node.leases.up for node in nodes):
            await asyncio.sleep(0.02)


@in_loop
async def test_a_limit_holds_over_both_and_takes_all_counts_or_none(own: Valkey) -> None:
    async with pair(own) as (one, other):
        assert [await node.take(3, "c", "u:ann") for node in (one, other, one)] == [0, 0, 0]
        assert await other.take(3, "u:bob", "c") == 2  # the second of these
        assert counts(own, other) == {"c": 1, "u:ann": 1}
        one.give_back("c")
        assert await other.take(3, "u:bob", "c") == 0
        assert await one.take(None, "u:ann") == 0  # where there is no limit
        await until_right(own, one, other)
    assert counts(own, one) == counts(own, other) == {}


@in_loop
async def test_what_comes_together_is_asked_for_together_and_in_its_order(own: Valkey) -> None:
    async with pair(own) as (one, other):
        for _ in range(3):
            assert await other.take(9, "c", "left") == 0
        own.command("CONFIG", "RESETSTAT")
        takes = [one.take(303, "c", f"u:{number}") for number in range(450)]
        answers = asyncio.gather(*takes, *(other.take(None, "late") for _ in range(2)))
        for _ in range(3):
            other.give_back("left")
        assert await answers == [0] * 300 + [1] * 150 + [0, 0]
        calls = own.command("INFO", "commandstats").split(b"cmdstat_evalsha:calls=")[1]
        assert 4 <= int(calls.split(b",")[0]) <= 8  # 3 of the one, 1 of the other, and heartbeats
        await until_right(own, one, other)
        assert counts(own, other) == {"c": 3, "late": 2}


@in_loop
async def test_what_comes_while_the_server_is_slow_is_asked_for_together(own: Valkey) -> None:
    async with pair(own) as (one, _):
        assert await one.take(None, "c") == 0
        own.command("CONFIG", "RESETSTAT")
        own.freeze()
        takes = []
        for _ in range(50):
            takes.append(asyncio.ensure_future(one.take(30, "c")))
            await asyncio.sleep(0.001)
        own.thaw()
        assert await asyncio.gather(*takes) == [0] * 29 + [1] * 21
        calls = own.command("INFO", "commandstats").split(b"cmdstat_evalsha:calls=")[1]
        assert int(calls.split(b",")[0]) <= 4  # the first, all others, and heartbeats
        await until_right(own, one)


@in_loop
async def test_what_a_dead_node_held_is_free_after_its_time_to_live(own: Valkey) -> None:
    async with pair(own) as (one, other):
        assert await one.take(1, "c") == 0
        one.leases._link._task.cancel()  # type: ignore[union-attr]  # it is dead
        one.leases._task.cancel()  # type: ignore[union-attr]  # and so is its heart
        began = asyncio.get_running_loop().time()
        while await other.take(1, "c"):
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - began > TTL / 2
    assert not one.lost


@in_loop
@pytest.mark.parametrize("forgets", ["FLUSHALL", "SCRIPT FLUSH", "CLIENT KILL TYPE normal"])
async def test_a_server_that_forgets_is_told_again(own: Valkey, forgets: str) -> None:
    chance = random.Random(1)
    async with pair(own, 5.0) as nodes:  # longer than this process may stand still
        for step in range(300):
            node = chance.choice(nodes)
            if chance.random() < 0.6:
                await node.take(40, "c", f"u:{chance.randrange(5)}")
            elif node.held:
                node.give_back(chance.choice([*node.held]))
            if step % 50 == 25:
                own.command(*forgets.split())
            assert sum(node.held["c"] for node in nodes) <= 40
        await until_right(own, *nodes)
        assert [node.lost for node in nodes] == [0, 0]


@in_loop
@pytest.mark.parametrize("with_data", [True, False])
async def test_after_a_restart_nobody_gets_more_until_all_have_said_what_they_hold(
    own: Valkey, with_data: bool
) -> None:
    async with pair(own, 3.0) as (one, other):
        for _ in range(3):
            assert await one.take(5, "c") == await other.take(9, "c") == 0
        await asyncio.sleep(1.1)  # each has heard of the other
        one.give_back("c")
        own.kill()
        while one.leases.up or other.leases.up:
            await asyncio.sleep(0.02)
        other.give_back("c")  # while nobody can be told
        if not with_data:
            for path in own.folder.glob("appendonlydir/*"):
                path.unlink()
        own.start()
        while not (one.leases.up or other.leases.up):
            await asyncio.sleep(0.02)
        first = one if one.leases.up else other
        assert await first.take(5, "c") == 0
        assert await first.take(5, "c") == 1
        await until_right(own, one, other)
        assert one.held["c"] + other.held["c"] == 5


@contextmanager
def by_sentinel(folder: Path) -> Iterator[tuple[str, Callable[[], None], Valkey]]:
    with sentinels(folder) as servers:
        yield servers.url, servers.fail_over, servers.replica


@contextmanager
def in_cluster(folder: Path) -> Iterator[tuple[str, Callable[[], None], Valkey]]:
    with valkey_cluster(folder) as servers:
        number = servers.primary_of("{fleet}")
        yield servers.url, partial(servers.fail_over, number), servers.servers[number + 3]


@pytest.mark.parametrize("start", [by_sentinel, in_cluster])
@in_loop
async def test_a_limit_holds_through_a_failover(start: Any, tmp_path: Path) -> None:
    with start(tmp_path) as (url, fail_over, replica):
        one, other = Node(url, "one", 3.0), Node(url, "other", 3.0)
        await one.start()
        await other.start()
        for node in (one, other, one):
            assert await node.take(4, "c") == 0
        await asyncio.sleep(1.1)  # each has heard of the other
        await asyncio.to_thread(fail_over)
        other.give_back("c")
        async with asyncio.timeout(30):
            while not (one.leases.up and other.leases.up):
                await asyncio.sleep(0.02)
        assert [await one.take(4, "c") for _ in range(3)] == [0, 0, 1]
        await until_right(replica, one, other)
        assert one.held["c"] + other.held["c"] == 4
        await one.leases.stop()
        await other.leases.stop()


@in_loop
async def test_a_node_that_was_away_for_longer_than_its_time_to_live_is_told(own: Valkey) -> None:
    async with pair(own) as (one, _):
        assert await one.take(1, "c") == 0
        own.freeze()
        async with asyncio.timeout(20):
            while not one.lost:
                await asyncio.sleep(0.02)
        assert await one.take(1, "c") is None
        own.thaw()
        await until_right(own, one)
        assert one.lost == 1


@in_loop
async def test_start_without_a_server_says_so(own: Valkey) -> None:
    own.stop()
    with pytest.raises(BackplaneError, match=r"backplane\.url"):
        await Node(own.url, "one").start()


@in_loop
async def test_begin_without_a_server_counts_as_soon_as_there_is_one(own: Valkey) -> None:
    own.stop()
    node = Node(own.url, "one")
    await node.leases.begin(node.held, node.lose)
    assert await node.take(1, "c") is None
    node.held["c"] += 1
    own.start()
    await until_right(own, node)
    await node.leases.stop()


@in_loop
async def test_a_room_of_the_name_of_the_fleet_is_another_thing(own: Valkey) -> None:
    async with pair(own) as (one, other):
        assert await one.take(2, "c") == 0
        links = links_of(own.url, BackplaneSettings(url=own.url, timeout=1.0), "n")
        links.hear(b"anything", lambda _: None)
        await links.start()
        read = asyncio.Event()
        room = links.room("fleet")
        # As is done for a room with presence, of which some nodes are gone.
        keys, gone = (room + b":nodes",), (room + b":at:", "one", "other")
        links.run(SCRIPTS["present"], keys, *gone, answer=lambda _: read.set())
        await asyncio.wait_for(read.wait(), 20)
        await links.stop()
        assert [await other.take(2, "c") for _ in range(2)] == [0, 1]
