"""Connections over real sockets: messages in and out, and handlers of any kind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.support.raw import BINARY, CONT, PING, PONG, TEXT, frame, upgrade
from tests.unit.engine.live import Live, masked, run, until
from tidegate.engine import poller, receiving
from tidegate.engine.connection import Connection
from tidegate.errors import UsageError

# Messages in.


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (masked("one"), ["one"]),
        (masked(b"\0\xff"), [b"\0\xff"]),
        (masked(""), [""]),
        (masked(b""), [b""]),
        (masked("ü" * 62), ["ü" * 62]),
        (masked("x" * 125), ["x" * 125]),
        (masked("x" * 126), ["x" * 126]),
        (masked("x" * 50_000), ["x" * 50_000]),
        (masked(b"x" * 200_000), [b"x" * 200_000]),
        (masked("one") + masked("two") + masked(b"three"), ["one", "two", b"three"]),
        (masked("one") + masked("two")[:3], ["one"]),
        (frame(TEXT, b"a", final=False) + frame(CONT, b"b"), ["ab"]),
        (frame(BINARY, b"a", final=False) + frame(PING) + frame(CONT, b"b"), [b"ab"]),
        (frame(PONG, b"of no ping") + masked("one"), ["one"]),
    ],
)
def test_frames_in_one_write(data: bytes, messages: list[str | bytes]) -> None:
    async def main() -> None:
        async with Live() as live:
            client, _ = await live.open()
            await client.send(data)
            await until(lambda: len(live.recorder.messages) == len(messages))
            assert live.recorder.texts() == messages
            kinds = [type(message) for message in messages]
            received = {"text": kinds.count(str), "binary": kinds.count(bytes)}
            assert live.node.stats.messages_received == received

    run(main())


def test_frames_behind_the_request() -> None:
    """What came in the same read as the request is handled after the connect handler."""

    async def main() -> None:
        async with Live() as live:
            client = await live.client()
            live.recorder.on_connect = lambda connection, _: connection.send("hello")
            live.recorder.doing["one"] = lambda connection: connection.send("got one")
            await client.shake_hands(masked("one") + masked("two"))
            assert (await client.frame()).payload == b"hello"
            assert (await client.frame()).payload == b"got one"
            await until(lambda: live.recorder.texts() == ["one", "two"])

    run(main())


def test_a_request_in_pieces() -> None:
    async def main() -> None:
        async with Live() as live:
            client = await live.client()
            data = upgrade() + masked("one")
            for start in range(0, len(data), 40):
                await client.send(data[start : start + 40])
                await until(lambda: live.node.engine.shared.openings or live.recorder.connections)
            await until(lambda: live.recorder.texts() == ["one"])
            assert not live.node.engine.shared.openings

    run(main())


def test_a_great_many_frames_take_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn between them, and the order stays."""
    monkeypatch.setattr(receiving, "SERVED_SECONDS", 0.0)

    async def main() -> None:
        async with Live() as live:
            busy, first = await live.open()
            other, second = await live.open()
            await busy.say(*(f"{number}" for number in range(1000)))
            await other.say("me too")
            await until(lambda: len(live.recorder.messages) == 1001)
            mine = [text for number, text in live.recorder.messages if number == first.number]
            assert mine == [f"{number}" for number in range(1000)]
            assert live.recorder.messages.index((second.number, "me too")) < 1000

    run(main())


@pytest.mark.parametrize("ending", ["half_close", "leave"])
@pytest.mark.parametrize("slow", [False, True])
def test_all_messages_before_the_end_of_the_stream_arrive(ending: str, slow: bool) -> None:
    async def pause(connection: Connection) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            if slow:
                live.recorder.doing = {"x": pause}
            await client.say(*["x"] * 1000)
            getattr(client, ending)()
            assert await live.ended(connection) == (1006, "")
            assert len(live.recorder.messages) == 1000

    run(main())


# Messages out.


@pytest.mark.parametrize(
    ("message", "opcode", "payload"),
    [
        ("grün", TEXT, "grün".encode()),
        ("", TEXT, b""),
        (b"\0\xff", BINARY, b"\0\xff"),
        (bytearray(b"ab"), BINARY, b"ab"),
        (memoryview(b"ab"), BINARY, b"ab"),
        (b"x" * 126, BINARY, b"x" * 126),
        ("x" * 100_000, TEXT, b"x" * 100_000),
    ],
)
def test_sending(message: Any, opcode: int, payload: bytes) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            connection.send(message)
            got = await client.frame()
            assert (got.opcode, got.payload, got.final, got.rsv) == (opcode, payload, True, 0)
            assert live.node.stats.outgoing.messages == 1
            assert live.node.stats.outgoing.sizes.sum == len(payload)

    run(main())


