"""Connections that send more than they may: read later, or refused."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

import pytest

from tests.support.raw import PING, PONG, frame
from tests.unit.engine.live import Live, masked, run, told, until
from tidegate.core.codes import HANDLER_ERROR, MESSAGE_ABUSE
from tidegate.engine.connection import Connection
from tidegate.wire.frames import encode

FEW = {"messages": {"per_second": 50, "burst": 5}}
SAID = (
    "a connection sends more than messages.per_second, messages.bytes_per_second or the zone "
    "allows; it is read later"
)


async def never() -> None:
    """Give the loop some turns."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_too_fast_is_read_later(apart: bool) -> None:
    """Nothing is lost, and the order stays."""

    async def main() -> None:
        async with Live(FEW) as live:
            client, connection = await live.open()
            start = monotonic()
            said = [str(number) for number in range(15)]
            if apart:
                for message in said:
                    await client.say(message)
                    await asyncio.sleep(0)
            else:
                await client.say(*said)
            await until(lambda: len(live.recorder.messages) == 15)
            assert monotonic() - start >= 10 / 50
            assert live.recorder.texts() == said
            assert live.node.stats.messages_limited["delayed"] > 0
            assert connection.open

    run(main())


def test_the_operator_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A client that waits without a word is a riddle to whoever wrote it."""

    async def main() -> None:
        async with Live(FEW) as live:
            client, _ = await live.open()
            await client.say("1", "2", "3", "4")
            await until(lambda: len(live.recorder.messages) == 4)
            assert caplog.messages == []
            await client.say("5", "6", "7")
            await until(lambda: len(live.recorder.messages) == 7)
            assert live.node.stats.messages_limited["delayed"] > 0
            assert caplog.record_tuples[0] == ("tidegate", logging.WARNING, SAID)

    run(main())


def test_bytes_count_too() -> None:
    async def main() -> None:
        rates = {"max_size": 1000, "bytes_per_second": 10_000, "bytes_burst": 1000}
        async with Live({"messages": rates}) as live:
            client, _ = await live.open()
            start = monotonic()
            await client.say(*[bytes(1000)] * 4)
            await until(lambda: len(live.recorder.messages) == 4)
            assert 0.2 <= monotonic() - start < 1

    run(main())


def test_others_do_not_wait() -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 1, "burst": 2}}) as live:
            fast, _ = await live.open()
            other, connection = await live.open()
            await fast.say(*map(str, range(10)))
            await until(lambda: len(live.recorder.messages) == 2)
            await other.say("undisturbed")
            await until(lambda: (connection.number, "undisturbed") in live.recorder.messages)

    run(main())


def test_a_flood_is_not_taken_in() -> None:
    """The rest stays with the kernel and with the client."""

    async def main() -> None:
        async with Live({"messages": {"per_second": 1, "burst": 1}}) as live:
            client, connection = await live.open()
            sending = asyncio.create_task(client.say(*[bytes(60_000)] * 500))
            await until(lambda: connection._paused)
            await never()
            assert connection._reader is not None
            assert connection._reader.pending < 200_000
            assert not sending.done()
            sending.cancel()
            client.reset()

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset"])
def test_a_client_may_leave_meanwhile(how: str) -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 20, "burst": 1}}) as live:
            client, connection = await live.open()
            await client.say("one", "two", "three")
            await until(lambda: len(live.recorder.messages) == 1)
            getattr(client, how)()
            assert await live.ended(connection) == (1006, "")

    run(main())


def test_the_server_closes_meanwhile() -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 20, "burst": 1}}) as live:
            client, connection = await live.open()
            await client.send(masked("one") + masked("two"))
            await until(lambda: live.recorder.messages)
            connection.close(4001)
            assert await client.closed() == (4001, "")
            assert await live.ended(connection) == (4001, "")
            assert live.recorder.texts() == ["one"]

    run(main())


def test_an_async_handler_and_a_rate_hold_together() -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 50, "burst": 1}}) as live:
            gate = asyncio.Event()

            async def wait(connection: Connection) -> None:
                await gate.wait()

            live.recorder.doing["wait"] = wait
            client, _ = await live.open()
            await client.say("wait", "next", "last")
            await asyncio.sleep(0.05)  # longer than the rate holds
            assert live.recorder.texts() == ["wait"]
            gate.set()
            await until(lambda: live.recorder.texts() == ["wait", "next", "last"])

    run(main())


def test_an_application_may_refuse_instead(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        refused: list[tuple[str | bytes, float]] = []
        live = Live(FEW)
        live.recorder.refuses_early = True
        live.recorder.on_early = lambda message, delay: refused.append((message, delay))
        async with live:
            client, _ = await live.open()
            await client.say(*map(str, range(7)))
            await until(lambda: len(refused) == 2)
            assert live.recorder.texts() == ["0", "1", "2", "3", "4"]
            assert [message for message, _ in refused] == ["5", "6"]
            assert all(0 < delay <= 1 / 50 for _, delay in refused)
            assert caplog.messages == []

    run(main())


def test_an_error_in_refusing_closes() -> None:
    async def main() -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("a mistake")

        live = Live({"messages": {"per_second": 100, "burst": 1}})
        live.recorder.refuses_early = True
        live.recorder.on_early = fail
        async with live:
            client, _ = await live.open()
            await client.say("one", "two")
            assert await client.closed() == told(HANDLER_ERROR)

    run(main())


# Pings and pongs.


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("apart", [False, True])
def test_too_many_control_frames(opcode: int, apart: bool) -> None:
    async def main() -> None:
        async with Live({"messages": {"control_per_second": 4}}) as live:
            client, connection = await live.open()
            frames = [frame(opcode, b"%d" % number) for number in range(5)]
            for part in frames if apart else [b"".join(frames)]:
                await client.send(part)
                await asyncio.sleep(0)
            if opcode == PING:
                for _ in range(4):
                    assert (await client.frame()).opcode == PONG
            assert await client.closed() == told(MESSAGE_ABUSE, "too many pings or pongs")
            client.leave()
            assert await live.ended(connection) == told(MESSAGE_ABUSE, "too many pings or pongs")
            assert live.node.stats.disconnected["message_abuse"] == 1

    run(main())


def test_as_many_control_frames_as_allowed() -> None:
    async def main() -> None:
        async with Live({"messages": {"control_per_second": 4}}) as live:
            client, _ = await live.open()
            await client.send(b"".join([frame(PING)] * 4 + [masked("still here")]))
            for _ in range(4):
                assert (await client.frame()).opcode == PONG
            await until(lambda: live.recorder.messages)

    run(main())


def test_the_answer_to_our_ping_counts_for_nothing() -> None:
    async def main() -> None:
        async with Live({"messages": {"control_per_second": 1}}) as live:
            client, connection = await live.open()
            for number in range(5):
                connection.ping(encode(PING, b"%d" % number))
                assert (await client.frame()).opcode == PING
                await client.send(frame(PONG, b"%d" % number))
                await until(lambda: not connection._pinged)
            assert connection._meter is None
            # But only one answer to each.
            await client.send(frame(PONG) * 2)
            assert await client.closed() == told(MESSAGE_ABUSE, "too many pings or pongs")

    run(main())


def test_a_rate_that_has_recovered_is_not_kept() -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 0.01, "burst": 2}}) as live:
            client, connection = await live.open()
            await client.say("one")
            await until(lambda: live.recorder.messages)
            connection.ping(b"")
            assert connection._meter is not None
            connection.shared.poller.now += 200.0
            connection.ping(b"")
            assert connection._meter is None

    run(main())


# Trying it out.


def test_a_dry_run_only_counts() -> None:
    async def main() -> None:
        limits = {"limits": {"dry_run": ["messages"]}}
        rates = {"messages": {"per_second": 0.01, "burst": 2, "control_per_second": 1}}
        async with Live({**limits, **rates}) as live:
            client, connection = await live.open()
            await client.say(*map(str, range(7)))
            await client.send(frame(PING) * 3)
            await until(lambda: live.node.stats.dry_run["messages"] == 5 + 2)
            assert len(live.recorder.messages) == 7
            assert live.node.stats.messages_limited["delayed"] == 0
            assert connection.open

    run(main())
