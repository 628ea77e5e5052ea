"""The first messages of the native protocol, between real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support import aio
from tests.support.process import Process
from tests.support.tokens import SECRET, bearer

Connect = Callable[..., Awaitable["Client"]]


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(
        {
            "auth": {"secret": SECRET},
            "limits": {"per_room": 3, "rooms_per_connection": 2, "per_ip": 1000},
            "messages": {"max_size": 1000},
            "heartbeat": {"interval": 20},
        }
    )


class Client:
    """A connection that speaks the native protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.id = ""

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def get(self) -> dict[str, Any]:
        text = await asyncio.wait_for(self.connection.recv(), 20)
        assert isinstance(text, str)
        message: dict[str, Any] = json.loads(text)
        return message

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message with an id and return its answer, which must be the next to come."""
        await self.send(kind, id="q1", **fields)
        answer = await self.get()
        assert answer.pop("id") == "q1"
        return answer

    async def nothing_came(self) -> None:
        """Fail if a message comes before the answer to a question that is asked now."""
        assert (await self.ask("leave", room="never joined"))["code"] == "not_joined"


def play(server: Process, scene: Callable[[Connect], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with a function that connects clients."""

    async def run() -> None:
        async with AsyncExitStack() as stack:

            async def connect(user: str | None = None) -> Client:
                connection = await stack.enter_async_context(
                    websockets.connect(
                        server.url,
                        proxy=None,
                        subprotocols=[Subprotocol("tidegate.v1.json")],
                        additional_headers=dict([bearer(user)]) if user else None,
                    )
                )
                client = Client(connection)
                welcome = await client.get()
                assert welcome["type"] == "connected"
                client.id = welcome["connectionId"]
                return client

            await asyncio.wait_for(scene(connect), 30)

    aio.run(run())
    server.wait_open(0)
    assert server.stats()["rooms"] == 0


def test_connected(server: Process) -> None:
    async def run() -> list[dict[str, Any]]:
        welcomes = []
        for headers in ({}, dict([bearer("ann")])):
            async with websockets.connect(
                server.url,
                proxy=None,
                subprotocols=[Subprotocol("tidegate.v1.json")],
                additional_headers=headers,
            ) as connection:
                assert connection.subprotocol == "tidegate.v1.json"
                welcomes.append(json.loads(await connection.recv()))
        return welcomes

    anonymous, ann = aio.run(run())
    assert anonymous.pop("connectionId") != ann.pop("connectionId")
    utilization = anonymous.pop("utilization")
    assert 0 <= utilization <= 1
    assert anonymous == {
        "type": "connected",
        "userId": None,
        "settings": {
            "pingInterval": 20,
            "maxMessageSize": 1000,
            "messagesPerSecond": 100,
            "broadcast": True,
        },
        "degraded": False,
    }
    assert ann["userId"] == "ann"


