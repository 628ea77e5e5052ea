"""Who is in a room, over several nodes: once for a user, and true after whatever happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.support.aio import in_loop
from tests.support.between import Server
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.native import NativeClient
from tidegate.node.control import PresenceQuery, PresenceRow

ROOMS: dict[str, Any] = {
    "rules": [
        {"pattern": "seen*", "presence": "members", "presence_grace": 0.0},
        {"pattern": "grace*", "presence": "members", "presence_grace": 30.0},
        {"pattern": "big*", "presence": "members", "presence_grace": 0.0, "presence_users": 2},
    ]
}


async def enter(node: FleetNode, user: str, room: str) -> NativeClient:
    """A client that is in a room, and is told who else is."""
    client = await node.client(user)
    answer = await client.ask("join", room=room, presence=True)
    assert answer["type"] == "ack", answer
    await client.until(lambda one: one["type"] in ("presence_state", "presence_count"))
    return client


def seen(client: NativeClient, room: str) -> Counter[str]:
    """Which users a client thinks are in a room, by what it was told; twice would be wrong."""
    users: Counter[str] = Counter()
    for one in client.got:
        if one.get("room") != room:
            continue
        if one["type"] == "presence_state":
            users = Counter(user["user"] for user in one["users"])
        elif one["type"] == "user_joined":
            users.update(user["user"] for user in one["users"])
        elif one["type"] == "user_left":
            users.subtract(one["users"])
    return +users


async def sees(client: NativeClient, room: str, *users: str) -> None:
    """Wait until a client thinks that exactly these are in a room."""
    await until(lambda: seen(client, room) == Counter(users))


async def row(node: FleetNode, room: str) -> dict[str, int]:
    """What the API of a node says of a room: users, and how many devices each has."""
    answer = await node.control.presence(PresenceQuery(room))
    assert isinstance(answer, PresenceRow)
    assert isinstance(answer.users, list)
    assert answer.count == len(answer.users)
    return {one.user: one.devices for one in answer.users}


@in_loop
async def test_users_of_all_nodes_are_seen_once_wherever_they_are(server: Server) -> None:
    async with fleet(server.url, 3, rooms=ROOMS) as (one, two, three):
        ann = await enter(one, "ann", "seen-1")
        bob = await enter(two, "bob", "seen-1")
        await sees(ann, "seen-1", "ann", "bob")
        await sees(bob, "seen-1", "ann", "bob")
        other = await enter(two, "ann", "seen-1")
        assert seen(other, "seen-1") == Counter(["ann", "bob"])

        async def devices(node: FleetNode, **wanted: int) -> None:
            async with asyncio.timeout(20):
                while await row(node, "seen-1") != wanted:
                    await asyncio.sleep(0.02)

        for node in (one, two, three):  # the third has no member there
            await devices(node, ann=2, bob=1)
        await ann.close()
        await devices(three, ann=1, bob=1)
        assert seen(bob, "seen-1") == Counter(["ann", "bob"])
        await other.close()
        await sees(bob, "seen-1", "bob")
        await bob.close()
        for node in (one, two, three):
            await devices(node)


@in_loop
async def test_reconnect_at_another_node_is_no_leave(server: Server) -> None:
    async with fleet(server.url, rooms=ROOMS) as (one, two):
        bob = await enter(two, "bob", "grace-1")
        ann = await enter(one, "ann", "grace-1")
        await until(lambda: "ann" in seen(bob, "grace-1"))
        await ann.close()
        again = await enter(two, "ann", "grace-1")
        assert seen(again, "grace-1") == Counter(["ann", "bob"])
        await asyncio.sleep(0.3)
        assert [message["type"] for message in bob.got].count("user_joined") == 1
        assert not bob.of("user_left")
        await bob.close()
        await again.close()


@in_loop
async def test_room_of_many_is_counted_over_all_nodes(server: Server) -> None:
    async with fleet(server.url, rooms=ROOMS) as (one, two):
        clients = [await enter(node, f"u{n}", "big-1") for n, node in enumerate((one, two) * 3)]
        for client in clients[:2]:
            await client.until(lambda one: one.get("count") == 6)
        answer = await one.control.presence(PresenceQuery("big-1"))
        assert isinstance(answer, PresenceRow)
        assert answer.count == 6
        assert not isinstance(answer.users, list)
        for client in clients:
            await client.close()


@in_loop
async def test_users_of_a_node_that_died_leave_after_a_while(server: Server) -> None:
    async with fleet(server.url, 3, rooms=ROOMS, fleet={"ttl": 2.0}) as (one, two, three):
        bob = await enter(one, "bob", "seen-2")
        ann = await enter(two, "ann", "seen-2")
        cid = await enter(three, "cid", "seen-2")
        for client in (bob, cid):
            await sees(client, "seen-2", "ann", "bob", "cid")
        await two.cut()  # nothing is heard of it any more
        for client in (bob, cid):
            await sees(client, "seen-2", "bob", "cid")
            assert [message["users"] for message in client.of("user_left")] == [["ann"]]
        assert seen(ann, "seen-2") == Counter(["ann", "bob", "cid"])  # it hears of nobody's end
        await two.join()  # it was only away
        for client in (bob, cid, ann):
            await sees(client, "seen-2", "ann", "bob", "cid")
            await client.close()


@in_loop
async def test_presence_is_written_again_when_the_server_has_lost_it(own: Server) -> None:
    async with fleet(own.url, rooms=ROOMS) as (one, two):
        ann = await enter(one, "ann", "seen-3")
        bob = await enter(two, "bob", "seen-3")
        await sees(ann, "seen-3", "ann", "bob")
        own.kill()
        own.forget()
        await until(lambda: not one.up and not two.up)
        await bob.close()
        own.start()
        await until(lambda: one.up and two.up)
        await sees(ann, "seen-3", "ann")
        async with fleet(own.url, 1, rooms=ROOMS) as (late,):
            assert await row(late, "seen-3") == {"ann": 1}
        await ann.close()


@pytest.mark.parametrize("seed", range(3))
def test_presence_is_what_it_should_be_after_random_changes(server: Server, seed: int) -> None:
    @in_loop
    async def main() -> None:
        random = Random(seed)
        room = f"seen-r{seed}"
        async with fleet(server.url, rooms=ROOMS) as nodes:
            watchers = [await enter(node, f"watch{n}", room) for n, node in enumerate(nodes)]
            here: list[tuple[str, NativeClient]] = []
            for step in range(40):
                if here and random.random() < 0.45:
                    _, client = here.pop(random.randrange(len(here)))
                    if random.random() < 0.3:
                        client.connection.transport.abort()
                    elif random.random() < 0.5:
                        await client.ask("leave", room=room)
                    else:
                        await client.close()
                else:
                    user = random.choice(("ann", "bob", "cid"))
                    here.append((user, await enter(random.choice(nodes), user, room)))
                if step in (12, 25):
                    node = random.choice(nodes)
                    await node.cut()
                    await node.join()
                await asyncio.sleep(random.random() * 0.05)
            wanted = Counter({"watch0": 1, "watch1": 1})
            wanted.update(user for user, _ in here)

            async def right() -> None:
                for node in nodes:
                    while await row(node, room) != dict(wanted):
                        await asyncio.sleep(0.05)

            await asyncio.wait_for(right(), 20)
            for watcher in watchers:
                await sees(watcher, room, *wanted)

    main()
