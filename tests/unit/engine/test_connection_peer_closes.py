"""A client that closes or leaves while an async handler of its connection is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.raw import CLOSE, PING, PONG, frame
from tests.unit.engine.live import Client, Live, masked, run, until
from tidegate.core.codes import PROTOCOL_ERROR
from tidegate.engine import leftover as module
from tidegate.engine.connection import Connection

RATED: dict[str, dict[str, Any]] = {"messages": {"per_second": 20, "burst": 1}}


class Gates:
    """A handler for `wait`, that waits until it is let go; each call is noted."""

    def __init__(self, live: Live) -> None:
        self.go_on = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        live.recorder.doing["wait"] = self.wait

    async def wait(self, connection: Connection) -> None:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def at_work(live: Live, *behind: str) -> tuple[Client, Connection, Gates]:
    gates = Gates(live)
    client, connection = await live.open()
    await client.say("wait", *behind)
    await until(lambda: gates.begun)
    return client, connection, gates


@pytest.mark.parametrize("at_once", [True, False], ids=["in one read", "in several"])
@pytest.mark.parametrize("waits", [0, 1, 100])
def test_a_close_frame_is_seen_and_messages_before_it_are_handled(
    waits: int, at_once: bool
) -> None:
    async def main() -> None:
        async with Live() as live:
            gates = Gates(live)
            client, connection = await live.open()
            behind = [f"{number}" for number in range(waits)]
            parts = [masked("wait"), *map(masked, behind), frame(CLOSE, b"\x0f\xa0bye")]
            if at_once:
                await client.send(b"".join(parts) + masked("too late"))
            else:
                for part in parts:
                    await client.send(part)
                    await asyncio.sleep(0)
            assert await client.closed(answer=False) == (4000, "")
            assert await client.end() == b""
            assert not connection.open
            assert connection.closed
            assert live.node.tracker.open == 0
            assert live.recorder.ends == []
            connection.send("nobody hears this")
            gates.go_on.set()
            assert await live.ended(connection) == (4000, "bye")
            assert live.recorder.texts() == ["wait", *behind]
            assert not live.node.engine.at_work

    run(main())


def test_a_close_frame_that_comes_byte_by_byte_is_seen() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, gates = await at_work(live)
            for byte in masked("x" * 300) + frame(CLOSE, b"\x03\xe8"):
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            assert await client.closed(answer=False) == (1000, "")
            gates.go_on.set()
            assert await live.ended(connection) == (1000, "")
            assert live.recorder.texts() == ["wait", "x" * 300]

    run(main())


def test_a_close_frame_between_the_fragments_of_a_message_ends_without_it() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, gates = await at_work(live)
            await client.send(masked("whole") + frame(1, b"be", final=False) + frame(CLOSE))
            assert await client.closed(answer=False) == (0, "")
            gates.go_on.set()
            assert await live.ended(connection) == (1005, "")
            assert live.recorder.texts() == ["wait", "whole"]

    run(main())


def test_a_ping_behind_messages_is_answered_while_a_handler_is_at_work() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, gates = await at_work(live)
            await client.send(
                masked("first")
                + frame(PING, b"1")
                + frame(1, b"sec", final=False)
                + frame(PING, b"2")
            )
            assert [
                (got.opcode, got.payload) for got in (await client.frame(), await client.frame())
            ] == [
                (PONG, b"1"),
                (PONG, b"2"),
            ]
            await client.send(frame(0, b"ond"))
            gates.go_on.set()
            await until(lambda: live.recorder.texts() == ["wait", "first", "second"])
            client.half_close()
            assert await client.end() == b"", "a ping is answered once"
            assert await live.ended(connection) == (1006, "")

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
def test_a_client_that_leaves_is_noticed_behind_messages(how: str) -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, gates = await at_work(live, "next")
            getattr(client, how)()
            await until(lambda: connection.closed)
            assert live.node.tracker.open == 0
            gates.go_on.set()
            assert await live.ended(connection) == (1006, "")
            if how != "reset":
                assert live.recorder.texts() == ["wait", "next"]

    run(main())


def test_a_close_frame_behind_messages_that_come_too_fast_is_seen() -> None:
    """They are handled at the rate, as if the client were still there."""

    async def main() -> None:
        async with Live(RATED) as live:
            client, connection = await live.open()
            await client.send(b"".join(map(masked, "abcd")) + frame(CLOSE, b"\x03\xe8"))
            assert await client.closed(answer=False) == (1000, "")
            await until(lambda: connection.closed)
            assert len(live.recorder.texts()) < 4
            assert await live.ended(connection) == (1000, "")
            assert live.recorder.texts() == list("abcd")

    run(main())


def test_a_wrong_close_frame_behind_messages_ends_the_connection() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, gates = await at_work(live, "next")
            await client.send(frame(CLOSE, b"\x00\x01"))
            assert (await client.closed())[0] == PROTOCOL_ERROR.code
            client.leave()
            gates.go_on.set()
            assert (await live.ended(connection))[0] == PROTOCOL_ERROR.code
            assert live.recorder.texts() == ["wait"]

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_handler_that_ends_a_closed_connection_gets_no_more_messages(how: str) -> None:
    async def main() -> None:
        async with Live() as live:
            live.recorder.doing["end"] = lambda connection: getattr(connection, how)()
            client, connection, gates = await at_work(live, "end", "not handled")
            await client.send(frame(CLOSE))
            await until(lambda: connection.closed)
            gates.go_on.set()
            assert await live.ended(connection) == (1005, "")
            assert live.recorder.texts() == ["wait", "end"]

    run(main())


def test_a_handler_that_raises_after_the_close_gets_no_more_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with Live() as live:

            def fail(connection: Connection) -> None:
                raise RuntimeError("secret")

            live.recorder.doing["fail"] = fail
            client, connection, gates = await at_work(live, "fail", "not handled")
            await client.send(frame(CLOSE))
            await until(lambda: connection.closed)
            gates.go_on.set()
            assert await live.ended(connection) == (1005, "")
            assert live.recorder.texts() == ["wait", "fail"]
            assert connection.id in caplog.records[0].getMessage()

    run(main())


def test_what_is_read_ahead_stays_bounded_however_slowly_it_is_handled() -> None:
    async def main() -> None:
        async with Live() as live:
            gates = Gates(live)
            client, connection = await live.open()
            block = b"".join(masked("wait") for _ in range(1000)) + masked("x" * 50_000)
            sender = asyncio.create_task(client.send(block * 40))
            for _ in range(400):
                await until(lambda: connection.busy)
                gates.go_on.set()
                await asyncio.sleep(0)
                gates.go_on.clear()
                reader = connection._reader
                assert reader is None or reader.pending < 4 * 65536
            sender.cancel()
            gates.go_on.set()

    run(main())


def test_too_many_clients_that_close_with_messages_drop_those_of_the_oldest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "_MOST", 2)
        async with Live() as live:
            clients = [await at_work(live, f"of {number}") for number in range(3)]
            for client, connection, _ in clients:
                await client.send(frame(CLOSE))
                await until(lambda connection=connection: connection.closed)  # type: ignore[misc]
            for _, connection, gates in clients:
                gates.go_on.set()
                await live.ended(connection)
            assert sorted(live.recorder.texts()) == ["of 1", "of 2", "wait", "wait", "wait"]
            assert "closed while a handler was at work" in caplog.text

    run(main())


@pytest.mark.parametrize("how", ["close frame", "leave", "reset", "dead"])
def test_a_handler_is_cancelled_with_its_client_where_that_is_asked_for(how: str) -> None:
    async def main() -> None:
        live = Live()
        live.recorder.cancels = True
        async with live:
            client, connection, gates = await at_work(live, "not handled")
            ends: dict[str, Callable[[], object]] = {
                "leave": client.leave,
                "reset": client.reset,
                "dead": connection.dead,
            }
            if how == "close frame":
                await client.send(frame(CLOSE, b"\x03\xe8"))
            else:
                ends[how]()
            assert (await live.ended(connection))[0] == (1000 if how == "close frame" else 1006)
            assert gates.cancelled == 1
            assert live.recorder.texts() == ["wait"]
            assert not live.node.engine.shared.at_work

    run(main())


@pytest.mark.parametrize("cancels", [True, False])
def test_a_handler_that_closes_its_own_connection_is_not_cancelled(cancels: bool) -> None:
    async def main() -> None:
        live = Live()
        live.recorder.cancels = cancels
        async with live:
            done: list[bool] = []

            async def close(connection: Connection) -> None:
                connection.close(4000)
                await until(lambda: connection.closed)
                done.append(True)

            live.recorder.doing["close"] = close
            client, connection = await live.open()
            await client.say("close")
            assert await client.closed() == (4000, "")
            assert await live.ended(connection) == (4000, "")
            assert done == [True]

    run(main())


def test_stopping_drops_messages_of_clients_that_closed() -> None:
    async def main() -> None:
        async with Live() as live:
            client, connection, _ = await at_work(live, "dropped")
            await client.send(frame(CLOSE))
            await until(lambda: connection.closed)
            assert live.node.engine.at_work
            await live.node.stop(0.0)
            assert live.recorder.texts() == ["wait"]
            assert live.recorder.ended(connection) == [(1005, "")]

    run(main())
