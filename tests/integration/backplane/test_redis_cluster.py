"""What only a cluster does: shards, and slots that move from one to another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.backplane.nodes import Node, nodes, until
from tests.support.aio import in_loop
from tests.support.valkey_cluster import ValkeyCluster, valkey_cluster
from tidegate.backplane.redis.cluster import Cluster, is_cluster
from tidegate.backplane.redis.servers import cluster_of
from tidegate.errors import BackplaneError


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ValkeyCluster]:
    with valkey_cluster(tmp_path) as started:
        yield started


@in_loop
async def test_rooms_are_on_all_shards(cluster: ValkeyCluster) -> None:
    async with nodes(cluster.url) as (one, two):
        rooms = [f"kept-{number}" for number in range(30)]
        for room in rooms:
            assert await one.join(room) is None
            assert await two.publish(room, 1) is None
        await until(lambda: len(one.got) == 30)
        for own in cluster.servers[:3]:
            assert int(own.command("DBSIZE")[1:]) >= 2 * 3
            assert b"pubsub_shardchannels:0" not in own.command("INFO", "stats")


@in_loop
async def test_slots_that_move_take_their_rooms_along(cluster: ValkeyCluster) -> None:
    async with nodes(cluster.url) as (one, two):
        for room in ("kept-a", "plain"):
            for node in (one, two):
                assert await node.join(room) is None
            assert await two.publish(room, 1) is None
            name = f"tidegate:{{r{room}}}"
            to = (cluster.primary_of(name) + 1) % 3
            await asyncio.to_thread(cluster.move, name, to)
            last = 1
            async with asyncio.timeout(20):
                while not (last > 1 and last in one.data(room) and last in two.data(room)):
                    last += await two.publish(room, last + 1) is None
                    await asyncio.sleep(0.05)
            for node in (one, two):
                # What was published before all links were there may be missing, and is told.
                missing = set(range(1, last + 1)).difference(node.data(room))
                assert not missing or room in node.gaps
                assert node.data(room) == sorted(set(node.data(room)))


@in_loop
async def test_a_failover_by_hand_concerns_the_rooms_of_its_shard_alone(
    cluster: ValkeyCluster,
) -> None:
    number = cluster.primary_of("tidegate:{rplain}")
    others = [room for room in "abcdefgh" if cluster.primary_of(f"tidegate:{{r{room}}}") != number]
    async with nodes(cluster.url) as (one, two):
        for room in ("plain", *others):
            assert await one.join(room) is None
        before = one.broker._links.hears(one.broker._links.room("plain")).peer
        await asyncio.to_thread(cluster.change_over, number)
        last = 0
        async with asyncio.timeout(20):
            while last not in one.data("plain"):
                last += await two.publish("plain", last + 1) is None
                await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            # Nobody listens to what is a replica now.
            while one.broker._links.hears(one.broker._links.room("plain")).peer in (before, None):
                for node in (one, two):  # who publishes learns it
                    await node.publish("plain", 999)
                await asyncio.sleep(0.05)
        for number, room in enumerate(others):
            assert await two.publish(room, number) is None
            await until(partial(one.data, room))
        assert set(one.gaps) <= {"plain"}


@in_loop
async def test_hosts_that_are_not_there_are_passed_over(cluster: ValkeyCluster) -> None:
    url = cluster.url.replace("//", "//127.0.0.1:1,")
    async with nodes(url) as (one, two):
        assert await one.join("r") is None
        assert await two.publish("r", 1) is None
        await until(lambda: one.data("r") == [1])


@in_loop
async def test_a_server_that_is_in_no_cluster_is_an_error_at_the_start(
    cluster: ValkeyCluster,
) -> None:
    node = Node("redis+cluster://127.0.0.1:1", "n")
    with pytest.raises(BackplaneError, match=r"backplane\.url: .*"):
        await node.broker.start(node)
    await node.broker.stop()
    cluster.servers[0].command("CLUSTER", "DELSLOTSRANGE", "0", "10")
    node = Node(cluster.url.partition(",")[0], "n")
    with pytest.raises(BackplaneError, match=r"backplane\.url: not all slots"):
        await node.broker.start(node)
    await node.broker.stop()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis+cluster://a", True),
        ("valkeys+cluster://u:p@a:1,b:2", True),
        ("redis://a", False),
        ("redis+sentinel://a/main", False),
    ],
)
def test_url_says_whether_it_is_a_cluster(url: str, found: bool) -> None:
    assert is_cluster(url) is found
    made = cluster_of(url, 1.0)
    assert isinstance(made, Cluster) is found


def test_names_with_the_same_braces_are_in_one_slot() -> None:
    made = cluster_of("redis+cluster://a", 1.0)
    assert made is not None
    assert made.slot("tidegate:{r}x}") == made.slot(b"tidegate:{r}x}:stream")
    assert made.slot("{tidegate}:orders") == made.slot("{tidegate}:{directs}:all")