def test_rooms(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        ann, bob, eve = await connect("ann"), await connect("bob"), await connect()
        assert await ann.ask("join", room="r") == {"type": "ack", "members": 1}
        assert await bob.ask("join", room="r") == {"type": "ack", "members": 2}
        assert await bob.ask("join", room="r") == {"type": "ack", "members": 2}
        data = {"nested": [1, 2.50, None, "ü"], "huge": 12345678901234567890}
        await ann.send("room_message", room="r", data=data)
        expected = {
            "type": "room_message",
            "room": "r",
            "data": data,
            "from": "ann",
            "connectionId": ann.id,
        }
        assert await ann.get() == expected
        assert await bob.get() == expected
        await bob.send("room_message", room="r", data="only to others", echo=False)
        assert (await ann.get())["data"] == "only to others"
        await bob.nothing_came()
        await eve.nothing_came()
        assert await bob.ask("leave", room="r") == {"type": "ack"}
        await ann.send("room_message", room="r", data="alone", id=7)
        both = [await ann.get(), await ann.get()]
        assert {"type": "ack", "id": 7} in both
        assert "alone" in [message.get("data") for message in both]
        await bob.nothing_came()

    play(server, scene)


def test_a_newcomer_gets_nothing_of_before_and_a_leaver_nothing_of_after(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        ann, bob = await connect(), await connect()
        await ann.ask("join", room="r")
        for number in range(50):
            await ann.send("room_message", room="r", data=number)
        assert [(await ann.get())["data"] for _ in range(50)] == list(range(50))
        await bob.ask("join", room="r")
        await bob.nothing_came()
        await bob.ask("leave", room="r")
        await ann.send("room_message", room="r", data="after")
        await ann.get()
        await bob.nothing_came()

    play(server, scene)


def test_all_members_see_one_order(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        clients = [await connect(), await connect(), await connect()]
        for client in clients:
            await client.ask("join", room="r")

        async def talk(client: Client, name: int) -> None:
            for number in range(100):
                await client.send("room_message", room="r", data=[name, number])

        async def listen(client: Client) -> list[list[int]]:
            return [(await client.get())["data"] for _ in range(300)]

        talkers = [talk(client, name) for name, client in enumerate(clients)]
        talking = asyncio.gather(*talkers)
        heard = await asyncio.gather(*map(listen, clients))
        await talking
        assert heard[0] == heard[1] == heard[2]
        for name in range(3):
            said = [number for sender, number in heard[0] if sender == name]
            assert said == list(range(100))

    play(server, scene)


def test_direct_messages_reach_all_devices(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        ann = await connect("ann")
        devices = [await connect("bob") for _ in range(3)]
        eve = await connect("eve")
        answer = await ann.ask("direct_message", user="bob", data={"to": "all"})
        assert answer == {"type": "ack", "delivered": 3}
        for device in devices:
            assert await device.get() == {
                "type": "direct_message",
                "data": {"to": "all"},
                "from": "ann",
                "connectionId": ann.id,
            }
        await eve.nothing_came()
        answer = await ann.ask("direct_message", user="nobody", data=1)
        assert answer == {"type": "ack", "delivered": 0}

    play(server, scene)


ERRORS = [
    ("this is not JSON", "invalid_json", None),
    ('{"type": "join"', "invalid_json", None),
    ("[]", "invalid_json", None),
    ('{"type": "dance", "id": 3}', "unknown_type", 3),
    ('{"id": 4}', "invalid_field", 4),
    ('{"type": "join", "id": 5}', "invalid_field", 5),
    ('{"type": "join", "room": 7, "id": "a"}', "invalid_field", "a"),
    ('{"type": "join", "room": "", "id": 6}', "invalid_field", 6),
    ('{"type": "join", "room": "a\\u0000b", "id": 6}', "invalid_field", 6),
    (json.dumps({"type": "join", "room": "r" * 129, "id": 6}), "invalid_field", 6),
    ('{"type": "leave", "room": "r", "id": 8}', "not_joined", 8),
    ('{"type": "room_message", "room": "r", "data": 1, "id": 9}', "not_joined", 9),
    ('{"type": "room_message", "room": "r", "id": 9}', "invalid_field", 9),
    (json.dumps({"type": "join", "room": "r", "pad": "x" * 1000}), "too_big", None),
]


@pytest.mark.parametrize(("text", "code", "given"), ERRORS, ids=lambda value: str(value)[:30])
def test_errors(server: Process, text: str, code: str, given: object) -> None:
    async def scene(connect: Connect) -> None:
        client = await connect()
        for message in (text, text.encode()):
            await client.connection.send(message)
            error = await client.get()
            assert error["type"] == "error"
            assert error["code"] == code
            assert error["message"]
            assert error.get("id") == given
        assert (await client.ask("join", room="still open"))["type"] == "ack"

    play(server, scene)


def test_limits_of_rooms(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        clients = [await connect() for _ in range(4)]
        for client in clients[:3]:
            assert (await client.ask("join", room="full"))["type"] == "ack"
        assert (await clients[3].ask("join", room="full"))["code"] == "room_limit"
        assert (await clients[0].ask("join", room="second"))["type"] == "ack"
        assert (await clients[0].ask("join", room="third"))["code"] == "too_many_rooms"
        await clients[1].connection.close()
        assert await clients[3].ask("join", room="full") == {"type": "ack", "members": 3}
        listed = server.connections("room=full")
        assert {row["id"] for row in listed} == {clients[n].id for n in (0, 2, 3)}

    play(server, scene)


def test_a_message_far_over_the_limit_closes(server: Process) -> None:
    async def scene(connect: Connect) -> None:
        client = await connect()
        await client.connection.send("x" * 100_000)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.get()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009

    play(server, scene)
