"""Members of a room that do not read, over real sockets: closed, or left out of some of it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw
from tests.support.tokens import SECRET, bearer

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
RATES = {"per_second": 0, "bytes_per_second": 0}


def member(server: Process, room: str = "r", user: str | None = None, **options: Any) -> Raw:
    headers = [NATIVE, *([bearer(user)] if user else [])]
    raw = server.connect(**options).open(headers=headers)
    assert json.loads(raw.message())["type"] == "connected"
    say(raw, type="join", room=room, id="in")
    assert json.loads(raw.message())["id"] == "in"
    return raw


def say(raw: Raw, **message: Any) -> None:
    raw.send_frame(TEXT, json.dumps(message))


def flood(speaker: Raw, count: int, size: int = 20_000) -> None:
    """Say numbers in the room, each acknowledged before the next."""
    for number in range(count):
        data = {"number": number, "rest": "x" * size}
        say(speaker, type="room_message", room="r", data=data, echo=False, id=number)
        assert json.loads(speaker.message()) == {"type": "ack", "id": number}


def heard(raw: Raw, last: int) -> list[int]:
    """The numbers that arrive, up to the last."""
    numbers: list[int] = []
    while not numbers or numbers[-1] != last:
        numbers.append(json.loads(raw.message())["data"]["number"])
    return numbers


def dropped(server: Process, policy: str) -> int:
    return int(server.metrics()[f'websocket_messages_dropped_total{{policy="{policy}"}}'])


COUNT = 500


def settings(**outbox: Any) -> dict[str, Any]:
    return {
        "auth": {"secret": SECRET},
        "messages": RATES,
        "anonymous": {"direct": True},
        # Many messages fit into the kernel, so that some of them arrive whole.
        "outbox": {"max_bytes": 200_000, "kernel_bytes": 4 << 20, **outbox},
        "server": {"close_timeout": 0.5},
    }


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_slow_member_misses_some(serve: Start, policy: str) -> None:
    server = serve(settings(policy=policy))
    with (
        member(server, user="slow", receive_buffer=4096) as slow,
        member(server) as reader,
        member(server, user="speaker") as speaker,
    ):
        for start in range(0, COUNT, 50):
            flood(speaker, 50)
            assert heard(reader, 49) == list(range(50)), start
        lost = dropped(server, policy)
        assert lost > 100
        (row,) = [row for row in server.connections() if row["user"] == "slow"]
        assert 0 < row["buffered"] < 300_000
        # What is not of the room comes, after what waits.
        say(speaker, type="direct_message", user="slow", data={"number": "direct"}, id="d")
        assert json.loads(speaker.message())["delivered"] == 1
        got: list[Any] = []
        while not got or got[-1] != "direct":
            message = json.loads(slow.message())
            if message["type"] != "gap":
                got.append(message["data"]["number"])
        assert len(got) - 1 == COUNT - lost
        if policy == "drop_oldest":
            assert got[-2] == 49
        else:
            assert got[:50] == list(range(50))
        # It is a member like any other again.
        wait_until(lambda: not row_of(server, "slow")["buffered"])
        # It is told that it missed something.
        assert json.loads(slow.message()) == {"type": "gap", "room": "r"}
        flood(speaker, 3)
        assert heard(slow, 2) == [0, 1, 2]
    assert "slow_consumer" not in server.log


def row_of(server: Process, user: str) -> dict[str, Any]:
    (row,) = [row for row in server.connections() if row["user"] == user]
    return row


def test_direct_messages_are_not_dropped_but_bounded(serve: Start) -> None:
    server = serve(settings(policy="drop_oldest"))
    with member(server, user="slow", receive_buffer=4096), member(server) as speaker:
        for _ in range(600):
            say(speaker, type="direct_message", user="slow", data="x" * 20_000, id=1)
            if not json.loads(speaker.message())["delivered"]:
                break
        server.wait_open(1)
        assert server.stats()["disconnections"]["slow_consumer"] == 1


def test_what_waits_for_too_long_closes(serve: Start) -> None:
    """Far less than the outbox holds, but nobody takes it."""
    server = serve(settings(max_bytes=64 << 20, max_age=1.0))
    with (
        member(server, user="slow", receive_buffer=4096) as slow,
        member(server) as reader,
        member(server) as speaker,
    ):
        number = 0
        while not row_of(server, "slow")["buffered"]:
            flood(speaker, 10)
            assert heard(reader, 9) == list(range(10))
            number += 10
        start = time.monotonic()
        server.wait_open(2)
        assert 0.7 < time.monotonic() - start < 3
        assert server.stats()["disconnections"]["slow_consumer"] == 1
        assert slow.gone()
        flood(speaker, 3)
        assert heard(reader, 2) == [0, 1, 2]


def test_who_reads_slowly_but_reads_is_kept(serve: Start) -> None:
    given = settings(max_age=1.0)
    given["messages"] = {**RATES, "max_size": 16 << 20}
    server = serve(given)
    with (
        member(server, user="slow", receive_buffer=65536) as slow,
        member(server) as speaker,
    ):
        # One large message, taken in parts for longer than the greatest age.
        say(speaker, type="direct_message", user="slow", data="x" * 15_000_000, id=1)
        assert json.loads(speaker.message())["delivered"] == 1
        wait_until(lambda: row_of(server, "slow")["buffered"] > 0)
        for _ in range(50):
            slow.exactly(200_000)
            time.sleep(0.05)
        assert row_of(server, "slow")["buffered"] > 0
        assert server.open() == 2


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "drop_newest"])
def test_memory_stays_bounded_whatever_members_do(
    serve: Start, policy: str, many_descriptors: None
) -> None:
    """What waits for many is kept once: 300 outboxes of up to 1 MiB, and a few MiB in all."""
    given = settings(policy=policy, max_bytes=1 << 20, max_age=60.0)
    given["limits"] = {"per_ip": 1000}
    given["pacing"] = {"enabled": False}
    server = serve(given)
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(member(server, receive_buffer=4096))
        reader = stack.enter_context(member(server))
        speaker = stack.enter_context(member(server))
        before = server.usage.memory_info().rss
        highest = before
        for start in range(0, 2000, 50):
            flood(speaker, 50, 4_000)
            assert heard(reader, 49) == list(range(50)), start
            highest = max(highest, server.usage.memory_info().rss)
        assert highest - before < 40 << 20
        if policy == "disconnect":
            server.wait_open(2)
            assert server.stats()["disconnections"]["slow_consumer"] == 300
        else:
            assert server.open() == 302
            assert dropped(server, policy) > 1000
