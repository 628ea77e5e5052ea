"""Handlers that fail, are cancelled, or are at work when their connection ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.raw import CLOSE, frame
from tests.unit.engine.live import Live, masked, run, told, until
from tidegate.core.codes import HANDLER_ERROR
from tidegate.engine import poller as module
from tidegate.engine.connection import Connection


async def fail(connection: Connection) -> None:
    raise RuntimeError("secret")


def fail_at_once(connection: Connection) -> None:
    raise RuntimeError("secret")


@pytest.mark.parametrize("handler", [fail, fail_at_once])
def test_a_handler_that_raises(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Live() as live:
            live.recorder.doing["fail"] = handler
            client, connection = await live.open()
            other, _ = await live.open()
            await client.say("fail", "more")
            assert await client.closed() == told(HANDLER_ERROR)
            assert await client.end() == b""
            assert await live.ended(connection) == told(HANDLER_ERROR)
            assert live.recorder.texts() == ["fail"]
            assert live.node.stats.disconnected["handler_error"] == 1
            await other.say("alive")
            await until(lambda: "alive" in live.recorder.texts())
            (record,) = caplog.records
            assert connection.id in record.getMessage()
            assert "secret" not in record.getMessage()
            assert record.exc_info is not None

    run(main())


@pytest.mark.parametrize("handler", [fail, fail_at_once])
def test_a_close_handler_that_raises(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Live() as live:
            live.recorder.on_close = lambda connection, code, reason: handler(connection)
            client, connection = await live.open()
            await client.send(frame(CLOSE))
            assert await live.ended(connection) == (1005, "")
            await until(lambda: caplog.records)
            assert connection.id in caplog.records[0].getMessage()

    run(main())


def test_a_handler_that_is_cancelled() -> None:
    async def main() -> None:
        async with Live() as live:
            began: list[Connection] = []

            async def wait(connection: Connection) -> None:
                began.append(connection)
                await asyncio.Event().wait()

            live.recorder.doing["wait"] = wait
            client, connection = await live.open()
            await client.say("wait", "more")
            await until(lambda: began)
            (task,) = live.node.engine.shared.tasks._running
            task.cancel()
            assert await client.closed() == told(HANDLER_ERROR)
            assert await live.ended(connection) == told(HANDLER_ERROR)
            assert live.recorder.texts() == ["wait"]

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset"])
def test_the_close_handler_waits_for_the_last_handler_and_the_lease_does_not(how: str) -> None:
    async def main() -> None:
        async with Live() as live:
            go_on = asyncio.Event()
            live.recorder.doing["wait"] = lambda connection: go_on.wait()
            client, connection = await live.open()
            await client.say("wait")
            await until(lambda: connection.busy)
            getattr(client, how)()
            await until(lambda: connection.closed)
            assert live.node.tracker.open == 0
            assert live.recorder.ends == []
            go_on.set()
            assert await live.ended(connection) == (1006, "")

    run(main())


@pytest.mark.parametrize("waits", [0, 1, 1000])
def test_closing_while_a_handler_is_at_work(waits: int) -> None:
    """The peer's close frame is read, and messages that wait are dropped."""

    async def main() -> None:
        async with Live() as live:
            go_on = asyncio.Event()
            live.recorder.doing["wait"] = lambda connection: go_on.wait()
            client, connection = await live.open()
            await client.say("wait")
            await until(lambda: connection.busy)
            read = live.node.stats.incoming.bytes
            await client.say(*["x" * 1000] * waits)
            if waits:
                await until(lambda: live.node.stats.incoming.bytes > read)
            connection.close(4000)
            assert await client.closed() == (4000, "")
            await until(lambda: connection.closed)
            assert live.recorder.ends == []
            go_on.set()
            assert await live.ended(connection) == (4000, "")
            assert live.recorder.texts() == ["wait"]

    run(main())


def test_aborting_in_front_of_a_part_of_a_message() -> None:
    async def main() -> None:
        async with Live() as live:
            live.recorder.doing["abort"] = lambda connection: connection.abort()
            client, connection = await live.open()
            await client.send(masked("abort") + masked("dropped") + masked("part")[:3])
            assert await live.ended(connection) == (1006, "")
            assert live.recorder.texts() == ["abort"]

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_a_plain_handler_finds_the_peer_gone_and_returns_an_awaitable(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close handler comes behind that, and once, even when the queue is slow."""

    async def main() -> None:
        async with Live() as live:
            client, _ = await live.open()
            poller = live.node.engine.shared.poller
            order: list[str] = []

            async def process() -> None:
                order.append("processed")

            def handler(connection: Connection) -> Any:
                client.reset()
                connection.send("thank you" * 20)  # a small one would wait for the end of the lot
                assert connection.closed
                if late:
                    monkeypatch.setattr(module, "monotonic", lambda: float("inf"))
                    poller.ready.extendleft([lambda: None] * 9)
                return process()

            live.recorder.doing["x"] = handler
            live.recorder.on_close = lambda connection, code, reason: order.append("closed")
            await client.say("x")
            await until(lambda: len(order) == 2 and not poller.ready)
            assert order == ["processed", "closed"]
            monkeypatch.undo()

    run(main())
