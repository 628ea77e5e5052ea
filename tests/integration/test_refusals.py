"""Everybody who is refused is told why and when to come back, and can read it."""

from __future__ import annotations

import json
import ssl
import time
from contextlib import ExitStack

import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import TEXT, Raw, frame, upgrade
from tests.support.tokens import SECRET, bearer

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
EVIL = "evil-bytes-of-the-peer"


pytestmark = pytest.mark.usefixtures("many_addresses")


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(
        {
            "auth": {"secret": SECRET},
            "limits": {"connections": 8, "per_ip": 3, "per_user": 1},
            "tiers": {"gold": {"connections": 1, "per_user": 5}},
            "server": {"origins": ["https://good.example"]},
        }
    )


def long_header(size: int) -> bytes:
    return upgrade(headers=[("X-Long", "x" * size)])


MALFORMED = [
    # what is sent, the status, the error, and headers that the answer must have
    (upgrade(path=f"/{EVIL}"), 404, "not_found", {}),
    (upgrade(method="POST"), 405, "method_not_allowed", {"allow": "GET"}),
    (upgrade(replace={"Upgrade": None}), 426, "upgrade_required", {"upgrade": "websocket"}),
    (upgrade(replace={"Upgrade": EVIL}), 426, "upgrade_required", {"upgrade": "websocket"}),
    (upgrade(replace={"Connection": "close"}), 426, "upgrade_required", {"upgrade": "websocket"}),
    (
        upgrade(replace={"Sec-WebSocket-Version": "8"}),
        426,
        "upgrade_required",
        {"sec-websocket-version": "13"},
    ),
    (upgrade(replace={"Sec-WebSocket-Version": None}), 426, "upgrade_required", {}),
    (upgrade(replace={"Sec-WebSocket-Key": None}), 400, "bad_request", {}),
    (upgrade(replace={"Sec-WebSocket-Key": EVIL}), 400, "bad_request", {}),
    (upgrade(headers=[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]), 400, "bad_request", {}),
    (upgrade(replace={"Host": None}), 400, "bad_request", {}),
    (upgrade(headers=[("Host", EVIL)]), 400, "bad_request", {}),
    (upgrade(headers=[("Content-Length", "5")]) + b"hello", 400, "bad_request", {}),
    (upgrade(headers=[("Transfer-Encoding", "chunked")]), 400, "bad_request", {}),
    (upgrade(headers=[(f"{EVIL} bad", "x")]), 400, "bad_request", {}),
    (upgrade(version="HTTP/1.0"), 426, "upgrade_required", {"upgrade": "websocket"}),
    (upgrade(version="HTTP/2.0"), 505, "http_version", {}),
    (b"\x00\x01\x02\x03 garbage\r\n\r\n", 400, "bad_request", {}),
    (EVIL.encode() + b"\r\n\r\n", 400, "bad_request", {}),
    (long_header(17_000), 431, "headers_too_large", {}),
    (b"GET /ws HTTP/1.1\r\nX-Long: " + b"x" * 17_000, 431, "headers_too_large", {}),
    (upgrade(headers=[(f"X-{n}", "x") for n in range(129)]), 431, "headers_too_large", {}),
]


@pytest.mark.parametrize("extra", [0, 200_000], ids=["", "more"])
@pytest.mark.parametrize(
    ("data", "status", "error", "headers"),
    MALFORMED,
    ids=[f"{error}-{n}" for n, (_, _, error, _) in enumerate(MALFORMED)],
)
def test_malformed(
    server: Process, data: bytes, status: int, error: str, headers: dict[str, str], extra: int
) -> None:
    before = server.stats()
    with server.connect() as raw:
        raw.send(data + bytes(extra))
        # What the server did not read must not become a reset over its answer.
        server.settle()
        response = raw.response()
        assert raw.end() == b""
    assert response.status == status
    assert response.headers["x-rejection-reason"] == error
    assert response.headers["connection"].lower().endswith("close")
    assert response.headers["content-type"] == "application/json"
    assert headers.items() <= response.headers.items()
    body = json.loads(response.body)
    assert set(body) - {"detail"} == {"error", "message", "retryAfter"}
    assert body["error"] == error
    assert body["message"]
    assert body.get("detail") or error == "not_found"
    assert EVIL not in f"{response}"
    after = server.stats()
    assert after["connections"]["current"] == 0
    assert after["connections"]["accepted"] == before["connections"]["accepted"]
    assert after["rejections"][error] == before["rejections"][error] + 1


def test_nothing_that_would_split_a_header_comes_back(server: Process) -> None:
    with server.connect() as raw:
        raw.send(upgrade(path="/ws%0d%0aX-Injected:%20yes?\x80\xff"))
        response = raw.response()
    assert "x-injected" not in response.headers


