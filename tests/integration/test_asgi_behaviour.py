"""What WebSockets of an ASGI application do on our server, and on others behind the middleware.

`DIFFERENCES` says where other servers do less than `tidegate run`, for which all of this holds.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.support.asgi_servers import SERVERS, AsgiProcess
from tests.support.net import wait_until
from tests.support.raw import upgrade

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"path": "", "shutdown_timeout": 0.5, "handshake_timeout": 2.0},
    "limits": {"connections": 50, "per_ip": 1000},
    "messages": {"per_second": 200, "burst": 1000, "max_size": 1_000_000},
}
UVICORN = {"uvicorn", "uvicorn-wsproto"}

DIFFERENCES: dict[str, set[str]] = {
    "no lifespan": {"daphne"},
    # The scope.
    "its port is no number": {"granian"},
    "no scheme": {"daphne"},
    "header fields of one name are joined": {"daphne"},
    # Accepting and refusing.
    "headers of an accept are lost": {"granian", "daphne"},
    "no response that refuses": {"daphne"},
    "no response that refuses in parts": {"granian", "daphne"},
    "403 for an exception": {"granian"},
    # Closing.
    "no reason for the client": {"daphne"},
    "3013 in place of 1013": {"daphne"},
    "no reason for the application": {"hypercorn", "granian", "daphne"},
    "no code for the application": {"hypercorn"},
    "1005 for a client that broke off": {*UVICORN, "granian"},
    "not told of a client that left before the accept": {"granian"},
    # Messages.
    "no empty messages": {"daphne"},
    "sending never waits": {"daphne"},
    "reading never waits": {"daphne"},
}

# What clients see at SIGTERM: most servers close by themselves before they tell the application.
CODES_AT_THE_END = {"hypercorn": 1011, "granian": 1006, "daphne": 1006}


@pytest.fixture(scope="module", params=SERVERS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AsgiProcess]:
    process = AsgiProcess(request.param, tmp_path_factory.mktemp("asgi"), SETTINGS)
    try:
        process.wait_ready()
        yield process
        with opened(process, "echo") as client:
            process.terminate()
            assert closed(client)[0] == CODES_AT_THE_END.get(process.name, 1012)
        process.process.wait(20)
        if not differs(process, "no lifespan"):
            assert "the application has shut down" in process.log
    finally:
        process.kill()


@pytest.fixture
def server(running: AsgiProcess) -> Iterator[AsgiProcess]:
    """The server of the module, whose leases are all back after each test."""
    yield running
    wait_until(lambda: running.open() == 0, 10, "all leases are given back")


def differs(server: AsgiProcess, how: str) -> bool:
    return server.name in DIFFERENCES[how]


def opened(server: AsgiProcess, path: str, **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/{path}"
    client: ClientConnection = connect(url, proxy=None, compression=None, **options)
    return client


def closed(client: ClientConnection) -> tuple[int, str]:
    """Code and reason of the close frame that ends a connection."""
    try:
        while True:
            client.recv(10)
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


def code_of(server: AsgiProcess, code: int) -> int:
    """The code that a server closes with, in place of one that the gate or its middleware says."""
    replaced = 1000 < code < 3000 and differs(server, "3013 in place of 1013")
    return code + 2000 if replaced else code


def refused(server: AsgiProcess, path: str, **options: Any) -> Any:
    """The response to an attempt that is refused."""
    with pytest.raises(InvalidStatus) as refusal, opened(server, path, **options):
        pass
    return refusal.value.response


def record(server: AsgiProcess) -> Any:
    return server.ask("/record")


def wait_for(server: AsgiProcess, *texts: str) -> None:
    wait_until(
        lambda: any(text in record(server)["caught"] for text in texts),
        10,
        f"the application caught {texts} but {record(server)['caught']}",
    )


def scope_of(server: AsgiProcess, path: str = "scope", **options: Any) -> Any:
    with opened(server, path, **options) as client:
        return json.loads(client.recv(10))


# What the application sees.


def test_scope_has_all_of_the_request(server: AsgiProcess) -> None:
    offered = ["chat.v2", "chat.v1"]
    scope = scope_of(server, "scope/a%20b%2Fc?x=1&x=%C3%A9", subprotocols=offered)
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert scope.get("scheme") == (None if differs(server, "no scheme") else "ws")
    port = str(server.port) if differs(server, "its port is no number") else server.port
    assert scope["server"] == ["127.0.0.1", port]
    assert scope["client"][0] == "127.0.0.1"
    assert scope["path"] == "/scope/a b/c"
    assert scope["raw_path"] == "/scope/a%20b%2Fc"
    assert scope["query_string"] == "x=1&x=%C3%A9"
    assert scope["root_path"] == ""
    assert scope["subprotocols"] == offered
    state = None if differs(server, "no lifespan") else {"answer": 42}
    assert scope.get("state") == state
    denies = not differs(server, "no response that refuses")
    assert ("websocket.http.response" in scope["extensions"]) == denies


def test_scope_has_the_header_fields_in_their_order(server: AsgiProcess) -> None:
    sent = [("X-Twice", "one"), ("x-other", "\u00e9"), ("X-Twice", "two")]
    headers = scope_of(server, additional_headers=sent)["headers"]
    assert all(name == name.lower() for name, _ in headers)
    own = [tuple(pair) for pair in headers if pair[0].startswith("x-")]
    if differs(server, "header fields of one name are joined"):
        assert own == [("x-twice", "one,two"), ("x-other", "\u00e9")]
        return
    assert [value for name, value in own if name == "x-twice"] == ["one", "two"]
    assert ("x-other", "\u00e9") in own


def test_scope_has_what_the_gate_knows(server: AsgiProcess) -> None:
    extension = scope_of(server)["extensions"]["tidegate"]
    assert extension["id"] is not None or server.ours  # there it is known from `accept` on
    assert (extension["user"], extension["tier"], extension["zone"]) == (None, None, "normal")


def test_accept_has_the_subprotocol_and_the_headers(server: AsgiProcess) -> None:
    with opened(server, "chosen", subprotocols=["chat.v2", "chat.v1"]) as client:
        assert client.subprotocol == "chat.v1"
        assert client.response is not None
        got = [client.response.headers.get(name) for name in ("x-one", "x-two")]
    assert got == ([None, None] if differs(server, "headers of an accept are lost") else ["1", "2"])


def test_page_may_offer_the_subprotocol_that_the_application_does_not_know(
    server: AsgiProcess,
) -> None:
    with opened(server, "echo", subprotocols=["other", "tidegate.v1"]) as client:
        assert client.subprotocol == "tidegate.v1"


# How the application refuses and closes.


def test_close_before_the_accept_is_a_403(server: AsgiProcess) -> None:
    assert refused(server, "denied").status_code == 403


def test_response_of_the_application_refuses(server: AsgiProcess) -> None:
    response = refused(server, "response")
    if differs(server, "no response that refuses in parts"):
        assert response.status_code == 403
        return
    assert (response.status_code, response.body) == (418, b"I am a teapot")
    assert response.headers["Retry-After"] == "7"


def test_exception_before_the_accept_is_a_500(server: AsgiProcess) -> None:
    status = 403 if differs(server, "403 for an exception") else 500
    assert refused(server, "raises").status_code == status


def test_return_before_the_accept_is_a_500(server: AsgiProcess) -> None:
    status = 403 if differs(server, "no response that refuses") else 500
    assert refused(server, "returns_early").status_code == status


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("returns", 1000, ""),
        ("raises_later", 1011, '{"error":"handler_error","retryAfter":5}'),
        ("closes", 4321, "enough"),
    ],
)
def test_close_of_the_application_arrives(
    server: AsgiProcess, path: str, code: int, reason: str
) -> None:
    with opened(server, path) as client:
        with contextlib.suppress(ConnectionClosed):
            client.send("go on")
        end = closed(client)
    assert end == (
        code_of(server, code),
        "" if differs(server, "no reason for the client") else reason,
    )


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "too early"},
        {"type": "websocket.accept", "subprotocol": "never offered"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.http.response.start", "status": 99},
    ],
)
def test_wrong_event_lets_nobody_in(server: AsgiProcess, event: dict[str, Any]) -> None:
    name = base64.b64encode(json.dumps(event).encode()).decode()
    with pytest.raises((WebSocketException, OSError)) as failed:
        opened(server, f"wrong/{name}")
    if server.ours:
        assert isinstance(failed.value, InvalidStatus)
        assert failed.value.response.status_code == 500


# Messages.


def test_messages_of_all_sizes_come_back_in_order(server: AsgiProcess) -> None:
    messages: list[str | bytes] = ["", "text", b"", b"bytes", "\u00e9" * 1000, bytes(500_000)]
    if differs(server, "no empty messages"):
        messages = [message for message in messages if message]
    with opened(server, "echo") as client:
        for message in messages:
            client.send(message)
        assert [client.recv(10) for _ in messages] == messages


def test_application_that_reads_late_gets_everything(server: AsgiProcess) -> None:
    count, size = 640, 65536
    sent = 0

    def send(client: ClientConnection) -> None:
        nonlocal sent
        for number in range(count):
            client.send(b"%08d" % number + bytes(size - 8))
            sent = number + 1
        client.send("end")

    with opened(server, "reads_late") as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        time.sleep(0.4)
        if not differs(server, "reading never waits"):
            assert sent < count
        server.ask("/read")
        assert client.recv(20) == f"{count} {count * size}"
        sender.join(10)


def test_sending_waits_for_a_client_that_does_not_read(server: AsgiProcess) -> None:
    with opened(server, "floods", max_queue=1) as client:
        wait_until(lambda: record(server).get("flooded"), 10, "it sends")
        time.sleep(0.4)
        if not differs(server, "sending never waits"):
            assert record(server)["flooded"] < 200
        for number in range(200):
            message = client.recv(10)
            assert isinstance(message, bytes)
            assert int(message[:8]) == number
    assert record(server)["flooded"] == 200


def test_two_tasks_that_wait_for_one_client_both_go_on(server: AsgiProcess) -> None:
    with opened(server, "floods_by_two", max_queue=1) as client:
        time.sleep(0.3)
        for _ in range(100):
            assert isinstance(client.recv(10), bytes)
        assert client.recv(10) == "both are done"


# How the client leaves.


def test_close_of_the_client_arrives(server: AsgiProcess) -> None:
    with opened(server, "echo") as client:
        client.close(4001, "bye")
    code = 1006 if differs(server, "no code for the application") else 4001
    reason = None if differs(server, "no reason for the application") else "bye"
    wait_for(server, f"disconnect {code} {reason}")


def test_client_that_breaks_off_is_a_disconnect(server: AsgiProcess) -> None:
    code = 1005 if differs(server, "1005 for a client that broke off") else 1006
    with opened(server, "echo") as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        wait_for(server, f"disconnect {code} ", f"disconnect {code} None")


def test_sending_to_a_client_that_is_gone_is_an_oserror(server: AsgiProcess) -> None:
    with opened(server, "sends_on") as client:
        assert client.recv(10) == "on"
        client.socket.shutdown(socket.SHUT_RDWR)
        wait_for(server, "sends_on: ClientDisconnected")


def test_application_that_never_returns_is_cancelled(server: AsgiProcess) -> None:
    with opened(server, "never_returns"):
        pass
    wait_for(server, "never_returns: CancelledError")


def test_client_that_leaves_before_the_accept_is_a_disconnect(server: AsgiProcess) -> None:
    before = record(server)["called"]
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(upgrade(path="/slow_to_accept"))
        wait_until(lambda: record(server)["called"] > before, 10, "the application is called")
    if differs(server, "not told of a client that left before the accept"):
        wait_for(server, "slow_to_accept: CancelledError")  # after server.handshake_timeout
        return
    wait_for(server, "before the accept: websocket.disconnect 1006")
    wait_for(server, "slow_to_accept: ClientDisconnected")


# What the gate does.


def test_refusal_of_the_gate_is_a_response_with_the_reason(server: AsgiProcess) -> None:
    called = record(server)["called"]
    with contextlib.ExitStack() as held:
        for _ in range(50):
            held.enter_context(opened(server, "echo"))
        response = refused(server, "echo")
        assert record(server)["called"] == called + 50
    if differs(server, "no response that refuses"):
        assert response.status_code == 403
        return
    assert response.status_code == 503
    assert response.headers["X-Rejection-Reason"] == "server_limit"
    assert response.headers["Retry-After"]


def test_refusal_of_the_gate_is_in_band_for_a_page(server: AsgiProcess) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(50):
            held.enter_context(opened(server, "echo"))
        with opened(server, "echo", subprotocols=["tidegate.v1"]) as client:
            code, reason = closed(client)
    assert code == code_of(server, 1013)
    if not differs(server, "no reason for the client"):
        assert json.loads(reason)["error"] == "server_limit"


def test_message_that_is_too_big_closes(server: AsgiProcess) -> None:
    with opened(server, "echo") as client:
        client.send(bytes(1_000_001))
        code, reason = closed(client)
    assert code == code_of(server, 1009)
    if not differs(server, "no reason for the client"):
        assert json.loads(reason)["error"] == "message_too_big"


def test_messages_that_come_too_fast_are_read_later(server: AsgiProcess) -> None:
    with opened(server, "echo") as client:
        began = time.monotonic()
        for _ in range(1100):  # of which 1,000 may come at once, and 200 a second after them
            client.send("x")
        for _ in range(1100):
            assert client.recv(10) == "x"
        assert time.monotonic() - began > 0.3
