"""What is answered to an opening handshake, and that nothing can break out of its line."""

from __future__ import annotations

import pytest

from tidegate.errors import UsageError
from tidegate.wire.handshake import accept_response, http_response

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3


def test_accept_response() -> None:
    assert accept_response(KEY) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )
    lines = accept_response(KEY, "tidegate.v1.json", "permessage-deflate").split(b"\r\n")
    assert lines[-4:] == [
        b"Sec-WebSocket-Protocol: tidegate.v1.json",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("subprotocol", "extensions"),
    [("a\r\nB: c", None), ("", None), ("\xe9", None), (None, "a\r\nB: c"), (None, "\u20ac")],
)
def test_accept_response_cannot_be_split(subprotocol: str | None, extensions: str | None) -> None:
    with pytest.raises(UsageError):
        accept_response(KEY, subprotocol, extensions)


def test_http_response() -> None:
    answer = http_response(503, b"{}", [("Retry-After", "5"), ("X-Name", "caf\xe9")])
    assert answer == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 2\r\n"
        b"Connection: close\r\n"
        b"Retry-After: 5\r\n"
        b"X-Name: caf\xe9\r\n"
        b"\r\n"
        b"{}"
    )
    assert b"\r\nConnection: Upgrade, close\r\n" in http_response(426)
    assert b"\r\nContent-Length: 0\r\n" in http_response(404)
    assert b"\r\nContent-Type: text/plain\r\n" in http_response(200, b"ok", (), "text/plain")


@pytest.mark.parametrize(
    ("name", "value"),
    [("A\r\nB", "c"), ("", "c"), ("A", "c\r\nB: d"), ("A", "\n"), ("A", "\0"), ("A", "\u20ac")],
)
def test_http_response_cannot_be_split(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        http_response(200, headers=[(name, value)])


def test_http_response_needs_a_status() -> None:
    with pytest.raises(UsageError, match="799"):
        http_response(799)
