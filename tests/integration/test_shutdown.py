"""SIGINT, and SIGTERM without a drain: everybody is told, and the process ends in time, with 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from tests.conftest import Start
from tests.support import aio
from tests.support.process import Process
from tests.support.raw import TEXT

AT_ONCE = {"drain": {"on_sigterm": False}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everybody_is_told(serve: Start, number: int) -> None:
    server = serve({"limits": {"per_ip": 1000}, **AT_ONCE})

    async def run() -> list[tuple[int, str]]:
        clients = await asyncio.gather(
            *(websockets.connect(server.url, proxy=None) for _ in range(300))
        )
        server.signal(number)
        closes = []
        for client in clients:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await asyncio.wait_for(client.recv(), 20)
            assert client.close_code is not None
            closes.append((client.close_code, client.close_reason or ""))
        return closes

    started = time.monotonic()
    closes = aio.run(run())
    assert set(closes) == {(1001, '{"error":"shutdown","retryAfter":5}')}
    assert server.process.wait(20) == 0
    assert time.monotonic() - started < 8


def test_peers_that_do_not_answer_do_not_hold_it_up(serve: Start) -> None:
    server = serve({"server": {"shutdown_timeout": 1, "close_timeout": 60}})
    with server.connect() as raw, server.connect() as opening:
        raw.open()
        opening.send(b"GET /ws HTTP/1.1\r\n")
        server.settle()
        server.signal(signal.SIGINT)
        started = time.monotonic()
        assert raw.closed(1001)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 2.5
        assert opening.gone()


def test_handlers_that_wait_do_not_hold_it_up(program: Start) -> None:
    server = program(
        "-m tests.support.handlers", {"server": {"shutdown_timeout": 1, "close_timeout": 60}}
    )
    with server.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "sleep 60")
        server.settle()
        server.signal(signal.SIGINT)
        started = time.monotonic()
        assert raw.closed(1001)
        raw.send_close(1001)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 4
    # Its close handler was called all the same.
    assert '"code": 1001' in server.log


def test_handlers_that_are_nearly_done_may_finish(program: Start) -> None:
    server = program("-m tests.support.handlers")
    with server.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "sleep 0.5")
        server.settle()
        server.signal(signal.SIGINT)
        assert raw.closed(1001)
        raw.send_close(1001)
        assert server.process.wait(20) == 0
    assert server.log.count('"code": 1001') == 1


def test_nobody_new_gets_in(serve: Start) -> None:
    server = serve({"server": {"shutdown_timeout": 2}})
    with server.connect() as stays:
        stays.open()
        server.signal(signal.SIGINT)
        assert stays.closed(1001)
        with pytest.raises((OSError, EOFError)):
            server.connect(timeout=1).open()
        # Until the last is gone, the admin listener says what goes on.
        assert not_ready(server)
        stays.send_close(1001)
        assert server.process.wait(20) == 0


def not_ready(server: Process) -> bool:
    status, body = server.get("/ready")
    return status == 503 and not body["ready"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nobody_there_it_ends_at_once(serve: Start, number: int) -> None:
    server = serve()
    started = time.monotonic()
    server.signal(number)
    assert server.process.wait(20) == 0
    assert time.monotonic() - started < 2


def test_its_port_is_free_at_once(serve: Start) -> None:
    """A restart must not fail because connections of before are in TIME_WAIT."""
    server = serve(AT_ONCE)
    with server.connect() as raw:
        raw.open()
        server.signal(signal.SIGTERM)
        raw.closed(1001)
        raw.send_close(1001)
        raw.gone()
    assert server.process.wait(20) == 0
    again = serve(port=server.port)
    with again.connect() as raw:
        raw.open()