def test_tls_hello_is_refused_at_once(server: Process) -> None:
    context = ssl.create_default_context()
    started = time.monotonic()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.connect(tls=context)
    assert time.monotonic() - started < 2


def test_plain_requests(server: Process) -> None:
    for method, path, status in [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/ready", 200),
        ("POST", "/health", 405),
        ("GET", "/ws", 426),
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("POST", "/", 404),
        ("GET", "/elsewhere", 404),
        # What operators see is not for everybody.
        ("GET", "/stats", 404),
        ("GET", "/connections", 404),
        ("GET", "/metrics", 404),
    ]:
        with server.connect() as raw:
            raw.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            data = raw.end()
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), (method, path)
        if method == "HEAD":
            assert body == b""
        elif path == "/" and status == 200:
            assert body.startswith(b"<!doctype html>")
        else:
            assert isinstance(json.loads(body), dict)


def opened(server: Process, stack: ExitStack, source: str, *headers: tuple[str, str]) -> None:
    stack.enter_context(server.connect(source=source)).open(headers=headers)


def full_ip(server: Process, stack: ExitStack) -> Raw:
    for _ in range(3):
        opened(server, stack, "127.0.0.2")
    return server.connect(source="127.0.0.2")


def full_server(server: Process, stack: ExitStack) -> Raw:
    for number in range(8):
        opened(server, stack, f"127.0.0.{2 + number}")
    return server.connect(source="127.0.0.20")


REFUSED = {
    "server_limit": (503, 1013, 5, 8),
    "ip_limit": (429, 1013, 10, 3),
    "user_limit": (429, 1013, 10, 1),
    "tier_limit": (429, 1013, 10, 1),
    "unauthorized": (401, 4501, None, None),
    "origin": (403, 1008, None, None),
}


def refused(server: Process, stack: ExitStack, error: str) -> tuple[Raw, list[tuple[str, str]]]:
    """Fill the server so that the next attempt is refused; how that one connects, and says."""
    if error == "server_limit":
        return full_server(server, stack), []
    if error == "ip_limit":
        return full_ip(server, stack), []
    if error == "user_limit":
        opened(server, stack, "127.0.0.2", bearer("ann"))
        return server.connect(source="127.0.0.3"), [bearer("ann")]
    if error == "tier_limit":
        opened(server, stack, "127.0.0.2", bearer("ann", tier="gold"))
        return server.connect(source="127.0.0.3"), [bearer("bob", tier="gold")]
    if error == "unauthorized":
        return server.connect(), [("Authorization", "Bearer not.a.token")]
    return server.connect(), [("Origin", "https://evil.example")]


@pytest.mark.parametrize("extra", [b"", frame(TEXT, b"x" * 60_000) * 4], ids=["", "more"])
@pytest.mark.parametrize("error", REFUSED)
def test_refused_over_http(server: Process, error: str, extra: bytes) -> None:
    status, _, retry_after, limit = REFUSED[error]
    with ExitStack() as stack:
        raw, headers = refused(server, stack, error)
        stack.enter_context(raw)
        before = server.open()
        raw.send(upgrade(headers=headers) + extra)
        server.settle()
        response = raw.response()
        assert raw.end() == b""
        assert response.status == status
        assert response.headers["x-rejection-reason"] == error
        assert response.headers.get("retry-after") == (retry_after and str(retry_after))
        assert response.headers.get("x-ratelimit-limit") == (limit and str(limit))
        assert response.headers.get("x-ratelimit-remaining") == (limit and "0")
        assert ("www-authenticate" in response.headers) == (status == 401)
        body = json.loads(response.body)
        assert body.pop("message")
        assert body == {"error": error, "retryAfter": retry_after}
        assert server.open() == before
    server.wait_open(0)


@pytest.mark.parametrize("extra", [b"", frame(TEXT, b"x" * 60_000) * 4], ids=["", "more"])
@pytest.mark.parametrize("error", REFUSED)
def test_refused_in_band(server: Process, error: str, extra: bytes) -> None:
    _, code, retry_after, _ = REFUSED[error]
    with ExitStack() as stack:
        raw, headers = refused(server, stack, error)
        stack.enter_context(raw)
        before = server.open()
        raw.send(upgrade(headers=[*headers, NATIVE]) + extra)
        server.settle()
        response = raw.response()
        assert response.status == 101
        assert response.headers["sec-websocket-protocol"] == "tidegate.v1.json"
        close = raw.closed(code)
        assert raw.end() == b""
        assert len(close.payload) <= 125
        assert json.loads(close.reason) == {"error": error, "retryAfter": retry_after}
        assert server.open() == before
    server.wait_open(0)


def test_a_refused_peer_that_sends_on_and_reads_late_still_reads_it(server: Process) -> None:
    with ExitStack() as stack:
        raw = stack.enter_context(full_ip(server, stack))
        raw.send(upgrade())
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            raw.send(bytes(4096))
        assert raw.response().status == 429
