"""Handlers: order, waiting, and what happens when one raises."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import Start
from tests.support import SECRET_DETAIL
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import BINARY, CLOSE, TEXT, frame


@pytest.fixture(scope="module")
def server(shared_program: Start) -> Process:
    rates = {"per_second": 0, "bytes_per_second": 0}
    process = shared_program("-m tests.support.handlers", {"messages": rates})
    process.expects_errors = True
    return process


def ends(server: Process, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    return [end for end in lines if end["id"] == name]


@pytest.mark.parametrize("command", ["raise", "fail"], ids=["plain", "async"])
def test_a_message_handler_raises(server: Process, command: str) -> None:
    with server.connect() as raw, server.connect() as other:
        other.open()
        raw.open()
        raw.send_frame(TEXT, "name")
        name = str(raw.message())
        raw.send(frame(TEXT, command.encode()) + frame(TEXT, b"not handled any more"))
        close = raw.closed(1011)
        assert json.loads(close.reason) == {"error": "handler_error", "retryAfter": 5}
        raw.send_close(1011)
        assert raw.end() == b""
        wait_until(lambda: ends(server, name))
        other.send_frame(TEXT, "others go on")
        assert other.message() == "others go on"
    assert [end["code"] for end in ends(server, name)] == [1011]
    logged = [line for line in server.lines if name in line and "{" not in line]
    assert len(logged) == 1, "logged once, with the id of the connection"
    assert SECRET_DETAIL in server.log
    server.wait_open(0)


def test_the_connect_handler_raises(server: Process) -> None:
    with server.connect() as raw:
        response = raw.ask(path="/ws?raise")
        assert response.status == 101
        close = raw.closed(1011)
        assert json.loads(close.reason) == {"error": "handler_error", "retryAfter": 5}
        raw.send_close(1011)
        assert raw.end() == b""
    server.wait_open(0)


def test_the_connect_handler_sends_and_closes(server: Process) -> None:
    with server.connect() as raw:
        raw.open(path="/ws?greet")
        assert raw.message() == "hello"
    with server.connect() as raw:
        raw.open(path="/ws?leave")
        assert raw.closed(4002).reason == "not now"
        raw.send_close(4002)
        assert raw.end() == b""
    server.wait_open(0)


def test_messages_wait_for_the_connect_handler(server: Process) -> None:
    with server.connect() as raw:
        raw.open(path="/ws?slow")
        raw.send_frame(TEXT, "early")
        assert [raw.message(), raw.message()] == ["connected", "early"]


@pytest.mark.alone
def test_a_slow_handler_stops_only_its_own_connection(server: Process) -> None:
    with server.connect() as slow, server.connect() as other:
        slow.open()
        other.open()
        started = time.monotonic()
        slow.send(frame(TEXT, b"sleep 0.8") + frame(TEXT, b"next"))
        for number in range(50):
            other.send_frame(TEXT, str(number))
            assert other.message() == str(number)
        assert time.monotonic() - started < 0.7
        assert [slow.message(), slow.message()] == ["slept 0.8", "next"]
        assert time.monotonic() - started >= 0.8


def test_a_slow_handler_stops_reading(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        before = server.usage.memory_info().rss
        raw.send_frame(TEXT, "sleep 1")
        block = frame(TEXT, b"quiet " + bytes(1000)) * 64
        sent = raw.send_until_stuck(block, 256 << 20)
        assert sent < 256 << 20
        grown = server.usage.memory_info().rss - before
        assert grown < 16 << 20, "what waits is in the buffers of the kernel, not in memory"
        assert raw.message() == "slept 1"
        # It reads on, so the rest of the block can be sent.
        raw.send(block[sent % len(block) :] + frame(TEXT, b"all read"))
        assert raw.message() == "all read"


def test_messages_are_handled_one_at_a_time_and_in_order(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        for start in range(0, 200, 20):
            block = [frame(TEXT, f"jitter {start + n}".encode()) for n in range(20)]
            raw.send(b"".join(block))
        assert [raw.message() for _ in range(200)] == [str(number) for number in range(200)]


def test_plain_and_async_handlers_keep_the_order(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        raw.send(
            frame(TEXT, b"a")
            + frame(TEXT, b"sleep 0.05")
            + frame(BINARY, b"b")
            + frame(TEXT, b"jitter 7")
            + frame(TEXT, b"c")
        )
        assert [raw.message() for _ in range(5)] == ["a", "slept 0.05", b"b", "7", "c"]


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_a_peer_that_leaves_while_its_handler_waits(server: Process, how: str) -> None:
    with server.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "name")
        name = str(raw.message())
        raw.send_frame(TEXT, "sleep 0.3")
        server.settle()
        getattr(raw, how)()
        wait_until(lambda: ends(server, name))
    server.wait_open(0)
    assert [end["code"] for end in ends(server, name)] == [1006]


@pytest.mark.alone
def test_a_close_frame_while_the_handler_waits(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "name")
        name = str(raw.message())
        started = time.monotonic()
        raw.send(frame(TEXT, b"sleep 2") + frame(TEXT, b"quiet") + frame(CLOSE, b"\x03\xe8"))
        assert raw.closed(1000)
        assert raw.end() == b""
        server.wait_open(0)
        assert time.monotonic() - started < 1.9, "the close waits for no handler"
        wait_until(lambda: ends(server, name))
        assert time.monotonic() - started >= 2.0, "the close handler comes last"
    assert [end["code"] for end in ends(server, name)] == [1000]


def test_the_close_handler_raises(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "name")
        name = str(raw.message())
        raw.send_close(1000, "raise")
        assert raw.closed(1000)
        assert raw.end() == b""
    server.wait_open(0)
    assert len(ends(server, name)) == 1


def test_the_http_function_raises(server: Process) -> None:
    with server.connect() as raw:
        raw.send(b"GET /raise HTTP/1.1\r\nHost: x\r\n\r\n")
        response = raw.response()
        assert raw.end() == b""
    assert response.status == 500
    assert SECRET_DETAIL.encode() not in response.body
    assert response.headers["x-rejection-reason"] == "internal_error"
