"""Every node knows the others: how full they are, and which of them are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import msgpack

from tests.conftest import Start
from tests.support.aio import in_loop, run
from tests.support.between import Server
from tests.support.fleet_nodes import FleetNode, fleet
from tests.support.native import NativeClient
from tests.support.nats import Nats
from tests.support.net import wait_until
from tests.support.tokens import SECRET
from tidegate.backplane import nodes as timing
from tidegate.node.control import NodeRow, NodesPage

TTL = 1.5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that say quickly how they are, and are soon forgotten when they are gone."""
    monkeypatch.setattr(timing, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(timing, "_LISTED_SECONDS", 2.0)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def states(node: FleetNode) -> list[str]:
    return sorted(row.state for row in (await node.control.nodes()).nodes)


def of(page: NodesPage, node: FleetNode) -> NodeRow:
    name = node.node.engine.shared.name
    return next(row for row in page.nodes if row.id == name)


@in_loop
async def test_every_node_lists_all_with_their_connections(server: Server, quick: None) -> None:
    async with fleet(server.url, 3) as nodes:
        first, second, third = nodes

        async def all_there() -> bool:
            return await states(third) == ["serving"] * 3

        await until(all_there)
        client = await first.client("ann")

        async def seen() -> bool:
            return of(await third.control.nodes(), first).connections == 1

        await until(seen)
        page = await third.control.nodes()
        assert page.complete
        assert page.connections == 1
        assert page.capacity == sum(row.capacity for row in page.nodes)
        assert [row.own for row in page.nodes].count(True) == 1
        assert of(page, third).own
        port = second.node.addresses[0][1]
        assert of(page, second).addresses == (f"127.0.0.1:{port}",)
        assert abs(of(page, first).since - time.time()) < 20
        stats = await third.control.fleet_stats()
        assert (stats.nodes, stats.complete, stats.connections.current) == (3, True, 1)
        await client.close()


@in_loop
async def test_a_node_that_stops_is_gone_at_once(server: Server, quick: None) -> None:
    async with fleet(server.url) as nodes:

        async def both() -> bool:
            return await states(nodes[0]) == ["serving"] * 2

        await until(both)
        await nodes[1].node.stop(0.2)
        while (found := await states(nodes[0])) == ["serving"] * 2:
            await asyncio.sleep(0)  # the others may be told a moment later
        assert found == ["serving"]


@in_loop
async def test_a_node_that_drains_says_so(server: Server, quick: None) -> None:
    async with fleet(server.url) as nodes:
        client = await nodes[1].client("ann")
        draining = asyncio.create_task(nodes[1].node.drain(30))

        async def seen() -> bool:
            return await states(nodes[0]) == ["draining", "serving"]

        await until(seen)
        await client.close()
        await nodes[1].node.stop(0.2)
        await draining


@in_loop
async def test_a_node_that_is_cut_off_is_gone_and_comes_back(server: Server, quick: None) -> None:
    async with fleet(server.url, fleet={"ttl": 1}) as (first, second):

        async def serve() -> bool:
            return await states(first) == ["serving"] * 2

        async def gone() -> bool:
            return await states(first) == ["gone", "serving"]

        async def forgotten() -> bool:
            return await states(first) == ["serving"]

        await until(serve)
        await second.cut()
        page = await second.control.nodes()
        assert not page.complete
        assert [row.own for row in page.nodes] == [True]
        await until(gone)
        assert (await first.control.nodes()).capacity == first.node.tracker.limit
        await until(forgotten)
        await second.join()
        await until(serve)


@in_loop
async def test_a_server_that_was_emptied_knows_all_again(own: Server, quick: None) -> None:
    async with fleet(own.url) as nodes:

        async def both() -> bool:
            page = await nodes[0].control.nodes()
            return page.complete and len(page.nodes) == 2

        await until(both)
        own.kill()
        own.forget()
        own.start()
        await until(both)


@in_loop
async def test_a_record_of_another_version_is_left_out(server: Server, quick: None) -> None:
    async with fleet(server.url, 1) as (node,):
        if isinstance(server, Nats):
            server.publish("tidegate.peers", msgpack.encode(["strange", "beat", b'{"id": 7}']))
        else:
            server.command("HSET", "tidegate:{nodes}", "strange", '{"id": 7}')
            now = str(int(time.time() * 1000))
            server.command("ZADD", "tidegate:{nodes}:heard", now, "strange")
        page = await node.control.nodes()
        assert page.complete
        assert [row.own for row in page.nodes] == [True]
        if not isinstance(server, Nats):
            server.command("HDEL", "tidegate:{nodes}", "strange")
            server.command("ZREM", "tidegate:{nodes}:heard", "strange")


def test_a_killed_node_is_gone_for_everything_after_the_ttl_of_the_fleet(
    serve: Start, own: Server
) -> None:
    settings: dict[str, Any] = {
        "auth": {"secret": SECRET},
        "backplane": {"url": own.url},
        "fleet": {"ttl": TTL},
        "rooms": {"rules": [{"pattern": "seen", "presence": "members", "presence_grace": 0.0}]},
    }
    first, second = serve(settings), serve(settings)

    def listed() -> list[str]:
        return sorted(row["state"] for row in first.get("/nodes")[1]["nodes"])

    async def until_bob_left() -> float:
        ann = await NativeClient.at(first.url, "ann")
        await ann.ask("join", room="seen", presence=True)
        bob = await NativeClient.at(second.url, "bob")
        await bob.ask("join", room="seen")
        await ann.until(lambda one: one["type"] == "user_joined")
        second.process.kill()
        killed = time.monotonic()
        left = await ann.until(lambda one: one["type"] == "user_left")
        assert left["users"] == ["bob"]
        await ann.close()
        await bob.close()
        return time.monotonic() - killed

    wait_until(lambda: listed() == ["serving"] * 2, 20)
    took = run(until_bob_left())
    assert TTL / 2 < took < 2 * TTL
    wait_until(lambda: listed() == ["gone", "serving"], TTL)
    status, stats = first.get("/stats?scope=fleet")
    assert status == 200
    assert (stats["nodes"], stats["complete"]) == (1, True)
    assert first.get("/stats?scope=galaxy")[0] == 400


def test_a_node_without_its_backplane_says_so_until_it_is_back(serve: Start, own: Server) -> None:
    server = serve({"backplane": {"url": own.url}})
    wait_until(lambda: server.metrics()["websocket_backplane_latency_seconds_count"] > 0, 20)
    assert server.get("/ready") == (200, {"ready": True})
    own.kill()
    wait_until(lambda: server.get("/ready") == (200, {"ready": True, "down": ["backplane"]}), 20)
    assert server.metrics()["websocket_backplane_up"] == 0
    page = server.get("/nodes")[1]
    assert (page["complete"], page["backplane"]["up"]) == (False, False)
    own.start()
    wait_until(lambda: server.get("/ready") == (200, {"ready": True}), 20)
    metrics = server.metrics()
    assert metrics["websocket_backplane_up"] == 1
    assert metrics["websocket_backplane_reconnects_total"] >= 1
    assert metrics['websocket_backplane_bytes_total{direction="sent"}'] > 0
    wait_until(lambda: server.get("/nodes")[1]["complete"], 20)
