"""A protocol of one's own on a real node: one small class, and no change below it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.brokers import ToyBroker
from tests.support.clients import Client, run_guarded, until
from tidegate.backplane.base import Broker
from tidegate.core.codes import DRAINED, NOT_JOINED, SHUTDOWN, Fault, close_text
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.core.settings import Settings
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.node.node import Node
from tidegate.node.services import Services
from tidegate.wire.frames import TEXT, encode

MOST_LINES = 60


class Lines(Application[Connection]):
    """Commands and answers as lines of text: `join`, `leave`, `say`, `tell`, `quit`.

    Those who speak `lines.v2` also see who said something in a room.
    """

    subprotocols = ("lines.v2", "lines")

    def __init__(self, services: Services) -> None:
        self._delivery = services.delivery

    def message(self, connection: Connection, message: str | bytes, /) -> None:
        for line in str(message).split("\n"):
            command, _, rest = line.partition(" ")
            method = getattr(self, f"do_{command}", None)
            if method is None:
                connection.send(f"error: what is {command}?")
            else:
                method(connection, *rest.split(" ", 1))

    def do_join(self, connection: Connection, room: str) -> None:
        self._delivery.join(connection, room, partial(answer, connection, f"joined {room}"))

    def do_leave(self, connection: Connection, room: str) -> None:
        answer(connection, f"left {room}", self._delivery.leave(connection, room))

    def do_say(self, connection: Connection, room: str, text: str) -> None:
        if room not in connection.rooms:
            return answer(connection, "", NOT_JOINED)
        said = Publication(room, text.encode(), connection.user, connection.id, echo=False)
        return self._delivery.publish(said, partial(answer, connection, "said"), connection)

    def do_tell(self, connection: Connection, user: str, text: str) -> None:
        told = Direct(user, text.encode(), connection.user)
        self._delivery.send(told, lambda count: connection.send(f"told {count}"))

    def do_quit(self, connection: Connection, *_: str) -> None:
        connection.send("bye")
        connection.close()

    def leaving(self, connection: Connection, delay: float, /) -> None:
        connection.send(f"leaving in {delay:.0f} s")

    def frame(self, publication: Publication, subprotocol: str | None, /) -> bytes:
        who = f"{publication.connection} in " if subprotocol == "lines.v2" else ""
        return encode(TEXT, f"{who}{publication.room}: ".encode() + publication.data)

    def direct(self, connection: Connection, message: Direct, /) -> None:
        connection.send("whispered: " + bytes(message.data).decode())


def answer(connection: Connection, text: str, fault: Fault | None) -> None:
    connection.send(text if fault is None else f"error: {fault.message}")


class World:
    """A node that speaks lines, and its clients; use it as an async context manager."""

    def __init__(self, broker: Broker | None = None, **sections: dict[str, Any]) -> None:
        server = {"port": 0, "shutdown_timeout": 1.0}
        self.node = Node(
            Settings.from_mapping({"server": server, **sections}), Lines, broker=broker
        )
        self.clients: list[Client] = []

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self.clients:
            client.leave()
        await self.node.stop()
        node = self.node
        assert (node.tracker.open, len(node.rooms), len(node.users)) == (0, 0, 0)

    async def open(self, protocol: str | None = "lines", *rooms: str) -> Client:
        client = await Client.open(self.node.addresses[0][1], protocol)
        self.clients.append(client)
        for room in rooms:
            await client.say(f"join {room}")
            assert await client.text() == f"joined {room}"
        return client

    @property
    def backlog(self) -> int:
        return self.node.engine.shared.fanout.backlog


def test_toy_protocol_is_one_small_class() -> None:
    assert len(inspect.getsource(Lines).splitlines()) < MOST_LINES


@pytest.mark.parametrize("protocol", [None, "lines", "lines.v2"])
def test_toy_protocol_answers_commands_in_their_order(protocol: str | None) -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open(protocol)
            await client.say("join a\njoin b\nleave a\ndance", "say a hello", "leave b")
            answers = [
                "joined a",
                "joined b",
                "left a",
                "error: what is dance?",
                "error: Join the room first",
                "left b",
            ]
            assert [await client.text() for _ in answers] == answers
            await client.say("quit\njoin c")
            assert await client.text() == "bye"
            assert await client.closed() == (1000, "")
            await until(lambda: world.node.tracker.open == 0)

    run_guarded(main())


def test_toy_protocol_in_a_room_is_heard_by_the_others_each_in_its_subprotocol() -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.open("lines", "lobby", "other")
            bob = await world.open("lines", "lobby")
            eve = await world.open("lines.v2", "lobby")
            await ann.say("say lobby one\nsay other nobody hears it\nsay lobby two words")
            assert [await ann.text() for _ in range(3)] == ["said"] * 3
            assert [await bob.text() for _ in range(2)] == ["lobby: one", "lobby: two words"]
            name = f"{world.node.engine.shared.name}-1 in "
            assert [await eve.text() for _ in range(2)] == [
                f"{name}lobby: one",
                f"{name}lobby: two words",
            ]
            await bob.say("say lobby hi")
            assert await ann.text() == "lobby: hi"  # and nothing of its own before

    run_guarded(main())


def test_toy_protocol_member_that_is_gone_is_in_no_room() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = [await world.open("lines", "lobby") for _ in range(2)]
            bob.reset()
            await until(lambda: world.node.rooms.count("lobby") == 1)
            await ann.say("say lobby anybody?")
            assert await ann.text() == "said"
            await ann.close()
            await until(lambda: len(world.node.rooms) == 0)

    run_guarded(main())


def test_toy_protocol_in_a_drain_says_when_and_closes_with_the_reason() -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            drain = world.node.shutdown.begin_drain(0)
            assert await client.text() == f"leaving in {DRAINED.retry_after} s"
            assert await client.closed() == (1012, close_text(DRAINED, DRAINED.retry_after))
            await world.node.shutdown.wait()
            assert (drain.total, drain.told, drain.closed, drain.open) == (1, 1, 1, 0)

    run_guarded(main())


def test_toy_protocol_that_sends_too_fast_is_read_later_and_loses_nothing() -> None:
    async def main() -> None:
        async with World(messages={"per_second": 50, "burst": 10}) as world:
            client = await world.open()
            await client.say(*(f"join {number}" for number in range(20)))
            for number in range(20):
                assert await client.text() == f"joined {number}"
            assert world.node.stats.messages_limited["delayed"] > 0

    run_guarded(main())


# Over a backplane that is late, loses and repeats.


async def settled(*worlds: World) -> None:
    """Wait until what was delivered so far is with its members."""
    await until(lambda: not any(world.backlog for world in worlds))


def test_toy_protocol_over_a_late_broker_is_answered_when_that_answers() -> None:
    async def main() -> None:
        broker = ToyBroker(late=3)
        async with World(broker) as world:
            client = await world.open()
            await client.say("join lobby\ndance")
            # The first answer waits for the broker; nothing else does.
            assert await client.text() == "error: what is dance?"
            broker.settle()
            assert await client.text() == "joined lobby"
            await client.say("say lobby hello\ndance")
            assert await client.text() == "error: what is dance?"
            broker.settle()
            assert await client.text() == "said"
            assert broker.wanted == {"lobby"}
            await client.close()
            await until(lambda: broker.wanted == set())

    run_guarded(main())


def test_toy_protocol_over_a_broker_that_loses_and_repeats_hears_what_that_delivers() -> None:
    async def main() -> None:
        broker = ToyBroker(late=2, lose=lambda number: number == 2, repeat=lambda n: n == 3)
        async with World(broker) as world:
            ann, bob = await world.open(), await world.open()
            for client in (ann, bob):
                await client.say("join lobby")
            await until(lambda: world.node.rooms.count("lobby") == 2)
            broker.settle()
            for client in (ann, bob):
                assert await client.text() == "joined lobby"
            for number in range(1, 5):
                await ann.say(f"say lobby {number}\ndance")
                assert await ann.text() == "error: what is dance?"  # now it is published
            broker.settle()
            await settled(world)
            assert [await ann.text() for _ in range(4)] == ["said"] * 4
            heard = [await bob.text() for _ in range(4)]
            assert heard == ["lobby: 1", "lobby: 3", "lobby: 4", "lobby: 3"]

    run_guarded(main())


def test_toy_protocol_over_a_late_broker_tells_no_room_to_one_that_has_left_it() -> None:
    async def main() -> None:
        broker = ToyBroker(late=4)
        async with World(broker) as world:
            ann, bob = await world.open(), await world.open()
            await ann.say("join lobby")
            await bob.say("join lobby\nleave lobby")
            assert await bob.text() == "error: Join the room first"  # what became of its join
            assert await bob.text() == "left lobby"
            broker.settle()
            assert await ann.text() == "joined lobby"
            await bob.say("join lobby")
            assert await bob.text() == "joined lobby"  # it is confirmed already
            await ann.say("say lobby too late\ndance")
            assert await ann.text() == "error: what is dance?"
            await bob.say("leave lobby")
            assert await bob.text() == "left lobby"
            broker.settle()
            await settled(world)
            assert await ann.text() == "said"
            await bob.say("dance")
            assert await bob.text() == "error: what is dance?"

    run_guarded(main())


@pytest.mark.parametrize("leave", [Client.leave, Client.reset])
def test_toy_protocol_client_that_is_gone_before_the_broker_answers_leaves_nothing(
    leave: Callable[[Client], None],
) -> None:
    async def main() -> None:
        broker = ToyBroker(late=4)
        async with World(broker) as world:
            client = await world.open()
            await client.say("join lobby")
            await until(lambda: broker.wanted == {"lobby"})
            leave(client)
            await until(lambda: world.node.tracker.open == 0)
            assert broker.wanted == {"lobby"}  # it cannot be taken back before the answer
            broker.settle()
            assert broker.wanted == set()

    run_guarded(main())


def test_toy_protocol_over_two_nodes_is_one_room() -> None:
    async def main() -> None:
        here = ToyBroker()
        there = ToyBroker(beside=here)
        async with World(here) as first, World(there) as second:
            ann, bob = await first.open(), await second.open("lines.v2")
            for client in (ann, bob):
                await client.say("join lobby")
            await until(lambda: here.wanted == there.wanted == {"lobby"})
            for broker in (here, there):
                broker.settle()
            for client in (ann, bob):
                assert await client.text() == "joined lobby"
            await ann.say("say lobby hello")
            await until(lambda: here._due and there._due)
            for broker in (here, there):
                broker.settle()
            assert await bob.text() == f"{first.node.engine.shared.name}-1 in lobby: hello"
            assert await ann.text() == "said"

    run_guarded(main())


def test_toy_protocol_when_the_node_stops_is_told_nothing_more_by_its_broker() -> None:
    async def main() -> None:
        broker = ToyBroker(late=4)
        async with World(broker) as world:
            client = await world.open()
            await client.say("join lobby")
            await until(lambda: broker.wanted == {"lobby"})
            stopping = asyncio.create_task(world.node.stop())
            assert (await client.closed())[0] == SHUTDOWN.code
            await stopping
            assert broker.stopped
            assert await client.end() == b""
            broker.settle()

    run_guarded(main())
