"""A client that was lost comes back to another node, and has missed nothing that can be known."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conftest import Start
from tests.support.aio import in_loop
from tests.support.between import Server
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.native import NativeClient
from tests.support.nats import Nats
from tests.support.tokens import SECRET

SECTIONS: dict[str, dict[str, Any]] = {
    "limits": {"per_ip": 1000},
    "rooms": {
        "rules": [
            {"pattern": "kept*", "history_size": 100},
            {"pattern": "seen*", "presence": "members", "presence_grace": 20.0},
        ]
    },
    "sessions": {"enabled": True},
}


def shown(client: NativeClient) -> str:
    """What a client shows to resume."""
    seq = max((one.get("seq", 0) for one in client.got), default=0)
    return f"tidegate.session.{client.welcome['session']}.{seq}"


async def lose(client: NativeClient) -> None:
    """Lose the connection without a word."""
    client.connection.transport.abort()
    await client.connection.wait_closed()


async def tell(client: NativeClient, user: str, data: int) -> int:
    """Send a direct message; to how many connections it went."""
    answer = await client.ask("direct_message", user=user, data=data)
    assert answer["type"] == "ack", answer
    count: int = answer["delivered"]
    return count


def told(client: NativeClient) -> list[int]:
    return [one["data"] for one in client.of("direct_message")]


async def settled(node: FleetNode) -> None:
    """Wait until what is known of a node's sessions is written."""
    await asyncio.sleep(0.5)


@in_loop
async def test_session_is_resumed_at_another_node(server: Server) -> None:
    async with fleet(server.url, 2, **SECTIONS) as (one, two):
        bob = await two.client("bob")
        await bob.ask("join", room="seen", presence=True)
        ann = await one.client("ann")
        for room in ("plain", "kept"):
            await ann.ask("join", room=room)
        await ann.ask("join", room="seen", presence=True)
        await bob.until(lambda message: message["type"] == "user_joined")
        assert await tell(bob, "ann", 1) == 1
        await ann.until(lambda message: message["type"] == "direct_message")
        session = shown(ann)
        await lose(ann)
        await until(lambda: len(one.node.sessions or ()) == 1)
        assert await tell(bob, "ann", 2) == 1
        again = await two.client("ann", session)
        welcome = again.welcome
        assert (welcome["resumed"], welcome["recovered"]) == (True, True)
        assert welcome["connectionId"] == ann.welcome["connectionId"]
        assert welcome["rooms"] == ["plain", "kept", "seen"]
        await again.until(lambda message: message.get("data") == 2)
        assert await tell(bob, "ann", 3) == 1
        await again.until(lambda message: message.get("data") == 3)
        assert told(again) == [2, 3]
        assert [message["seq"] for message in again.of("direct_message")] == [2, 3]
        await again.until(lambda message: message == {"type": "gap", "room": "plain"})
        await again.until(lambda message: message["type"] == "presence_state")
        assert not bob.of("user_left")
        assert (one.node.tracker.open, two.node.tracker.open) == (0, 2)
        assert one.node.rooms.count("plain") == 0
        for room in ("plain", "kept"):
            await bob.ask("join", room=room)
            await bob.ask("room_message", room=room, data=room)
            await again.until(lambda message, room=room: message.get("data") == room)

        # The secret was used, and the new one leads here.
        other = await one.client("ann", session)
        assert "resumed" not in other.welcome or not other.welcome["resumed"]
        await lose(again)
        await until(lambda: len(two.node.sessions or ()) == 1)
        back = await one.client("ann", shown(again))
        assert back.welcome["connectionId"] == ann.welcome["connectionId"]
        assert two.node.tracker.open == 1
        for client in (bob, other, back):
            await client.close()


@in_loop
async def test_session_is_given_to_its_user_alone_and_once(server: Server) -> None:
    async with fleet(server.url, 3, **SECTIONS) as (one, two, three):
        ann = await one.client("ann")
        session = shown(ann)
        await lose(ann)
        await until(lambda: len(one.node.sessions or ()) == 1)
        mallory = await two.client("mallory", session)
        assert not mallory.welcome.get("resumed")
        clients = await asyncio.gather(
            *(node.client("ann", session) for node in (two, three, two, three))
        )
        assert sum(bool(client.welcome.get("resumed")) for client in clients) <= 1
        for client in (mallory, *clients):
            await client.close()


