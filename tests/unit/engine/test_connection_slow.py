"""Peers that do not read: what waits for them, and how that ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.raw import BINARY, CLOSE, PING, PONG, Frame, frame
from tests.unit.engine.live import Client, Live, run, told, until
from tidegate.core.codes import SLOW_CONSUMER
from tidegate.engine.connection import Connection

pytestmark = pytest.mark.usefixtures("each_poller")

ROOMY = {"outbox": {"max_bytes": 1 << 24}}
TIGHT = {"outbox": {"max_bytes": 1 << 16}}


def fill(connection: Connection, size: int = 10_000) -> int:
    """Send messages of ``size`` until many wait; return how many were sent."""
    count = 0
    while connection.buffered < 300_000:
        connection.send(bytes(size))
        count += 1
    return count


async def all_frames(client: Client) -> list[Frame]:
    """Read up to the close frame and the end of the stream: nothing but whole frames."""
    frames = [await client.frame()]
    while frames[-1].opcode != CLOSE:
        frames.append(await client.frame())
    assert await client.end() == b""
    return frames


def test_what_waits_arrives_when_the_peer_reads() -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            sent = []
            for number in range(200):
                sent.append(b"%d" % number + bytes(number * 10))
                connection.send(sent[-1])
            assert connection.buffered > 100_000
            assert [(await client.frame()).payload for _ in sent] == sent
            await until(lambda: not connection.buffered)
            connection.send(b"at once again")
            assert connection.buffered == 0
            assert (await client.frame()).payload == b"at once again"

    run(main())


def test_a_message_larger_than_the_outbox() -> None:
    """One large message is no sign of a slow peer."""

    async def main() -> None:
        async with Live(TIGHT) as live:
            client, connection = await live.open(slow=True)
            message = bytes(range(256)) * 1200
            connection.send(message)
            assert connection.buffered > 1 << 16
            assert (await client.frame()).payload == message
            await until(lambda: not connection.buffered)
            assert connection.open

    run(main())


def test_a_peer_that_is_too_slow_is_closed() -> None:
    """It gets whole frames and the reason, if it reads after all; others notice nothing."""

    async def main() -> None:
        async with Live(TIGHT) as live:
            client, connection = await live.open(slow=True)
            other, second = await live.open()
            sent = 0
            while connection.open:
                connection.send(b"%d" % sent + bytes(10_000))
                sent += 1
                assert connection.buffered <= (1 << 16) + 20_000
            assert connection.buffered < 30_000
            second.send("undisturbed")
            assert (await other.frame()).payload == b"undisturbed"
            reading = asyncio.create_task(all_frames(client))
            await until(lambda: not connection.buffered)
            await client.send(frame(CLOSE, b"\x0f\xa8"))
            *data, last = await reading
            assert (last.code, last.reason) == told(SLOW_CONSUMER)
            assert 0 < len(data) < sent
            assert [got.payload for got in data] == [
                b"%d" % number + bytes(10_000) for number in range(len(data))
            ]
            assert await live.ended(connection) == told(SLOW_CONSUMER)
            assert live.node.stats.disconnected["slow_consumer"] == 1

    run(main())


def test_a_peer_that_is_too_slow_and_never_reads() -> None:
    async def main() -> None:
        async with Live({**TIGHT, "server": {"close_timeout": 0.1}}) as live:
            client, connection = await live.open(slow=True)
            while connection.open:
                connection.send(bytes(10_000))
            assert await live.ended(connection) == told(SLOW_CONSUMER)
            with pytest.raises(ConnectionResetError):
                await client.end()

    run(main())


def test_pings_are_answered_while_messages_wait() -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            count = fill(connection)
            received = live.node.stats.incoming.bytes
            pings = [frame(PING, b"%d" % number) for number in range(3)]
            await client.send(b"".join(pings))
            await until(lambda: live.node.stats.incoming.bytes == received + sum(map(len, pings)))
            got = [await client.frame() for _ in range(count + 1)]
            (pong,) = [place for place, frame in enumerate(got) if frame.opcode == PONG]
            assert got[pong].payload == b"2"
            assert pong < count - 10
            assert [one.payload for one in got if one.opcode == BINARY] == [bytes(10_000)] * count

    run(main())


def test_the_heartbeat_pings_ahead_of_what_waits() -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            count = fill(connection)
            connection.ping(b"\x89\x01x")
            got = [(await client.frame()).opcode for _ in range(count + 1)]
            assert got.index(PING) < count - 10

    run(main())


# Ends with bytes that wait.


def test_the_server_closes_behind_what_waits() -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            count = fill(connection)
            connection.send("last words")
            connection.close(4000, "done")
            connection.send("too late")
            got = [await client.frame() for _ in range(count + 1)]
            assert got[-1].payload == b"last words"
            assert await client.closed(answer=False) == (4000, "done")
            await live.publish(connection)
            await client.send(frame(CLOSE))
            assert await client.end() == b""
            assert await live.ended(connection) == (4000, "done")

    run(main())


@pytest.mark.parametrize("crossing", [False, True])
def test_the_peer_closes_while_messages_wait(crossing: bool) -> None:
    """They arrive all the same, in front of the server's own close frame."""

    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            count = fill(connection)
            connection.send("last words")
            if crossing:
                connection.close(4001, "mine")
            received = live.node.stats.incoming.bytes
            await client.send(frame(CLOSE, b"\x0f\xa0"))
            await until(lambda: live.node.stats.incoming.bytes > received)
            connection.send("too late")
            *data, last = await all_frames(client)
            assert len(data) == count + 1
            assert last.code == (4001 if crossing else 4000)
            client.leave()
            assert await live.ended(connection) == ((4001, "mine") if crossing else (4000, ""))

    run(main())


def test_the_peer_breaks_the_protocol_while_messages_wait() -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            count = fill(connection)
            await client.send(b"\xff\xff")
            await until(lambda: not connection.open)
            *data, last = await all_frames(client)
            assert (len(data), last.code) == (count, 1002)
            client.leave()
            assert (await live.ended(connection))[0] == 1002

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset"])
def test_the_peer_leaves_while_messages_wait(how: str) -> None:
    async def main() -> None:
        async with Live(ROOMY) as live:
            client, connection = await live.open(slow=True)
            fill(connection)
            getattr(client, how)()
            assert await live.ended(connection) == (1006, "")
            assert connection.buffered == 0

    run(main())


def test_the_first_answer_does_not_go_out_at_once() -> None:
    """More is sent in the connect handler than the socket takes, and it closes behind that."""

    async def main() -> None:
        async with Live() as live:
            message = bytes(300_000)

            def flood(connection: Connection, request: object) -> None:
                connection.send(message)
                connection.close(4000)

            live.recorder.on_connect = flood
            client, connection = await live.open(slow=True)
            assert connection.buffered > 0
            await live.publish(connection)
            assert (await client.frame()).payload == message
            assert await client.closed() == (4000, "")
            assert await client.end() == b""
            assert await live.ended(connection) == (4000, "")

    run(main())
