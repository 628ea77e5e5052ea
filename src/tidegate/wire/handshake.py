"""The opening handshake of RFC 6455, section 4, from the server's side.

httptools parses the request head. This module decides whether the head asks for a WebSocket,
and writes the answers. One connection carries one request, so bytes after the head are either
the first frames or of no use.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

from httptools import (
    HttpParserError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    parse_url,
)

from tidegate.errors import PeerError, UsageError

__all__ = [
    "MAX_HEADERS",
    "MAX_HEAD_BYTES",
    "HandshakeError",
    "Request",
    "Upgrade",
    "accept_response",
    "asks_to_close",
    "body_length",
    "check_upgrade",
    "head_end",
    "http_response",
    "is_upgrade",
    "parse_request",
]

MAX_HEAD_BYTES = 16384
"""The longest request head, in bytes: request line, header fields and the empty line."""

MAX_HEADERS = 128
"""The most header fields in one request."""

_LENGTH_DIGITS = 15
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]+")  # RFC 3986, section 3.2, no userinfo
# 16 bytes leave the last of 22 digits with two bits of data, so four values are canonical.
_VERSION = re.compile(rb" HTTP/1\.[0-9]")
_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_FIRST_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\r")
_SINGLETONS = frozenset(
    (
        "authorization",
        "content-length",
        "host",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
    )
)
_USUAL_CONNECTION = frozenset(("Upgrade", "upgrade", "keep-alive, Upgrade"))
# RFC 9110, section 15.5.22: a 426 names the protocol to upgrade to.
_UPGRADE_HEADERS = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


class HandshakeError(PeerError):
    """The request is not a valid opening handshake: refuse it and close.

    `reason` names a row of the table of reasons, which has the status; `message` is a sentence
    that holds nothing the peer sent, and `headers` are the header fields that the answer must
    carry.
    """

    def __init__(
        self, reason: str, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.headers = headers


@dataclass(slots=True)
class Request:
    """One parsed request head.

    `path` and `query` are as sent, still percent-encoded. `headers` has lower-case names and
    Latin-1 values; fields that came more than once are joined with ", ", cookies with "; ". `rest`
    holds the bytes that followed the head. `fields` are the header fields as they came, in their
    order. `minor` is the minor version of HTTP/1; a request of HTTP/1.0 may have no Host, which is
    empty then. `peer` is the address and port that it came from, where somebody wants to know.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    rest: bytes
    fields: Sequence[tuple[bytes, bytes]] = field(default=(), compare=False)
    minor: int = 1
    peer: tuple[str, int] = ("", 0)


class Upgrade(NamedTuple):
    """What a valid opening handshake asks for."""

    key: str
    subprotocols: tuple[str, ...]
    extensions: str
    origin: str | None