@in_loop
async def test_session_that_is_thought_to_be_alive_moves_too(server: Server) -> None:
    async with fleet(server.url, 2, **SECTIONS) as (one, two):
        ann = await one.client("ann")
        await ann.ask("join", room="kept")
        again = await two.client("ann", shown(ann))
        assert again.welcome["resumed"]
        await until(lambda: one.node.tracker.open == 0)
        assert await tell(again, "ann", 1) == 1
        await again.close()


@in_loop
async def test_direct_messages_are_told_once_while_a_session_moves(server: Server) -> None:
    async with fleet(server.url, 2, **SECTIONS) as nodes:
        sender = await nodes[0].client("bob")
        ann = await nodes[0].client("ann")
        got: list[int] = []

        async def send() -> None:
            for number in range(200):
                await tell(sender, "ann", number)

        sending = asyncio.create_task(send())
        for turn in range(6):
            await asyncio.sleep(0.05)
            session = shown(ann)
            await lose(ann)
            got += told(ann)
            ann = await nodes[(turn + 1) % 2].client("ann", session)
            assert ann.welcome["resumed"]
            assert ann.welcome["recovered"]
        await sending
        await ann.until(lambda message: message.get("data") == 199)
        got += told(ann)
        assert got == list(range(200))
        await sender.close()
        await ann.close()


@in_loop
async def test_direct_messages_come_when_the_link_of_a_node_is_back(server: Server) -> None:
    async with fleet(server.url, 2, **SECTIONS) as (one, two):
        bob, ann = await one.client("bob"), await two.client("ann")
        await tell(bob, "ann", 1)
        await two.cut()
        for number in (2, 3):
            assert await tell(bob, "ann", number) == 0
        await two.join()
        if isinstance(server, Nats):  # it keeps no direct messages
            await tell(bob, "ann", 4)
            await ann.until(lambda message: message.get("data") == 4)
            assert [message["seq"] for message in ann.of("direct_message")] == [1, 3]
            assert told(ann) == [1, 4]
            for client in (ann, bob):
                await client.close()
            return
        await ann.until(lambda message: message.get("data") == 3)
        assert [message["seq"] for message in ann.of("direct_message")] == told(ann) == [1, 2, 3]
        two.node.delivery.missed_directs()
        await tell(bob, "ann", 4)
        await ann.until(lambda message: message.get("data") == 4)
        assert ann.of("direct_message")[-1]["seq"] == 5
        for client in (ann, bob):
            await client.close()


@in_loop
async def test_session_outlives_the_drain_of_its_node(server: Server) -> None:
    async with fleet(server.url, 2, **SECTIONS) as (one, two):
        ann = await one.client("ann")
        await ann.ask("join", room="kept")
        await settled(one)
        draining = asyncio.create_task(one.node.drain(0.2))
        await ann.connection.wait_closed()
        again = await two.client("ann", shown(ann))
        assert again.welcome["resumed"]
        assert again.welcome["rooms"] == ["kept"]
        await draining
        await again.close()


def test_session_outlives_a_node_that_is_killed(serve: Start, server: Server) -> None:
    settings = {**SECTIONS, "auth": {"secret": SECRET}, "backplane": {"url": server.url}}
    first, second = serve(settings), serve(settings)

    @in_loop
    async def main() -> None:
        ann = await NativeClient.at(first.url, "ann")
        await ann.ask("join", room="kept", history=1)
        await ann.ask("join", room="plain")
        await asyncio.sleep(1)  # until it is written
        first.kill()
        await ann.connection.wait_closed()
        again = await NativeClient.at(second.url, "ann", shown(ann))
        assert again.welcome["resumed"]
        assert not again.welcome["recovered"]  # direct messages may be lost
        assert again.welcome["rooms"] == ["kept", "plain"]
        assert again.welcome["connectionId"] == ann.welcome["connectionId"]
        await again.until(lambda message: message == {"type": "gap", "room": "plain"})
        other = await NativeClient.at(second.url, "ann", shown(ann))
        assert not other.welcome.get("resumed")
        for client in (again, other):
            await client.close()

    main()
