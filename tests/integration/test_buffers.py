"""What all connections together make the server keep is bounded, and the largest end first."""

from __future__ import annotations

import contextlib
import json

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw, frame

pytestmark = pytest.mark.usefixtures("many_addresses")

MIB = 1 << 20
BOUND = 16 * MIB
COUNT = 80
JOIN = [("Sec-WebSocket-Protocol", "tidegate.v1.json")]


def grown(server: Process, before: int) -> int:
    return int(server.usage.memory_info().rss) - before


def ended(server: Process) -> int:
    """How many connections were told that the server keeps too much."""
    return int(server.stats()["disconnections"]["buffers_full"])


def answers(member: Raw) -> bool:
    member.send(frame(TEXT, b'{"type":"join","room":"own","id":1}'))
    return bool(json.loads(member.message())["type"] == "ack")


def test_unfinished_messages_of_one_address_are_bounded_and_others_go_on(serve: Start) -> None:
    server = serve({"buffers": {"max_bytes": BOUND}, "limits": {"per_ip": COUNT + 1}})
    with contextlib.ExitStack() as held:
        member = held.enter_context(server.connect())
        member.open(headers=JOIN)
        member.message()
        # A message that is small, and not finished either.
        message = frame(TEXT, b'{"type":"join","room":"' + b"r" * 100 + b'","id":2}')
        member.send(message[:60])
        before = int(server.usage.memory_info().rss)
        begun = frame(TEXT, b"x" * (3 * MIB // 2))[:MIB]
        for _ in range(COUNT):
            raw = held.enter_context(server.connect(source="127.0.0.2"))
            raw.open(headers=JOIN)
            raw.send(begun)
        wait_until(lambda: ended(server) >= COUNT // 2, 10)
        assert grown(server, before) < 3 * BOUND  # 80 MiB without a bound
        member.send(message[60:])
        assert json.loads(member.message())["id"] == 2
        assert answers(member)
    server.wait_open(0)


def test_outboxes_of_all_connections_are_bounded(program: Start) -> None:
    settings = {
        "buffers": {"max_bytes": BOUND},
        "outbox": {"max_bytes": 4 * MIB, "max_age": 60},
        "limits": {"per_ip": COUNT + 1},
    }
    server = program("-m tests.support.handlers", settings)
    with contextlib.ExitStack() as held:
        before = int(server.usage.memory_info().rss)
        for _ in range(COUNT // 2):
            raw = held.enter_context(server.connect(source="127.0.0.2", receive_buffer=4096))
            raw.open()
            raw.send_frame(TEXT, "flood 30 100000")
        wait_until(lambda: ended(server) >= COUNT // 4, 10)
        assert grown(server, before) < 4 * BOUND  # 120 MB without a bound
        with server.connect() as other:
            other.open()
            other.send_frame(TEXT, "hello")
            assert other.message()