class _Head:
    """Collects what httptools reports while it parses."""

    __slots__ = ("fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def _bad_request(message: str) -> HandshakeError:
    return HandshakeError("bad_request", message)


def head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return the index just past the request head in `buffer`, or -1 while it is incomplete.

    `start` is where the search begins: three bytes before the new bytes is enough.
    Raises HandshakeError: 400 when the first byte cannot begin an HTTP request (a TLS hello,
    say), 431 when the head is longer than MAX_HEAD_BYTES.
    """
    if buffer and buffer[0] not in _FIRST_BYTES:
        raise _bad_request("this is not an HTTP request")
    # No head ends within two bytes; the empty lines that RFC 9112, section 2.2, has a server
    # skip in front of a request do.
    found = buffer.find(b"\r\n\r\n", start if start > 2 else 2)
    if found > MAX_HEAD_BYTES - 4 or (found < 0 and len(buffer) >= MAX_HEAD_BYTES):
        raise HandshakeError(
            "headers_too_large", f"the request head is over {MAX_HEAD_BYTES} bytes"
        )
    return found + 4 if found >= 0 else -1


def parse_request(data: bytes, *, body: bool = False) -> Request | None:
    """Parse the request head at the start of `data`; None while it is incomplete.

    With `body`, one may follow whose length is given; `body_length` reads that.

    Raises HandshakeError: 400 for anything malformed, for a request with a body and for a
    missing, repeated or invalid Host; 431 over MAX_HEAD_BYTES or MAX_HEADERS; 505 for any
    major version but 1 (RFC 9110, section 15.6.6). Every minor version is understood (2.5).
    """
    end = head_end(data)
    if end < 0:
        return None
    # Two empty lines may come first, hence the 4. httptools takes RTSP and ICE for HTTP.
    version_end = data.find(b"\r\n", 4)
    version = data[version_end - 9 : version_end]
    minor = 1
    text = data[:end]
    if version != b" HTTP/1.1":
        if _VERSION.fullmatch(version) is None:
            raise _wrong_version(version)
        minor = version[8] - 48
        if minor > 1:  # httptools knows 0 and 1 only; the others are read as 1.1 (RFC 9112, 2.3)
            text = data[: version_end - 1] + b"1" + data[version_end:end]
    head = _Head()
    parser = HttpRequestParser(head)
    try:
        parser.feed_data(text)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        raise _bad_request("the request is malformed") from None
    target = head.target
    if not target:
        raise _bad_request("the request is malformed")

    fields = head.fields
    if len(fields) > MAX_HEADERS:
        raise HandshakeError("headers_too_large", f"over {MAX_HEADERS} header fields")
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1").rstrip(" \t")
        if name in headers:
            if name in _SINGLETONS:
                raise _bad_request(f"the header field {name} came twice")
            # RFC 6265, section 4.2.1: a list of cookies has semicolons.
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value

    if "transfer-encoding" in headers or headers.get("content-length", "0").strip("0"):
        if not body:
            raise _bad_request("a request with a body is not accepted")
        body_length(headers)
    if minor == 0 and not headers.get("host"):
        headers["host"] = ""  # RFC 9112, section 3.2, asks it of HTTP/1.1 only
    elif _HOST.fullmatch(headers.get("host", "")) is None:
        raise _bad_request("the Host header is missing or not valid")
    method = parser.get_method().decode("latin-1")
    # RFC 9112, section 3.2.4: "*" asks about the server itself, and only OPTIONS may.
    if target[0] != 47 and (target != b"*" or method != "OPTIONS"):  # 47 is "/"
        target, headers["host"] = _absolute_form(target)
    if b"#" in target:
        raise _bad_request("the request target is not valid")
    path, _, query = target.decode("latin-1").partition("?")
    return Request(method, path, query, headers, data[end:], fields, minor)


def body_length(headers: Mapping[str, str]) -> int:
    """Return how many bytes of a body follow a request head with these fields.

    Raises HandshakeError: 400 where the length is not given by one Content-Length.
    """
    length = headers.get("content-length", "0")
    digits = length.isascii() and length.isdigit() and len(length) <= _LENGTH_DIGITS
    if "transfer-encoding" in headers or not digits:
        raise _bad_request("the body must have its length in Content-Length")
    return int(length)


def _wrong_version(version: bytes) -> HandshakeError:
    if version.startswith(b" HTTP/") or version.endswith(b" HTTP"):
        return HandshakeError("http_version", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return _bad_request("this is not an HTTP request")


def _absolute_form(target: bytes) -> tuple[bytes, str]:
    """Return the origin form of an absolute target, and the host that stands in for Host.

    RFC 9112, section 3.2.2: a server must accept the absolute form, and its authority wins.
    """
    try:
        url = parse_url(target)
    except HttpParserInvalidURLError:
        raise _bad_request("the request target is not valid") from None
    if url.schema is None or url.schema.lower() not in (b"http", b"https", b"ws", b"wss"):
        raise _bad_request("the request target is not valid")
    remainder = target.partition(b"://")[2]
    authority = re.split(rb"[/?#]", remainder, maxsplit=1)[0]
    host = authority.decode("latin-1")
    if _HOST.fullmatch(host) is None:
        raise _bad_request("the request target is not valid")
    origin_form = remainder[len(authority) :]
    return (origin_form if origin_form.startswith(b"/") else b"/" + origin_form), host


def _names(value: str, token: str) -> bool:
    """Tell whether the comma-separated `value` has the lower-case `token`, in any case."""
    return any(part.strip(" \t") == token for part in value.lower().split(","))


def is_upgrade(request: Request) -> bool:
    """Tell whether the request has an Upgrade header that names websocket."""
    return _names(request.headers.get("upgrade", ""), "websocket")


def asks_to_close(request: Request) -> bool:
    """Tell whether the request is the last one on its connection (RFC 9112, section 9.6)."""
    return _names(request.headers.get("connection", ""), "close")


def check_upgrade(request: Request) -> Upgrade:
    """Check everything that RFC 6455, section 4.2.1, asks of an opening handshake.

    The Origin is returned and not judged: that is `core.origins`.
    Raises HandshakeError: 405 for a method other than GET; 426 for a request that asks for no
    WebSocket or for another version of it; 400 for a bad key or bad subprotocols.
    """
    if request.method != "GET":
        raise HandshakeError(
            "method_not_allowed", "a WebSocket opens with GET", (("Allow", "GET"),)
        )
    headers = request.headers
    get = headers.get
    upgrade = get("upgrade", "")
    if upgrade != "websocket" and not _names(upgrade, "websocket"):
        raise _upgrade_required("this address speaks WebSocket")
    connection = get("connection", "")
    if connection not in _USUAL_CONNECTION and not _names(connection, "upgrade"):
        raise _upgrade_required("the Connection header must name Upgrade")
    if request.minor == 0:  # RFC 6455, section 4.2.1
        raise _upgrade_required("a WebSocket needs HTTP/1.1, and this request is HTTP/1.0")
    if get("sec-websocket-version") != "13":
        raise _upgrade_required("only WebSocket version 13 is spoken here")
    key = get("sec-websocket-key", "")
    if _KEY.fullmatch(key) is None:
        raise _bad_request("Sec-WebSocket-Key must be 16 bytes in base64")
    offered = get("sec-websocket-protocol")
    return Upgrade(
        key,
        () if offered is None else _subprotocols(offered),
        get("sec-websocket-extensions", ""),
        get("origin"),
    )


def _upgrade_required(message: str) -> HandshakeError:
    return HandshakeError("upgrade_required", message, _UPGRADE_HEADERS)


def _subprotocols(offered: str) -> tuple[str, ...]:
    # RFC 9110, section 5.6.1.2: empty elements of a list are skipped.
    names = tuple(name for part in offered.split(",") if (name := part.strip(" \t")))
    if not names or len(set(names)) != len(names) or not all(map(_TOKEN.fullmatch, names)):
        raise _bad_request("Sec-WebSocket-Protocol must be a list of different tokens")
    return names


def accept_response(
    key: str,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return the 101 response (RFC 6455, section 4.2.2) to a handshake with this `key`.

    Raises UsageError when the subprotocol, the extensions or a header cannot stand in a header.
    """
    digest = sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + b2a_base64(digest, newline=False)
    )
    if subprotocol is not None:
        if _TOKEN.fullmatch(subprotocol) is None:
            raise UsageError("the subprotocol is not a token")
        head += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("latin-1")
    if extensions is not None:
        if _FIELD_VALUE.fullmatch(extensions) is None:
            raise UsageError("the extensions cannot stand in a header")
        head += b"\r\nSec-WebSocket-Extensions: " + extensions.encode("latin-1")
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None or _FIELD_VALUE.fullmatch(value) is None:
            raise UsageError(f"header {name!r} has a name or value that HTTP does not allow")
        head += f"\r\n{name}: {value}".encode("latin-1")
    return head + b"\r\n\r\n"


def http_response(
    status: int,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
    content_type: str = "application/json",
) -> bytes:
    """Return a whole HTTP response that ends the connection.

    Raises UsageError for a status that HTTP does not define, and for a header name or value
    that would break out of its line or is not Latin-1. Raises TypeError for a body that is not
    bytes, and for a header that is not a pair of str.
    """
    if not isinstance(body, bytes):
        raise TypeError(f"body must be bytes, not {type(body).__name__}")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        raise UsageError(f"{status} is not an HTTP status") from None
    # RFC 9110, section 7.8: a sender of Upgrade also names it in Connection.
    connection = "Upgrade, close" if status == HTTPStatus.UPGRADE_REQUIRED else "close"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    for name, value in (
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Connection", connection),
        *headers,
    ):
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"header {name!r} must have a name and a value of type str")
        if _TOKEN.fullmatch(name) is None or _FIELD_VALUE.fullmatch(value) is None:
            raise UsageError(f"header {name!r} has a name or value that HTTP does not allow")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body
