"""Messages as values: what is read, what a client is told of the rest, and what is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from tests.support.clients import Client, run_guarded, until
from tests.support.raw import BINARY, frame
from tidegate import Connection, ConnectionClosed, Server

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.2},
    "pacing": {"enabled": False},
}


class ChatStruct(msgspec.Struct):
    text: str
    size: int = 0


@dataclass
class ChatData:
    text: str
    size: int = 0


class ChatModel(pydantic.BaseModel):
    text: str
    size: int = 0


class Say(msgspec.Struct, tag="say"):
    text: str


class Go(msgspec.Struct, tag="go"):
    room: str


KINDS = [ChatStruct, ChatData, ChatModel]


def on_struct(connection: Connection, message: ChatStruct) -> None:
    connection.send(f"{type(message).__name__} {message.text} {message.size}")


def on_data(connection: Connection, message: ChatData) -> None:
    connection.send(f"{type(message).__name__} {message.text} {message.size}")


async def on_model(connection: Connection, message: ChatModel) -> None:
    connection.send(f"{type(message).__name__} {message.text} {message.size}")


WRONG = [
    (b'{"text": 5}', "invalid_field", "text"),
    (b'{"text": "a", "size": "big"}', "invalid_field", "size"),
    (b"{}", "invalid_field", "text"),
    (b"[1]", "invalid_field", ""),
    (b"{", "invalid_json", ""),
    (b"\xff", "invalid_json", ""),
]


async def check_wrong(client: Client) -> None:
    for data, code, field in WRONG:
        await client.send(frame(BINARY, data))
        said = json.loads(await client.text())
        assert (said["type"], said["code"]) == ("error", code), said
        assert said.get("field", "") == field, said


@pytest.mark.parametrize("handler", [on_struct, on_data, on_model])
def test_annotation_of_a_handler_says_what_it_is_given(handler: Any) -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=handler) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say('{"text": "hello", "size": 3}')
            kind = handler.__annotations__["message"]
            assert await client.text() == f"{kind} hello 3"
            await check_wrong(client)
            await client.send(frame(BINARY, b'{"text": "still here"}'))
            assert await client.text() == f"{kind} still here 0"

    run_guarded(main())


@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_a_connection_are_values(kind: Any) -> None:
    async def main() -> None:
        server = Server(QUICK)
        ended: list[bool] = []

        @server.route("/ws")
        async def serve(connection: Connection) -> None:
            async for message in connection.messages(kind):
                assert type(message) is kind
                connection.send_json({"text": message.text, "size": message.size})
            ended.append(True)

        async with server:
            client = await Client.open(server.addresses[0][1])
            await check_wrong(client)
            await client.say('{"text": "hello"}')
            assert json.loads(await client.text()) == {"text": "hello", "size": 0}
            await client.close()
            await until(lambda: ended)

    run_guarded(main())


def test_receive_of_messages_has_one_value_and_tells_the_end() -> None:
    async def main() -> None:
        server = Server(QUICK)
        ended: list[int] = []

        @server.route("/ws")
        async def serve(connection: Connection) -> None:
            messages = connection.messages(Say | Go)
            while True:
                try:
                    message = await messages.receive()
                except ConnectionClosed as closed:
                    ended.append(closed.code)
                    return
                connection.send(type(message).__name__)

        async with server:
            client = await Client.open(server.addresses[0][1])
            await client.say('{"type": "go", "room": "a"}', '{"type": "say", "text": "b"}', "{}")
            assert [await client.text() for _ in range(2)] == ["Go", "Say"]
            assert json.loads(await client.text())["code"] == "invalid_field"
            await client.close(4000)
            await until(lambda: ended == [4000])

    run_guarded(main())


def of_text(connection: Connection, message: str) -> None:
    connection.send(message)


def of_bytes(connection: Connection, message: bytes) -> None:
    connection.send(message)


@pytest.mark.parametrize(("handler", "text"), [(of_text, True), (of_bytes, False)])
def test_text_or_binary_alone_is_what_the_annotation_asks_for(handler: Any, text: bool) -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=handler) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say("text")
            first = await client.frame()
            await client.send(frame(BINARY, b"bytes"))
            second = await client.frame()
            own, wrong = (first, second) if text else (second, first)
            assert own.payload == (b"text" if text else b"bytes")
            assert json.loads(wrong.payload)["code"] == "invalid_field"

    run_guarded(main())


def of_anything(connection: Connection, message: Any) -> None: ...


def of_either(connection: Connection, message: str | bytes) -> None: ...


def of_nothing(connection, message): ...  # type: ignore[no-untyped-def]


def of_all(*arguments: Any) -> None: ...


@pytest.mark.parametrize("handler", [of_anything, of_either, of_nothing, of_all, Connection.send])
def test_handler_that_takes_every_message_is_called_as_it_is(handler: Any) -> None:
    server = Server(QUICK, on_message=handler)
    assert server._handlers._on_message is handler


class NotJson:
    pass


def of_no_json(connection: Connection, message: NotJson) -> None: ...


def test_annotation_that_cannot_be_read_is_refused_at_once() -> None:
    class Hidden(msgspec.Struct):
        text: str

    def of_hidden(connection: Connection, message: Hidden) -> None: ...

    with pytest.raises(TypeError, match="the annotation 'Hidden' of message cannot be resolved"):
        Server(QUICK, on_message=of_hidden)
    with pytest.raises(TypeError, match=r"no message can be read as .*NotJson"):
        Server(QUICK, on_message=of_no_json)


class Level(msgspec.Struct):
    of: Literal["low", "high"]
    inner: Annotated[list[ChatStruct], msgspec.Meta(max_length=2)] = []


def on_level(connection: Connection, message: Level) -> None: ...


def test_field_is_named_with_those_that_it_is_in() -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=on_level) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say('{"of": "low", "inner": [{"text": 5}]}')
            assert json.loads(await client.text())["field"] == "inner[0].text"
            await client.say('{"of": "none"}')
            assert json.loads(await client.text())["field"] == "of"

    run_guarded(main())


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"a": [1, None, True]}, {"a": [1, None, True]}),
        ([ChatStruct("a"), ChatData("b")], [{"text": "a", "size": 0}, {"text": "b", "size": 0}]),
        (ChatModel(text="a"), {"text": "a", "size": 0}),
        ({"inner": ChatModel(text="a")}, {"inner": {"text": "a", "size": 0}}),
        ("text", "text"),
        (None, None),
    ],
)
def test_send_json_sends_what_json_can_be_made_of(value: Any, sent: Any) -> None:
    async def main() -> None:
        async with Server(QUICK, on_connect=lambda connection, _: connection.send_json(value)) as s:
            client = await Client.open(s.addresses[0][1])
            assert json.loads(await client.text()) == sent

    run_guarded(main())


def test_send_json_of_anything_else_is_an_error() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            await Client.open(server.addresses[0][1])
            (connection,) = server.connections
            with pytest.raises(TypeError, match="no message can be made of NotJson"):
                connection.send_json(NotJson())

    run_guarded(main())
