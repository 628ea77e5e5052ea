"""What is given to the library is checked where it is given."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from enum import IntEnum
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tests.support.raw import BINARY, TEXT
from tidegate import Connection, Server, UsageError, http_response

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 1.0},
    "pacing": {"enabled": False},
}


class Method:
    def on_message(self, connection: Connection, message: str | bytes) -> None: ...

    @classmethod
    def of_class(cls, connection: Connection, message: str | bytes) -> None: ...

    @staticmethod
    def static(connection: Connection, message: str | bytes) -> None: ...

    def __call__(self, connection: Connection, message: str | bytes) -> None: ...


class AsyncCall:
    async def __call__(self, *arguments: object) -> None: ...


async def of_two(connection: Connection, message: str | bytes) -> None: ...


def of_one(connection: Connection) -> None: ...


def of_three(connection: Connection, message: str | bytes, more: object) -> None: ...


def by_keyword(connection: Connection, *, message: str | bytes) -> None: ...


def generates(connection: Connection, message: str | bytes) -> Iterator[None]:
    yield


async def generates_async(connection: Connection, message: str | bytes) -> AsyncIterator[None]:
    yield


def returns_awaitable(connection: Connection, message: str | bytes) -> Awaitable[None]:
    return of_two(connection, message)


@pytest.mark.parametrize(
    "handler",
    [
        None,
        of_two,
        returns_awaitable,
        Method().on_message,
        Method.of_class,
        Method.static,
        Method(),
        AsyncCall(),
        functools.partial(of_three, more=1),
        functools.cache(of_two),
        lambda *arguments: None,
        lambda connection, message, more=1: None,
        print,
        max,  # has no signature
    ],
)
def test_a_handler_that_takes_its_arguments_is_accepted(handler: Any) -> None:
    Server(QUICK, on_message=handler)


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (5, "must be a function, not int"),
        ("on_message", "must be a function, not str"),
        (of_two(None, ""), "must be a function, not coroutine"),  # type: ignore[arg-type]
        (of_one, "is called with (connection, message), but takes (connection: "),
        (of_three, "is called with (connection, message), but takes (connection: "),
        (by_keyword, "is called with (connection, message), but takes (connection: "),
        (Method.on_message, "is called with (connection, message), but takes (self, "),
        (
            functools.partial(of_one, connection=None),  # type: ignore[arg-type]
            "is called with (connection, message), but takes (*, connection: ",
        ),
        (generates, "must not be a generator function"),
        (generates_async, "must not be a generator function"),
    ],
)
def test_a_handler_that_could_not_be_called_is_refused(handler: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"on_message {problem}")):
        Server(QUICK, on_message=handler)
    if asyncio.iscoroutine(handler):
        handler.close()


@pytest.mark.parametrize(
    "name", ["on_connect", "on_message", "on_close", "on_leaving", "on_zone_change", "http"]
)
@pytest.mark.parametrize("handler", [5, lambda: None, lambda a, b, c, d: None])
def test_every_handler_is_checked_when_it_is_given(name: str, handler: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} "):
        Server(QUICK, **{name: handler})


@pytest.mark.parametrize("name", ["on_leaving", "http"])
@pytest.mark.parametrize("handler", [of_two, AsyncCall()])
def test_a_handler_that_must_be_plain_is_refused_when_it_is_async(name: str, handler: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a plain function, not an async one"):
        Server(QUICK, **{name: handler})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"settings": "tidegate.toml"}, "settings must be Settings or Mapping, not str"),
        ({"settings": 5}, "settings must be Settings or Mapping, not int"),
        ({"subprotocols": "chat"}, "subprotocols must be a list of str, not str"),
        ({"subprotocols": [b"chat"]}, "each of subprotocols must be str, not bytes"),
        ({"cancel_handlers": "no"}, "cancel_handlers must be bool, not str"),
    ],
)
def test_server_refuses_other_types(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        Server(**given)


class Code(IntEnum):
    MINE = 4001


def test_every_call_names_the_types_that_it_takes() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            client = await Client.open(server.addresses[0][1], None)
            (connection,) = server.connections
            anything: Any = connection
            takes = "a message must be str, bytes, bytearray or memoryview, not "
            for wrong in (5, 5.0, True, None, [1, 2], {"a": 1}, object(), range(3)):
                with pytest.raises(TypeError, match=takes + type(wrong).__name__):
                    anything.send(wrong)
            for code, name in (
                ("1000", "str"),
                (1000.0, "float"),
                (None, "NoneType"),
                (True, "bool"),
            ):
                with pytest.raises(TypeError, match=f"code must be int, not {name}"):
                    anything.close(code)
            for text, name in ((b"bye", "bytes"), (None, "NoneType"), (5, "int")):
                with pytest.raises(TypeError, match=f"text must be str, not {name}"):
                    anything.close(1000, text)
            for seconds in ("5", True, b""):
                with pytest.raises(TypeError, match="timeout must be int or float, not "):
                    await server.stop(seconds)  # type: ignore[arg-type]
                with pytest.raises(TypeError, match="window must be int or float, not "):
                    await server.drain(seconds)  # type: ignore[arg-type]
            for number in (-1, float("nan"), float("inf")):
                with pytest.raises(UsageError, match="timeout must be 0 or more seconds"):
                    await server.stop(number)
                with pytest.raises(UsageError, match="window must be 0 or more seconds"):
                    await server.drain(number)
            assert connection.open
            connection.close(Code.MINE)
            assert await client.closed() == (4001, "")
            await until(lambda: connection.closed)
            connection.send("nobody hears it")
            with pytest.raises(TypeError, match=takes + "int"):
                anything.send(5)

    run_guarded(main())


@pytest.mark.parametrize(
    ("message", "opcode", "payload"),
    [
        ("text", TEXT, b"text"),
        (b"bytes", BINARY, b"bytes"),
        (bytearray(b"array"), BINARY, b"array"),
        (memoryview(b"a view of it")[2:6], BINARY, b"view"),
        (memoryview(b"a1b2c3")[::2], BINARY, b"abc"),
        (bytes(1000), BINARY, bytes(1000)),
        (bytearray(1000), BINARY, bytes(1000)),
    ],
)
def test_every_type_of_message_is_sent_as_it_is(message: Any, opcode: int, payload: bytes) -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            client = await Client.open(server.addresses[0][1], None)
            (connection,) = server.connections
            connection.send(message)
            frame = await client.frame()
            assert (frame.opcode, frame.payload) == (opcode, payload)
            client.leave()

    run_guarded(main())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((200, "text"), "body must be bytes, not str"),
        ((200, None), "body must be bytes, not NoneType"),
        ((200, b"", [("X-Number", 5)]), "header 'X-Number' must have a name and a value"),
        ((200, b"", [(b"X-Name", "5")]), "header b'X-Name' must have a name and a value"),
    ],
)
def test_http_response_names_the_types_that_it_takes(arguments: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        http_response(*arguments)


def test_http_that_returns_no_bytes_is_logged_and_answered_with_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        http: Any = lambda request: "hello"  # noqa: E731 - it is the wrong handler that is meant
        async with Server(QUICK, http=http) as server:
            reader, writer = await asyncio.open_connection(*server.addresses[0])
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 500 ")
            writer.close()
            (record,) = caplog.records
            assert record.exc_info is not None
            assert "must be bytes, not str" in str(record.exc_info[1])

    run_guarded(main())
