"""A peer that does not read is its own problem, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import struct
import time

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support import aio
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import CLOSE, PING, PONG, TEXT, Raw
from tests.support.tokens import SECRET, bearer

pytestmark = pytest.mark.usefixtures("many_descriptors")

OTHERS = 1000
ROUNDS = 30
OUTBOX = 1 << 20
NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")


@pytest.mark.alone
def test_a_peer_that_never_reads_and_a_thousand_others(serve: Start) -> None:
    server = serve(
        {
            "auth": {"secret": SECRET},
            "limits": {"per_ip": 2000},
            "pacing": {"enabled": False},
            "anonymous": {"direct": True},
            "outbox": {"max_bytes": OUTBOX},
            "server": {"close_timeout": 0.5},
        }
    )
    slow = server.connect(receive_buffer=4096).open(headers=[bearer("slow"), NATIVE])

    async def other(few: asyncio.Semaphore) -> ClientConnection:
        async with few:  # an address may have only so many that are not open yet
            connection = await websockets.connect(
                server.url,
                proxy=None,
                compression=None,
                ping_interval=None,
                open_timeout=30,
                subprotocols=[Subprotocol("tidegate.v1.json")],
            )
        await connection.recv()
        await connection.send('{"type": "join", "room": "r", "id": 1}')
        await connection.recv()
        return connection

    async def hear(connection: ClientConnection) -> float:
        longest = 0.0
        for number in range(ROUNDS):
            message = json.loads(await connection.recv())
            assert message["data"]["number"] == number
            longest = max(longest, time.monotonic() - message["data"]["at"])
        return longest

    async def run() -> None:
        few = asyncio.Semaphore(100)
        others = await asyncio.gather(*(other(few) for _ in range(OTHERS)))
        speaker = others[0]
        heard = [asyncio.create_task(hear(connection)) for connection in others[1:]]
        big = json.dumps({"type": "direct_message", "user": "slow", "data": "x" * 200_000})
        for number in range(ROUNDS):
            await speaker.send(big)
            said = {"number": number, "at": time.monotonic()}
            await speaker.send(
                json.dumps({"type": "room_message", "room": "r", "data": said, "echo": False})
            )
            await asyncio.sleep(0.05)
        longest = await asyncio.wait_for(asyncio.gather(*heard), 20)
        # Most of it is the time that this one process needs to read for a thousand.
        assert max(longest) < 2
        await asyncio.to_thread(server.wait_open, OTHERS)
        stats = await asyncio.to_thread(server.stats)
        assert stats["disconnections"]["slow_consumer"] == 1
        assert sum(stats["disconnections"].values()) == 1
        await asyncio.gather(*(connection.close() for connection in others))

    with slow:
        aio.run(run())
        assert slow.gone()
    server.wait_open(0)


def test_who_reads_after_all_is_told_why(program: Start) -> None:
    server = program(
        "-m tests.support.handlers", {"outbox": {"max_bytes": OUTBOX, "kernel_bytes": 4 << 20}}
    )
    with server.connect(receive_buffer=4096) as slow:
        slow.open()
        slow.send_frame(TEXT, "flood 200 100000")
        server.settle()
        count = 0
        while (got := slow.frame()).opcode != CLOSE:
            # What had begun is whole.
            assert len(got.payload) == 100_000
            count += 1
        assert 10 <= count < 200
        assert got.code == 4008
        assert json.loads(got.reason) == {"error": "slow_consumer", "retryAfter": 5}
        slow.send_close(4008)
        assert slow.end() == b""
    server.wait_open(0)


def test_its_slot_is_free_although_it_stays(program: Start) -> None:
    server = program(
        "-m tests.support.handlers",
        {
            "limits": {"per_ip": 1},
            "anonymous": {"direct": True},
            "outbox": {"max_bytes": OUTBOX},
            "server": {"close_timeout": 0.5},
        },
    )
    with server.connect(receive_buffer=4096) as slow:
        slow.open()
        slow.send_frame(TEXT, "flood 200 100000")
        server.wait_open(0)
        with server.connect() as raw:
            raw.open()
            (row,) = server.connections()
            assert row["buffered"] == 0


def test_memory_is_bounded_by_the_outbox(program: Start) -> None:
    server = program(
        "-m tests.support.handlers",
        {"outbox": {"max_bytes": OUTBOX}, "server": {"close_timeout": 0.5}},
    )
    slow = [server.connect(receive_buffer=4096).open() for _ in range(20)]
    before = server.usage.memory_info().rss
    for raw in slow:
        raw.send_frame(TEXT, "flood 200 100000")  # 20 MB each
    server.wait_open(0, 20)
    assert server.usage.memory_info().rss - before < 60 << 20
    assert server.stats()["disconnections"]["slow_consumer"] == len(slow)
    for raw in slow:
        raw.close()


def buffered(server: Process) -> int:
    return sum(row["buffered"] for row in server.connections())


def stuck(server: Process) -> Raw:
    """A connection for which much waits, but not more than its outbox holds."""
    raw = server.connect(receive_buffer=4096).open()
    while buffered(server) < 100_000:
        raw.send_frame(TEXT, "flood 10 100000")
        server.settle()
    return raw


def test_pongs_are_sent_and_counted_while_much_waits(program: Start) -> None:
    server = program(
        "-m tests.support.handlers",
        {
            "outbox": {"max_bytes": 64 << 20},
            "heartbeat": {"interval": 0.5, "timeout": 0.5},
        },
    )
    with stuck(server) as raw:
        # It reads nothing, but it shows that it lives.
        for _ in range(8):
            raw.send_frame(PONG, b"")
            time.sleep(0.25)
        assert server.open() == 1
        raw.send_frame(PING, b"are you there")
        wait_until(lambda: buffered(server) > 0)
        waited = 0
        got = raw.frame()
        while got.opcode != PONG:
            waited += got.opcode not in (PING, PONG)
            got = raw.frame()
        assert got.payload == b"are you there"
        rest = buffered(server)
        assert rest > 0 or waited > 0
        raw.send_close()
        raw.closed(1000)
    server.wait_open(0)


def test_what_waits_arrives_whole_and_in_order_once_it_reads(program: Start) -> None:
    server = program("-m tests.support.handlers", {"outbox": {"max_bytes": 64 << 20}})
    with server.connect(receive_buffer=4096) as raw:
        raw.open()
        raw.send_frame(TEXT, "flood 200 60000")
        raw.send_frame(TEXT, "behind it all")
        wait_until(lambda: buffered(server) > 100_000)
        assert server.metrics()["websocket_slow_connections"] == 1
        for _ in range(200):
            assert raw.message() == bytes(60_000)
        assert raw.message() == "behind it all"
        assert buffered(server) == 0
        assert server.metrics()["websocket_slow_connections"] == 0


def test_a_close_waits_for_what_was_sent_before(program: Start) -> None:
    server = program("-m tests.support.handlers", {"outbox": {"max_bytes": 64 << 20}})
    with server.connect(receive_buffer=4096) as raw:
        raw.open()
        raw.send_frame(TEXT, "flood 100 60000")
        raw.send_frame(TEXT, "close 4000 done")
        wait_until(lambda: buffered(server) > 0)
        for _ in range(100):
            assert raw.message() == bytes(60_000)
        close = raw.frame()
        assert (close.opcode, close.payload) == (CLOSE, struct.pack("!H", 4000) + b"done")