def test_what_the_connect_handler_sends_comes_right_behind_the_101() -> None:
    async def main() -> None:
        async with Live() as live:
            client = await live.client()

            def greet(connection: Connection, _: object) -> None:
                connection.send("one")
                connection.send("two")

            live.recorder.on_connect = greet
            await client.shake_hands()
            assert [(await client.frame()).payload for _ in range(2)] == [b"one", b"two"]

    run(main())


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_pings_are_answered(payload: bytes) -> None:
    async def main() -> None:
        async with Live() as live:
            client, _ = await live.open()
            await client.send(frame(PING, payload))
            got = await client.frame()
            assert (got.opcode, got.payload) == (PONG, payload)

    run(main())


def test_what_is_known_of_a_connection() -> None:
    async def main() -> None:
        async with Live() as live:
            _, connection = await live.open()
            assert list(live.node.connections) == [connection]
            assert (connection.open, connection.closed, connection.busy) == (True, False, False)
            assert (connection.address, connection.path) == ("127.0.0.1", "/ws")
            assert (connection.user, connection.tier, connection.subprotocol) == (None, None, None)
            assert connection.id == f"{live.node.engine.shared.name}-1"
            assert connection.id in repr(connection)
            _, second = await live.open()
            assert second.number == 2

    run(main())


# Async handlers.


class Gate:
    """Async handlers that wait here until they are let through, one by one."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.done: list[str] = []
        self._open = asyncio.Semaphore(0)

    def handler(self, name: str) -> Any:
        async def wait(connection: Connection) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await self._open.acquire()
            finally:
                self.inside -= 1
            self.done.append(name)
            connection.send(name)

        return wait

    def let_through(self, count: int = 1) -> None:
        for _ in range(count):
            self._open.release()


def test_async_handlers_are_called_one_at_a_time_and_in_order() -> None:
    async def main() -> None:
        async with Live() as live:
            gate = Gate()
            live.recorder.doing = {name: gate.handler(name) for name in "abc"}
            client, connection = await live.open()
            await client.say("a", "b", "plain", "c")
            await until(lambda: gate.inside)
            assert live.recorder.texts() == ["a"]
            assert connection.busy
            # Another connection does not wait.
            other, _ = await live.open()
            await other.say("other")
            await until(lambda: "other" in live.recorder.texts())
            gate.let_through(3)
            assert [(await client.frame()).payload for _ in range(3)] == [b"a", b"b", b"c"]
            assert gate.most == 1
            assert live.recorder.texts() == ["a", "other", "b", "plain", "c"]
            assert not connection.busy

    run(main())


def test_an_async_connect_handler_comes_before_all_messages() -> None:
    async def main() -> None:
        async with Live() as live:
            gate = Gate()
            welcome = gate.handler("welcome")
            live.recorder.on_connect = lambda connection, _: welcome(connection)
            client = await live.client()
            await client.shake_hands(masked("one"))
            await client.say("two")
            await until(lambda: gate.inside)
            assert live.recorder.messages == []
            gate.let_through()
            assert (await client.frame()).payload == b"welcome"
            await until(lambda: live.recorder.texts() == ["one", "two"])

    run(main())


def test_a_long_chain_of_short_async_handlers() -> None:
    async def main() -> None:
        async with Live() as live:

            async def nothing(connection: Connection) -> None:
                return None

            live.recorder.doing["x"] = nothing
            client, _ = await live.open()
            await client.say(*["x"] * 3000)
            await until(lambda: len(live.recorder.messages) == 3000)

    run(main())


def test_a_slow_handler_stops_reading_from_its_connection_alone() -> None:
    async def main() -> None:
        async with Live() as live:
            gate = Gate()
            live.recorder.doing["wait"] = gate.handler("wait")
            client, connection = await live.open()
            await client.say("wait")
            await until(lambda: gate.inside)
            received = live.node.stats.incoming.bytes
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            flood = asyncio.create_task(client.say(*[b"x" * 1000] * 2000))
            await until(lambda: connection._paused)
            read = live.node.stats.incoming.bytes - received
            assert read <= receiving._READ_AHEAD + poller._SMALL_READ + poller._LARGE_READ
            other, _ = await live.open()
            await other.send(frame(PING))
            assert (await other.frame()).opcode == PONG
            assert live.node.stats.incoming.bytes - received - read < 1000
            assert not flood.done()
            gate.let_through()
            await flood
            await until(lambda: len(live.recorder.messages) == 2001)

    run(main())


# Handlers that fail.


def test_wrong_use_is_an_error_in_the_handler() -> None:
    async def main() -> None:
        async with Live() as live:
            _, connection = await live.open()
            for code in (0, 999, 1004, 1006, 1015, 2999, 5000):
                with pytest.raises(UsageError):
                    connection.close(code)
            assert connection.open

    run(main())
