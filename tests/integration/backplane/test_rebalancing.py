"""Rebalancing: after a node joins, the fullest nodes ask some of their clients to move."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import in_loop
from tests.support.between import Server
from tests.support.deploying import files, here, plan
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.native import NativeClient
from tests.support.net import free_port
from tests.support.proxies import Tool, fetched, running
from tidegate.backplane import nodes as timing
from tidegate.client import State, connect
from tidegate.core.balancing import moves
from tidegate.core.codes import REBALANCED
from tidegate.deploy import Node
from tidegate.node import rebalancing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that may move soon after they have come."""
    monkeypatch.setattr(timing, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(rebalancing, "REST_SECONDS", 0.5)
    monkeypatch.setattr(rebalancing, "NOTICE_SECONDS", 0.2)
    monkeypatch.setattr(rebalancing, "_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(moves, "SETTLE_SECONDS", 1.0)


def counts(nodes: list[FleetNode]) -> list[int]:
    return [one.node.tracker.open for one in nodes]


async def known(nodes: list[FleetNode], connections: int) -> None:
    """Wait until all nodes know each other, and how many connections they have."""
    async with asyncio.timeout(20):
        for node in nodes:
            while await _counted(node) != (len(nodes), connections):
                await asyncio.sleep(0.02)


async def _counted(node: FleetNode) -> tuple[int, int]:
    page = await node.control.nodes()
    return sum(row.state in ("serving", "unready") for row in page.nodes), page.connections


async def obeys(client: NativeClient, node: FleetNode) -> NativeClient:
    """Do what a client does: wait for the notice and the close, and come back elsewhere."""
    notice = await noticed(client)
    assert notice["reconnectDelay"] == 0.2
    await client.connection.wait_closed()
    assert client.connection.close_code == REBALANCED.code
    return await node.client()


async def noticed(client: NativeClient) -> dict[str, Any]:
    return await client.until(
        lambda one: one["type"] == "server_shutdown" and one["reason"] == "rebalanced"
    )


@in_loop
async def test_a_fleet_is_evened_out_and_nobody_moves_who_need_not(server: Server) -> None:
    async with fleet(server.url, 2) as nodes:
        first, second = nodes
        clients = [await first.client() for _ in range(20)]
        await asyncio.sleep(0.6)
        await known(nodes, 20)
        # Any node can be asked.
        begun = await second.control.rebalance(rate=50)
        assert (begun.nodes, begun.members, begun.active, begun.left) == (2, 2, 1, 10)
        moving = [asyncio.create_task(obeys(client, second)) for client in clients]
        await until(lambda: counts(nodes) == [10, 10])
        async with asyncio.timeout(30):
            while (await first.control.rebalanced()).active:
                await asyncio.sleep(0.1)
        done = await first.control.rebalanced()
        assert (done.moved, done.left, done.complete) == (10, 0, True)
        assert counts(nodes) == [10, 10]
        assert sum(task.done() for task in moving) == 10
        # And again: there is nothing to do.
        again = await first.control.rebalance()
        assert (again.active, again.left) == (0, 0)
        for task in moving:
            task.cancel()


@in_loop
async def test_a_node_that_is_alone_says_so(server: Server) -> None:
    async with fleet(server.url, 1) as (only,):
        client = await only.client()
        told = await only.control.rebalance()
        assert (told.nodes, told.members, told.active) == (1, 1, 0)
        assert client.connection.close_code is None


@in_loop
async def test_clients_that_have_just_come_are_left_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebalancing, "REST_SECONDS", 60.0)
    async with fleet(server.url, 2) as nodes:
        clients = [await nodes[0].client() for _ in range(6)]
        await known(nodes, 6)
        assert (await nodes[0].control.rebalance(rate=100)).active == 1
        await asyncio.sleep(1)
        assert counts(nodes) == [6, 0]
        assert (await nodes[0].control.rebalanced()).moved == 0
        # It is ended.
        assert (await nodes[1].control.rebalance(rate=0)).active == 0
        assert {client.connection.close_code for client in clients} == {None}


@in_loop
async def test_a_node_does_it_by_itself_where_it_has_a_rate(server: Server) -> None:
    async with fleet(server.url, 2, rebalance={"rate": 100}) as nodes:
        first, second = nodes
        clients = [await first.client() for _ in range(8)]
        moving = [asyncio.create_task(obeys(client, second)) for client in clients]
        await until(lambda: counts(nodes) == [4, 4])
        for task in moving:
            task.cancel()


@in_loop
async def test_nobody_moves_while_the_node_is_critical(server: Server) -> None:
    critical: dict[str, Any] = {"limits": {"connections": 10}}
    async with fleet(server.url, 2, **critical) as nodes:
        for _ in range(9):
            await nodes[0].client()
        await until(lambda: nodes[0].node.shedder.zone.label in ("critical", "emergency"))
        await known(nodes, 9)
        await asyncio.sleep(0.6)
        assert (await nodes[0].control.rebalance(rate=100)).active == 0
        assert counts(nodes) == [9, 0]


@in_loop
async def test_notices_have_the_route_of_the_other_node(server: Server) -> None:
    made = [FleetNode(server.url, server={"route": name}) for name in ("a", "b")]
    for one in made:
        await one.node.start()
    try:
        clients = [await made[0].client() for _ in range(2)]
        await known(made, 2)
        await asyncio.sleep(0.6)
        await made[1].control.rebalance(rate=100)
        notices = [asyncio.create_task(noticed(one)) for one in clients]
        told, _ = await asyncio.wait(notices, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()["route"] for task in told] == ["b"]
        for task in notices:
            task.cancel()
    finally:
        await asyncio.gather(*(one.node.stop(0.2) for one in made))


@in_loop
async def test_clients_move_through_haproxy_to_the_node_that_joined(
    server: Server, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "SETTLE_SECONDS", 5.0)  # real clients may take a while
    settings: dict[str, Any] = {"proxies": {"trusted": ["127.0.0.1"]}}
    settings["limits"] = {"connections": 200}  # proxies want two descriptors for each
    made = [FleetNode(server.url, server={"route": name}, **settings) for name in ("a", "b")]
    try:
        for one in made:
            await one.node.start()
        ports = [one.node.addresses[0][1] for one in made]
        places = [Node("127.0.0.1", ports[0], "a"), Node("127.0.0.1", ports[1], "b")]
        (text,) = files("haproxy", plan(settings, nodes=tuple(places))).values()
        port, statistics = free_port(), free_port()
        (tmp_path / "haproxy.cfg").write_text(here(text, port, statistics, tmp_path))
        async with AsyncExitStack() as stack:
            stack.enter_context(running([tool("haproxy"), "-db", "-f", "haproxy.cfg"], tmp_path))
            async with asyncio.timeout(20):
                while await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/ready") != 200:
                    await asyncio.sleep(0.05)
            url = f"ws://127.0.0.1:{port}/ws?route=a"
            clients = [await stack.enter_async_context(connect(url)) for _ in range(20)]
            assert counts(made) == [20, 0]
            await asyncio.sleep(0.6)
            await known(made, 20)
            await made[1].control.rebalance(rate=50)
            await until(lambda: counts(made) == [10, 10])
            await until(lambda: {client.state for client in clients} == {State.OPEN})
            async with asyncio.timeout(30):
                while (await made[0].control.rebalanced()).active:
                    await asyncio.sleep(0.1)
            assert (await made[0].control.rebalanced()).moved == 10
            assert counts(made) == [10, 10]
    finally:
        await asyncio.gather(*(one.node.stop(0.2) for one in made))
