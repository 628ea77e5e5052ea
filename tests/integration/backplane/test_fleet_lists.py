"""Connections, users and rooms of all nodes, asked of any."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conftest import Start
from tests.integration.backplane.test_orders import frozen_node
from tests.support.aio import in_loop
from tests.support.between import Server
from tests.support.fleet_nodes import FleetNode, fleet
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tests.support.valkey import valkey
from tidegate.api import ServerApi
from tidegate.node.control import ConnectionsQuery, RoomRow, RoomsQuery, UserRow, UsersQuery

COMMAND = str(Path(sys.executable).with_name("tidegate"))


def name(node: FleetNode) -> str:
    return node.node.engine.shared.name


@in_loop
async def test_every_node_lists_those_of_all(server: Server) -> None:
    async with fleet(server.url, 3) as nodes:
        one, two, three = nodes
        clients = [await node.client("ann") for node in (one, two, two)]
        clients.append(await three.client("bob"))
        for client in clients:
            assert (await client.ask("join", room="r"))["type"] == "ack"
        await clients[-1].ask("join", room="s")
        counts = {name(one): 1, name(two): 2}
        for node in nodes:
            users = await node.control.users(UsersQuery(scope="fleet"))
            assert users.users == [UserRow("ann", 3, counts), UserRow("bob", 1, {name(three): 1})]
            assert (users.total, users.next, users.complete) == (2, None, True)
            for after in (None, ""):
                rooms = await node.control.rooms(RoomsQuery(scope="fleet", after=after))
                assert rooms.rooms == [
                    RoomRow("r", 4, nodes={**counts, name(three): 1}),
                    RoomRow("s", 1, nodes={name(three): 1}),
                ]
                assert (rooms.total, rooms.next, rooms.complete) == (2, None, True)
            members = await node.control.connections(ConnectionsQuery(room="r", scope="fleet"))
            assert {row.id: row.node for row in members.connections} == {
                client.welcome["connectionId"]: name(where)
                for client, where in zip(clients, (one, two, two, three), strict=True)
            }
            assert members.complete is True
        with frozen_node(server):
            async with asyncio.timeout(20):  # over NATS it is not known at once
                while (users := await one.control.users(UsersQuery(scope="fleet"))).complete:
                    await asyncio.sleep(0.01)
            assert len(users.users) == 2
            rooms = await one.control.rooms(RoomsQuery(scope="fleet"))
            assert (rooms.rooms[0].members, rooms.complete) == (4, False)
        for client in clients:
            await client.close()


def joined(open_ones: ExitStack, server: Process, user: str) -> None:
    """A client of a user, as a member of r."""
    client = open_ones.enter_context(Raw(server.port))
    client.open(headers=[bearer(user), ("Sec-WebSocket-Protocol", "tidegate.v1.json")])
    client.message()
    client.send_frame(TEXT, '{"type":"join","room":"r","id":1}')
    client.message()


def test_servers_are_listed_until_they_are_killed(serve: Start, tmp_path: Path) -> None:
    with valkey(tmp_path) as own, ExitStack() as open_ones:
        settings: dict[str, Any] = {
            "backplane": {"url": own.url, "timeout": 1},
            "auth": {"secret": SECRET},
        }
        first, second = serve(settings), serve(settings)
        joined(open_ones, first, "ann")
        joined(open_ones, second, "ann")
        joined(open_ones, second, "bob")

        def listed(path: str, key: str) -> tuple[list[Any], bool]:
            status, page = first.get(path)
            assert status == 200, page
            return page[key], page["complete"]

        wait_until(lambda: len(listed("/nodes", "nodes")[0]) == 2, 20)
        ids = {row["own"]: row["id"] for row in first.get("/nodes")[1]["nodes"]}
        both = {"user": "ann", "connections": 2, "nodes": {ids[True]: 1, ids[False]: 1}}
        bob = {"user": "bob", "connections": 1, "nodes": {ids[False]: 1}}
        alone = {"user": "ann", "connections": 1, "nodes": {ids[True]: 1}}
        assert listed("/users?scope=fleet", "users") == ([both, bob], True)
        assert first.get("/users")[1] == {
            "users": [{"user": "ann", "connections": 1}],
            "total": 1,
            "next": None,
        }
        rows, complete = listed("/connections?scope=fleet&room=r", "connections")
        assert sorted(row["node"] for row in rows) == sorted([ids[True], *[ids[False]] * 2])
        assert complete
        with ServerApi(f"http://127.0.0.1:{first.admin_port}") as api:
            room = api.rooms(name="r", fleet=True).rooms[0]
            assert (room.members, room.nodes) == (3, {ids[True]: 1, ids[False]: 2})
            assert [one.user for one in api.each_user(fleet=True)] == ["ann", "bob"]
            page = api.connections(limit=1, fleet=True)
            rest = api.connections(after=page.next or 0, fleet=True)
            seen = [*page.connections, *rest.connections]
            assert len({one.id for one in seen}) == len(seen) == 3
        for wrong in ("scope=galaxy", "scope=fleet&limit=1001"):
            assert first.get(f"/users?{wrong}")[0] == 400
        assert first.get("/connections?scope=fleet&after=x")[1]["field"] == "after"

        second.process.send_signal(signal.SIGSTOP)
        assert listed("/users?scope=fleet", "users") == ([alone], False)
        command = [COMMAND, "users", "--fleet", "--admin", f"127.0.0.1:{first.admin_port}"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
        assert f"{ids[True]} (1)\nNot all nodes have answered" in lines
        second.process.kill()
        wait_until(lambda: listed("/users?scope=fleet", "users") == ([alone], True), 20)
        rooms = listed("/rooms?scope=fleet", "rooms")
        nodes = {"name": "r", "members": 1, "history": None, "nodes": {ids[True]: 1}}
        assert rooms == ([nodes], True)
