"""Limits of rooms that hold over several servers. The clients count who is a member."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosed

from tests.conftest import Start
from tests.support import aio
from tests.support.native import NativeClient
from tests.support.process import Process
from tests.support.tokens import SECRET
from tests.support.valkey import Valkey, valkey

PER_ROOM, TTL, SECONDS = 12, 1.5, 15.0
STRICT = {"ttl": TTL, "when_down": "refuse", "when_lost": "close"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path / "valkey") as started:
        yield started


def settings_of(own: Valkey, **sections: Any) -> dict[str, Any]:
    return {
        "auth": {"secret": SECRET},
        "limits": {"per_room": PER_ROOM, "per_user": 1000, "per_ip": 1000},
        "pacing": {"enabled": False},
        "fleet": STRICT,
        "backplane": {"url": own.url, "timeout": 1},
        **sections,
    }


class Members:
    """Who is in a room, as the clients see it."""

    def __init__(self, room: str, limit: int) -> None:
        self.room = room
        self.limit = limit
        self.inside: dict[NativeClient, Process] = {}
        self.told: Counter[str] = Counter()
        self.most = 0

    async def join(self, client: NativeClient, server: Process) -> None:
        try:
            answer = await client.ask("join", room=self.room)
        except (ConnectionClosed, TimeoutError) as error:
            self.told[type(error).__name__] += 1
            return
        if answer["type"] != "ack":
            self.told[answer["code"]] += 1
        else:
            self.inside[client] = server
            self.most = max(self.most, len(self.inside))

    def left(self, *clients: NativeClient) -> None:
        for client in clients:
            self.inside.pop(client, None)

    async def fill(self, others: list[tuple[NativeClient, Process]]) -> None:
        """Try again and again until the limit is reached."""
        async with asyncio.timeout(SECONDS):
            while len(self.inside) < self.limit:
                await asyncio.gather(
                    *(self.join(*one) for one in others if one[0] not in self.inside)
                )
                await asyncio.sleep(0.05)


async def crew(servers: list[Process], count: int) -> list[tuple[NativeClient, Process]]:
    """So many clients at each server."""
    return [
        (await NativeClient.at(server.url, f"u{number}"), server)
        for number in range(count)
        for server in servers
    ]


def test_no_room_has_more_members_than_it_may_whatever_happens(serve: Start, own: Valkey) -> None:
    servers = [serve(settings_of(own)) for _ in range(3)]
    members = Members("r", PER_ROOM)

    async def run() -> None:
        clients = await crew(servers, 15)
        await asyncio.gather(*(members.join(*one) for one in clients))
        assert len(members.inside) == PER_ROOM
        assert members.told == {"room_limit": 45 - PER_ROOM}

        # Members leave, and end without a word: others take their places.
        for client in list(members.inside)[:3]:
            members.left(client)
            await client.ask("leave", room="r")
        for client in list(members.inside)[:3]:
            members.left(client)
            await client.drop()
        alive = [one for one in clients if one[0].connection.close_code is None]
        await members.fill(alive)

        # A server is killed: its places are free after its time to live.
        servers[0].process.kill()
        members.left(*(one for one, server in members.inside.items() if server is servers[0]))
        alive = [one for one in alive if one[1] is not servers[0]]
        await members.fill(alive)

        # What is between them is killed, and comes back without its data.
        own.kill()
        await asyncio.gather(*(members.join(*one) for one in alive[:5]))
        own.start()
        members.told.clear()
        for client in list(members.inside)[:4]:
            members.left(client)
            await client.drop()
        alive = [one for one in alive if one[0].connection.close_code is None]
        await members.fill(alive)
        await asyncio.gather(*(members.join(*one) for one in alive if one[0] not in members.inside))
        assert members.told["room_limit"]
        for client, _ in alive:
            await client.close()

    aio.run(run())
    assert members.most == PER_ROOM


def test_a_member_gets_what_is_published_from_its_answer_on(serve: Start, own: Valkey) -> None:
    servers = [serve(settings_of(own, messages={"per_second": 0})) for _ in range(2)]

    async def run() -> None:
        ann = await NativeClient.at(servers[0].url, "ann")
        bob = await NativeClient.at(servers[1].url, "bob")
        assert (await ann.ask("join", room="r"))["type"] == "ack"
        for number in range(50):  # the answer to a join waits, and what follows it is in order
            await bob.send("join", room=f"r{number}", id=number)
            await bob.send("room_message", room=f"r{number}", data=number)
        await bob.until(lambda one: one.get("data") == 49)
        for number in range(50):
            kinds = [
                one["type"]
                for one in bob.got
                if one.get("id") == number or one.get("room") == f"r{number}"
            ]
            assert kinds == ["ack", "room_message"]
        await bob.ask("join", room="r")
        await ann.ask("room_message", room="r", data="hello")
        await bob.until(lambda one: one.get("data") == "hello")
        await ann.close()
        await bob.close()

    aio.run(run())


def test_a_session_keeps_its_place_and_takes_it_to_another_server(
    serve: Start, own: Valkey
) -> None:
    limits = {"per_room": 1, "per_user": 1000, "per_ip": 1000}
    settings = settings_of(own, limits=limits, sessions={"enabled": True})
    servers = [serve(settings) for _ in range(2)]

    async def run() -> None:
        ann = await NativeClient.at(servers[0].url, "ann")
        bob = await NativeClient.at(servers[1].url, "bob")
        await ann.ask("join", room="r")
        for server in servers:
            await ann.drop()
            assert (await bob.ask("join", room="r"))["code"] == "room_limit"
            ann = await NativeClient.at(
                server.url, "ann", f"tidegate.session.{ann.welcome['session']}.0"
            )
            assert ann.welcome["rooms"] == ["r"]
            assert (await bob.ask("join", room="r"))["code"] == "room_limit"
        await ann.ask("leave", room="r")
        assert (await bob.ask("join", room="r"))["type"] == "ack"
        await ann.close()
        await bob.close()

    aio.run(run())


def test_rooms_may_be_limited_by_each_server(serve: Start, own: Valkey) -> None:
    settings = settings_of(own, fleet={"rooms": False}, limits={"per_room": 1})
    servers = [serve(settings) for _ in range(2)]

    async def run() -> None:
        for server in servers:
            first, second = [await NativeClient.at(server.url, "ann") for _ in range(2)]
            assert (await first.ask("join", room="r"))["type"] == "ack"
            assert (await second.ask("join", room="r"))["code"] == "room_limit"
            await first.close()
            await second.close()

    aio.run(run())
