"""What an application knows of the client behind proxies: over HTTP and WebSockets alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, is_listening, wait_until
from tests.support.process import Process
from tests.support.raw import Raw

APP = "tests.support.http_app:app"
Told = tuple[Any, str, Any]  # client, scheme, server


def http_scope(raw: Raw, headers: dict[str, str]) -> Told:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw.send(f"GET /scope HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    scope = json.loads(raw.response().body)
    return scope["client"], scope["scheme"], scope["server"]


def websocket_scope(raw: Raw, headers: dict[str, str]) -> Told:
    raw.open(path="/told", headers=headers.items())
    scope = json.loads(raw.message())
    return scope["client"], scope["scheme"].replace("ws", "http"), scope["server"]


KINDS = pytest.mark.parametrize("told", [http_scope, websocket_scope], ids=["http", "websocket"])
FOR = {"X-Forwarded-For": "198.51.100.1, 192.0.2.9"}
PROTO = {"X-Forwarded-Proto": "https"}


@KINDS
@pytest.mark.parametrize("server", [f"tidegate run {APP}", f"uvicorn {APP}"])
def test_a_trusted_proxy_names_client_and_scheme(
    program: Start, server: str, told: Callable[[Raw, dict[str, str]], Told]
) -> None:
    port = free_port()
    process = program(
        f"-m {server} --port {port} --forwarded-allow-ips 127.0.0.1",
        port=port,
        admin=False,
    )
    own = ["127.0.0.1", port]
    with process.connect() as raw:
        assert told(raw, {**FOR, **PROTO}) == (["192.0.2.9", 0], "https", own)
    with process.connect() as raw:
        mine = list(raw.sock.getsockname())
        assert told(raw, PROTO) == (mine, "https", own)
    with process.connect() as raw:
        assert told(raw, {"X-Forwarded-Proto": "gopher"})[1] == "http"


@KINDS
def test_a_client_that_is_no_proxy_names_nothing(
    program: Start, told: Callable[[Raw, dict[str, str]], Told]
) -> None:
    process = program(f"-m tidegate run {APP} --forwarded-allow-ips 192.0.2.1", admin=False)
    with process.connect() as raw:
        mine = list(raw.sock.getsockname())
        assert told(raw, {**FOR, **PROTO}) == (mine, "http", ["127.0.0.1", process.port])


@KINDS
def test_the_forwarded_header_names_both_and_no_other_does(
    program: Start, told: Callable[[Raw, dict[str, str]], Told]
) -> None:
    settings = {"proxies": {"trusted": ["127.0.0.0/8"], "header": "forwarded"}}
    process = program(f"-m tidegate run {APP}", settings, admin=False)
    with process.connect() as raw:
        client, scheme, _ = told(raw, {"Forwarded": "for=198.51.100.1, for=192.0.2.9;proto=https"})
        assert (client, scheme) == (["192.0.2.9", 0], "https")
    with process.connect() as raw:
        client, scheme, _ = told(raw, {**FOR, **PROTO})
        assert (client[0], scheme) == ("127.0.0.1", "http")


@pytest.mark.parametrize("server", ["tidegate run", "uvicorn"])
def test_on_a_unix_socket_there_is_no_client_but_behind_a_proxy(
    tmp_path: Path, server: str
) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", *server.split(), APP, "--uds", str(path)]
    process = Process(command, tmp_path, admin=False)
    try:
        wait_until(lambda: is_listening(path), 20, "it listens")
        for told in (http_scope, websocket_scope):
            with Raw(str(path)) as raw:
                assert told(raw, {}) == (None, "http", [str(path), None])
            if server != "uvicorn":  # whoever may connect to the socket is trusted
                with Raw(str(path)) as raw:
                    assert told(raw, {**FOR, **PROTO})[:2] == (["192.0.2.9", 0], "https")
        process.stop()
    finally:
        process.kill()
