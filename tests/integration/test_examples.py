"""Every program of examples/ runs."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.net import free_port


def test_echo(program: Start) -> None:
    port = free_port()
    server = program(f"examples/echo.py --port {port}", port=port, admin=False)
    with connect(f"ws://127.0.0.1:{port}/some/path", proxy=None) as client:
        client.send("text")
        assert client.recv(5) == "text"
        assert not client.protocol.extensions
    assert server.stop() == 0


def test_echo_with_compression(program: Start) -> None:
    port = free_port()
    program(f"examples/echo.py --port {port} --deflate", port=port, admin=False)
    with connect(f"ws://127.0.0.1:{port}", proxy=None) as client:
        client.send(b"binary " * 1000)
        assert client.recv(5) == b"binary " * 1000
        assert client.protocol.extensions


def test_gate_around_websockets_closes_what_is_too_much_with_reason_and_delay(
    program: Start,
) -> None:
    port = free_port()
    program(f"examples/gate_websockets.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/"
    with ExitStack() as held:
        for _ in range(20):
            client = held.enter_context(connect(url, proxy=None))
            client.send("hello")
            assert client.recv(5) == "hello"
        refused = held.enter_context(connect(url, proxy=None))
        with pytest.raises(ConnectionClosed) as closed:
            refused.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert json.loads(closed.value.rcvd.reason) == {"error": "ip_limit", "retryAfter": 10}


def test_gate_around_aiohttp_refuses_before_the_upgrade(program: Start) -> None:
    port = free_port()
    program(f"examples/gate_aiohttp.py {port}", port=port, admin=False)
    url = f"ws://127.0.0.1:{port}/"
    with ExitStack() as held:
        for _ in range(20):
            client = held.enter_context(connect(url, proxy=None))
            client.send("hello")
            assert client.recv(5) == "hello"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, proxy=None)
        response = refused.value.response
        assert response.status_code == 429
        assert response.headers["X-Rejection-Reason"] == "ip_limit"
        assert response.headers["Retry-After"] == "10"
