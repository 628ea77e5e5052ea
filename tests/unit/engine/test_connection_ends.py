"""How connections end, by either side, and that everything is given back once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.raw import CLOSE, PING, TEXT, frame, upgrade
from tests.unit.engine.live import Client, Live, masked, run, told, until
from tidegate.core.codes import HANDLER_ERROR, POLICY, SHUTDOWN
from tidegate.engine.connection import Connection

# Closing handshakes.


@pytest.mark.parametrize(
    ("payload", "answer", "told"),
    [
        (b"\x03\xe8", b"\x03\xe8", (1000, "")),
        (b"\x0f\xa0gr\xc3\xbcn", b"\x0f\xa0", (4000, "grün")),
        (b"", b"", (1005, "")),
    ],
)
def test_the_peer_closes(payload: bytes, answer: bytes, told: tuple[int, str]) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            await client.send(masked("last words") + frame(CLOSE, payload) + masked("too late"))
            got = await client.frame()
            assert (got.opcode, got.payload) == (CLOSE, answer)
            assert await client.end() == b""
            assert await live.ended(connection) == told
            assert live.recorder.texts() == ["last words"]
            assert live.node.stats.disconnected["normal"] == 1

    run(main())


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4000, "so long"), (1011, "x" * 123)])
def test_the_server_closes(code: int, reason: str) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            connection.send("last words")
            connection.close(code, reason)
            assert (connection.open, connection.closed) == (False, False)
            connection.send("too late")
            connection.close(4001, "of no effect")
            await client.send(masked("too late") + frame(PING) + frame(TEXT, b"a", final=False))
            await live.publish(connection)
            assert live.node.stats.outgoing.messages == 2  # as if the published one had gone out
            assert (await client.frame()).payload == b"last words"
            assert await client.closed() == (code, reason)
            assert await client.end() == b""
            assert await live.ended(connection) == (code, reason)
            assert live.recorder.messages == []
            connection.send("much too late")
            connection.close()
            connection.abort()

    run(main())


def test_both_close_at_once() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            await client.send(frame(CLOSE, b"\x0f\xa0"))
            connection.close(4001)
            assert await client.closed(answer=False) == (4001, "")
            assert await client.end() == b""
            assert await live.ended(connection) == (4001, "")

    run(main())


@pytest.mark.parametrize(
    ("data", "code", "cause"),
    [
        (frame(TEXT, b"x", masked=False), 1002, "protocol_error"),
        (frame(3, b"x"), 1002, "protocol_error"),
        (frame(TEXT, b"\xff"), 1007, "invalid_data"),
        (frame(TEXT, b"\xff") + frame(TEXT, b"x"), 1007, "invalid_data"),
        (frame(TEXT, b"x" * 101), 1009, "message_too_big"),
        (frame(TEXT, b"x" * 200), 1009, "message_too_big"),
        (frame(TEXT, b"x" * 200)[:10], 1009, "message_too_big"),
    ],
)
def test_a_peer_that_breaks_the_protocol(data: bytes, code: int, cause: str) -> None:
    async def main() -> None:
        async with Live({"messages": {"max_size": 100}}) as live:
            client, connection = await live.open()
            await client.send(data)
            got, reason = await client.closed(answer=False)
            assert got == code
            assert await client.end() == b""  # half-closed, and not reset over what still comes
            await client.send(masked("ignored") * 100)
            client.leave()
            assert await live.ended(connection) == (code, reason)
            assert live.recorder.messages == []
            assert live.node.stats.disconnected[cause] == 1

    run(main())


@pytest.mark.parametrize(
    ("how", "cause"), [("leave", "eof"), ("half_close", "eof"), ("reset", "reset")]
)
def test_a_peer_that_just_leaves(how: str, cause: str) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection = await live.open()
            getattr(client, how)()
            assert await live.ended(connection) == (1006, "")
            assert live.node.stats.disconnected[cause] == 1

    run(main())


def test_deadlines() -> None:
    """For the request, for the rest of a message, and for the answer to a close frame."""

    async def main() -> None:
        limits = {"server": {"close_timeout": 0.1, "handshake_timeout": 0.1}}
        async with Live({**limits, "messages": {"fragment_timeout": 0.1}}) as live:
            slow = await live.client()
            await slow.send(b"GET /ws HT")
            closing, first = await live.open()
            first.close(4000)
            partly, second = await live.open()
            await partly.send(frame(TEXT, b"a", final=False))
            assert await live.ended(first) == (4000, "")
            assert (await partly.closed())[0] == 1008
            assert await live.ended(second) == told(POLICY, "message took too long")
            assert await slow.status() == 408
            assert (await closing.closed(answer=False))[0] == 4000
            with pytest.raises(ConnectionResetError):
                await closing.end()

    run(main())


# The connect handler.


async def never() -> None:
    raise AssertionError("an awaitable of a connection that had ended was run")


SPLITS = pytest.mark.parametrize("first", [0, 40], ids=["whole request", "request in two pieces"])


async def ask(live: Live, client: Client, first: int) -> None:
    """Send a request and a message behind it, perhaps in two pieces."""
    data = upgrade() + masked("one")
    if first:
        await client.send(data[:first])
        await until(lambda: live.node.engine.shared.openings)
    await client.send(data[first:])
    await until(lambda: live.recorder.connections)


@SPLITS
@pytest.mark.parametrize("fails", [False, True])
def test_it_ends_in_its_connect_handler(fails: bool, first: int) -> None:
    def handler(connection: Connection, request: object) -> Any:
        connection.send("hello")
        if fails:
            raise RuntimeError("secret")
        connection.close(4000, "not now")
        return never()

    async def main() -> None:
        async with Live() as live:
            live.recorder.on_connect = handler
            client = await live.client()
            await ask(live, client, first)
            assert await client.status() == 101
            assert (await client.frame()).payload == b"hello"
            end = told(HANDLER_ERROR) if fails else (4000, "not now")
            assert await client.closed() == end
            assert await client.end() == b""
            assert await live.ended(live.recorder.connections[0]) == end
            assert live.recorder.messages == []

    run(main())


@SPLITS
def test_it_is_aborted_in_its_connect_handler(first: int) -> None:
    def handler(connection: Connection, request: object) -> Any:
        connection.send("hello")
        connection.abort()
        return never()

    async def main() -> None:
        async with Live() as live:
            live.recorder.on_connect = handler
            client = await live.client()
            await ask(live, client, first)
            with pytest.raises(ConnectionResetError):
                await client.end()
            assert await live.ended(live.recorder.connections[0]) == (1006, "")
            assert live.node.stats.disconnected["aborted"] == 1

    run(main())


@SPLITS
def test_the_answer_cannot_be_written(first: int) -> None:
    async def main() -> None:
        async with Live() as live:
            client = await live.client()
            live.recorder.on_connect = lambda connection, request: client.reset()
            await ask(live, client, first)
            assert await live.ended(live.recorder.connections[0]) == (1006, "")
            assert live.node.stats.disconnected["upgrade_failed"] == 1
            assert live.recorder.messages == []

    run(main())


# The end of the server.


def test_all_are_told_when_the_server_stops() -> None:
    async def main() -> None:
        async with Live() as live:
            clients = [await live.open() for _ in range(5)]
            attempt = await live.client()
            await attempt.send(b"GET /ws ")
            await until(lambda: live.node.engine.shared.openings)
            stop = asyncio.create_task(live.node.stop())
            for client, _ in clients:
                assert await client.closed() == told(SHUTDOWN)
            await stop
            assert await attempt.end() == b""
            assert live.node.stats.disconnected["shutdown"] == 5
            live.nothing_is_left()

    run(main())


@pytest.mark.parametrize("busy", [False, True])
def test_who_does_not_go_is_cut_off(busy: bool) -> None:
    """Also its handler is; the close handlers are still called, and waited for."""

    async def main() -> None:
        async with Live() as live:
            closed: list[int] = []

            async def slowly(connection: Connection, code: int, reason: str) -> None:
                for _ in range(3):
                    await asyncio.sleep(0)
                closed.append(code)

            live.recorder.on_close = slowly
            live.recorder.doing["wait"] = lambda connection: asyncio.Event().wait()
            client, connection = await live.open()
            await live.open()
            if busy:
                await client.say("wait")
                await until(lambda: connection.busy)
            await live.node.stop(timeout=0)
            assert closed == [1001, 1001]
            live.nothing_is_left()

    run(main())


def test_plain_close_handlers_are_called_before_the_server_has_stopped() -> None:
    async def main() -> None:
        async with Live() as live:
            for _ in range(3):
                await live.open()
            await live.node.stop(timeout=0)
            assert len(live.recorder.ends) == 3
            await live.node.stop()

    run(main())
