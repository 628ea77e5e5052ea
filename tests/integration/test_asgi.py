"""ASGI applications on Tidegate: what they see, and what their clients see."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process, get
from tests.support.raw import upgrade

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"path": "", "shutdown_timeout": 1.0},
    "limits": {"per_ip": 50},
    "messages": {"per_second": 0},
}
APP = "-m tests.support.asgi_server tests.support.asgi_app:app"


@pytest.fixture(scope="module")
def server(shared_program: Start) -> Iterator[Process]:
    process = shared_program(APP, SETTINGS, admin=False)
    process.expects_errors = True  # of the application
    yield process
    assert process.stop() == 0
    assert "the application has shut down" in process.log


def opened(server: Process, path: str, **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/{path}"
    client: ClientConnection = connect(url, proxy=None, compression=None, **options)
    return client


def record(server: Process) -> Any:
    status, body = get(server.port, "/record")
    assert status == 200
    return body


def wait_for(server: Process, text: str) -> None:
    wait_until(
        lambda: text in record(server)["caught"],
        10,
        f"the application caught {text!r} but {record(server)['caught']}",
    )


def test_scope_has_all_of_the_request(server: Process) -> None:
    headers = [("X-Twice", "one"), ("x-other", "\u00e9"), ("X-Twice", "two")]
    with opened(
        server,
        "scope/a%20b%2Fc?x=1&x=%C3%A9",
        additional_headers=headers,
        subprotocols=["chat.v2", "chat.v1"],
    ) as client:
        scope = json.loads(client.recv(5))
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["scheme"] == "ws"
    assert scope["server"] == ["127.0.0.1", server.port]
    assert scope["client"][0] == "127.0.0.1"
    assert scope["path"] == "/scope/a b/c"
    assert scope["raw_path"] == "/scope/a%20b%2Fc"
    assert scope["query_string"] == "x=1&x=%C3%A9"
    assert scope["root_path"] == ""
    assert scope["subprotocols"] == ["chat.v2", "chat.v1"]
    assert scope["state"] == {"answer": 42}
    names = [name for name, _ in scope["headers"]]
    assert names == [name.lower() for name in names]
    own = [pair for pair in scope["headers"] if pair[0].startswith("x-")]
    assert own == [["x-twice", "one"], ["x-other", "\u00e9"], ["x-twice", "two"]]
    assert scope["extensions"]["websocket.http.response"] == {}
    extension = scope["extensions"]["tidegate"]
    assert extension["id"]
    assert (extension["user"], extension["tier"], extension["zone"]) == (None, None, "normal")


def test_accept_has_the_subprotocol_and_the_headers(server: Process) -> None:
    with opened(server, "chosen", subprotocols=["chat.v2", "chat.v1"]) as client:
        assert client.subprotocol == "chat.v1"
        assert client.response is not None
        assert client.response.headers["x-one"] == "1"
        assert client.response.headers["x-two"] == "2"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("denied", 403, b""),
        ("response", 418, b"I am a teapot"),
        ("raises", 500, b"Internal Server Error"),
        ("returns_early", 500, b"Internal Server Error"),
    ],
)
def test_refusals_of_the_application_arrive(
    server: Process, path: str, status: int, body: bytes
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        opened(server, path)
    response = refused.value.response
    assert (response.status_code, response.body or b"") == (status, body)
    assert response.headers.get("Retry-After") == ("7" if path == "response" else None)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("returns", 1000, ""),
        ("raises_later", 1011, '{"error":"handler_error","retryAfter":5}'),
        ("closes", 4321, "enough"),
    ],
)
def test_closes_of_the_application_arrive(
    server: Process, path: str, code: int, reason: str
) -> None:
    with opened(server, path) as client:
        with contextlib.suppress(ConnectionClosed):
            client.send("go on")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


def test_messages_of_all_sizes_come_back_in_order(server: Process) -> None:
    messages: list[str | bytes] = ["", "text", b"", b"bytes", "\u00e9" * 1000, bytes(500_000)]
    with opened(server, "echo") as client:
        for message in messages:
            client.send(message)
        assert [client.recv(5) for _ in messages] == messages
        client.close(4001, "bye")
    wait_for(server, "disconnect 4001 bye")


def test_a_client_that_breaks_off_is_a_disconnect_1006(server: Process) -> None:
    with opened(server, "echo") as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        wait_for(server, "disconnect 1006 ")


def test_an_application_that_reads_late_gets_everything_and_the_client_waits(
    server: Process,
) -> None:
    count, size = 300, 65536
    with opened(server, "reads_late") as client:
        for number in range(count):
            client.send(b"%08d" % number + bytes(size - 8))
        client.send("end")
        assert client.recv(20) == f"{count} {count * size}"


def test_sending_waits_for_a_client_that_does_not_read(server: Process) -> None:
    with opened(server, "floods", max_queue=1) as client:
        time.sleep(0.5)
        assert record(server)["flooded"] < 200
        for number in range(200):
            message = client.recv(5)
            assert isinstance(message, bytes)
            assert int(message[:8]) == number
    assert record(server)["flooded"] == 200


def test_two_tasks_that_wait_for_one_client_both_go_on(server: Process) -> None:
    with opened(server, "floods_by_two", max_queue=1) as client:
        time.sleep(0.3)
        for _ in range(100):
            assert isinstance(client.recv(5), bytes)
        assert client.recv(5) == "both are done"


def test_sending_to_a_client_that_is_gone_is_an_oserror(server: Process) -> None:
    with opened(server, "sends_on") as client:
        assert client.recv(5) == "on"
        client.socket.shutdown(socket.SHUT_RDWR)
        wait_for(server, "sends_on: ClientDisconnected")


def test_an_application_that_never_returns_is_cancelled(server: Process) -> None:
    with opened(server, "never_returns"):
        pass
    wait_for(server, "never_returns: CancelledError")
    assert server.log.count("goes on after its client has left") == 1


def test_a_client_that_leaves_before_the_accept_is_a_disconnect(server: Process) -> None:
    before = record(server)["called"]
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(upgrade(path="/slow_to_accept"))
        wait_until(lambda: record(server)["called"] > before, 5, "the application is called")
    wait_for(server, "before the accept: websocket.disconnect 1006")
    wait_for(server, "slow_to_accept: ClientDisconnected")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "too early"},
        {"type": "websocket.accept", "subprotocol": "never offered"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.http.response.start", "status": 99},
    ],
)
def test_a_wrong_event_is_a_500(server: Process, event: dict[str, Any]) -> None:
    name = base64.b64encode(json.dumps(event).encode()).decode()
    with pytest.raises(InvalidStatus) as refused:
        opened(server, f"wrong/{name}")
    assert refused.value.response.status_code == 500


def test_a_page_may_offer_the_subprotocol_that_the_application_does_not_know(
    server: Process,
) -> None:
    with opened(server, "scope", subprotocols=["other", "tidegate.v1"]) as client:
        assert client.subprotocol == "tidegate.v1"
        assert json.loads(client.recv(5))["type"] == "websocket"


def test_the_gate_refuses_before_the_application_is_called(program: Start) -> None:
    server = program(APP, {**SETTINGS, "limits": {"per_ip": 5}}, admin=False)
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(opened(server, "echo"))
        with pytest.raises(InvalidStatus) as refused:
            opened(server, "echo")
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["X-Rejection-Reason"] == "ip_limit"
        assert record(server)["called"] == 5
    # Every way to end gives the lease back: for five at a time, each of them four times.
    for path in ("denied", "response", "returns", "returns_early", "raises", "closes") * 4:
        with contextlib.suppress(InvalidStatus, ConnectionClosed), opened(server, path) as client:
            client.send("go on")
            client.recv(5)
    server.expects_errors = True
    with contextlib.ExitStack() as held:
        wait_until(lambda: len(record(server)["ended"]) == 29, 10, "all have ended")
        for _ in range(5):
            held.enter_context(opened(server, "echo"))
