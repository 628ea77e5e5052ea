"""Clients that send more than they may, over real sockets."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import PING, PONG, TEXT, Raw, frame

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")


def native(server: Process) -> Raw:
    raw = server.connect().open(headers=[NATIVE])
    assert json.loads(raw.message())["type"] == "connected"
    return raw


def say(*messages: dict[str, Any]) -> bytes:
    return b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages)


def answers(raw: Raw, count: int) -> list[dict[str, Any]]:
    return [json.loads(raw.message()) for _ in range(count)]


def test_a_native_client_is_told_when_to_go_on(serve: Start) -> None:
    server = serve({"messages": {"per_second": 5, "burst": 4}})
    with native(server) as raw:
        raw.send(say(*({"type": "leave", "room": "r", "id": number} for number in range(6))))
        got = answers(raw, 6)
        assert [(answer["id"], answer["code"]) for answer in got] == [
            *((number, "not_joined") for number in range(4)),
            *((number, "message_rate") for number in (4, 5)),
        ]
        assert {answer.get("retryAfter") for answer in got[4:]} == {1}
        time.sleep(got[5]["retryAfter"])
        raw.send(say({"type": "join", "room": "r", "id": 5}))
        assert answers(raw, 1) == [{"type": "ack", "id": 5, "members": 1}]
    assert server.stats()["messages"]["limited"] == {"refused": 2, "delayed": 0}
    assert server.metrics()['websocket_messages_limited_total{action="refused"}'] == 2


def test_a_native_client_that_goes_on_is_closed(serve: Start) -> None:
    server = serve({"messages": {"per_second": 1, "burst": 1, "abuse_after": 3}})
    with native(server) as raw:
        raw.send(say(*({"type": "leave", "room": "r"} for _ in range(50))))
        assert [answer["code"] for answer in answers(raw, 3)] == [
            "not_joined",
            "message_rate",
            "message_rate",
        ]
        close = raw.closed(1008)
        assert json.loads(close.reason) == {"error": "message_abuse", "retryAfter": None}
    server.wait_open(0)
    assert server.stats()["disconnections"]["message_abuse"] == 1


def test_joins_and_leaves_over_and_over(serve: Start) -> None:
    server = serve({"messages": {"joins_per_second": 1}, "limits": {"rooms_per_connection": 3}})
    with native(server) as raw:
        for number in range(4):
            raw.send(say({"type": "join", "room": "r", "id": number}))
            raw.send(say({"type": "leave", "room": "r"}))
        got = answers(raw, 5)
        assert [answer["type"] for answer in got[:3]] == ["ack"] * 3
        assert (got[3]["code"], got[3]["id"]) == ("message_rate", 3)
        assert got[4]["code"] == "not_joined"


@pytest.mark.alone
def test_a_plain_server_reads_later_and_loses_nothing(program: Start) -> None:
    server = program("-m tests.support.handlers", {"messages": {"per_second": 100, "burst": 20}})
    with server.connect() as raw:
        raw.open()
        start = time.monotonic()
        raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(120)))
        assert [raw.message() for _ in range(120)] == [str(number) for number in range(120)]
        assert 1.0 <= time.monotonic() - start < 2.0
    assert server.stats()["messages"]["limited"]["delayed"] > 0


def test_a_flood_waits_with_the_client(program: Start) -> None:
    rates = {"max_size": 100_000, "bytes_per_second": 10_000, "bytes_burst": 100_000}
    server = program("-m tests.support.handlers", {"messages": rates})
    before = server.usage.memory_info().rss
    with server.connect() as flood:
        flood.open()
        block = frame(TEXT, b"quiet " + bytes(64 << 10))
        assert flood.send_until_stuck(block, 64 << 20) < 64 << 20
        with server.connect() as other:
            other.open()
            other.send_frame(TEXT, "undisturbed")
            assert other.message() == "undisturbed"
        assert server.usage.memory_info().rss - before < 16 << 20


def test_pings_without_end(serve: Start) -> None:
    server = serve({"messages": {"control_per_second": 20}})
    with native(server) as raw:
        raw.send(frame(PING, b"x") * 20)
        assert [raw.frame().opcode for _ in range(20)] == [PONG] * 20
        raw.send(frame(PING, b"x") * 50)
        assert json.loads(raw.closed(1008).reason) == {
            "error": "message_abuse",
            "retryAfter": None,
            "detail": "too many pings or pongs",
        }
    server.wait_open(0)


def test_a_dry_run(serve: Start) -> None:
    server = serve({"messages": {"per_second": 1, "burst": 1}, "limits": {"dry_run": ["messages"]}})
    with native(server) as raw:
        raw.send(say(*({"type": "leave", "room": "r"} for _ in range(30))))
        assert {answer["code"] for answer in answers(raw, 30)} == {"not_joined"}
    assert server.metrics()['websocket_dry_run_rejections_total{policy="messages"}'] == 29
    assert "dry run" in server.log
