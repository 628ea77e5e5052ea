"""Every program of examples/ runs."""

from __future__ import annotations

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
