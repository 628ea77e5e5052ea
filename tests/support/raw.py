"""A WebSocket client made of nothing but a socket, for what a good client never does.

It encodes and decodes frames by itself, so that no mistake is shared with the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.net import reset

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "KEY",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "Raw",
    "Response",
    "frame",
    "upgrade",
]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

_dice = random.Random(6455)  # the same names of tests in every process that collects them

Headers = Iterable[tuple[str, str]]


class Frame(NamedTuple):
    """One frame as it came."""

    opcode: int
    payload: bytes
    final: bool = True
    rsv: int = 0

    @property
    def code(self) -> int:
        """The code of a close frame."""
        return int.from_bytes(self.payload[:2])

    @property
    def reason(self) -> str:
        """The reason of a close frame."""
        return self.payload[2:].decode()


@dataclass
class Response:
    """An HTTP response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Encode one frame of a client."""
    head = bytes([final << 7 | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([masked << 7 | size])
    elif size < 65536:
        head += struct.pack("!BH", masked << 7 | 126, size)
    else:
        head += struct.pack("!BQ", masked << 7 | 127, size)
    if not masked:
        return head + payload
    mask = _dice.randbytes(4)
    repeated = (mask * (size // 4 + 1))[:size]
    covered = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
    return head + mask + covered


def upgrade(
    host: str = "127.0.0.1",
    path: str = "/ws",
    headers: Headers = (),
    *,
    replace: dict[str, str | None] | None = None,
    method: str = "GET",
    version: str = "HTTP/1.1",
) -> bytes:
    """Encode an opening handshake; `replace` changes standard headers, None leaves one out."""
    standard: dict[str, str | None] = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    standard.update(replace or {})
    lines = [f"{method} {path} {version}"]
    lines += [f"{name}: {value}" for name, value in standard.items() if value is not None]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Raw:
    """One connection; every read ends after `timeout` seconds at the latest.

    `port` is one of `host`, or the path of a Unix socket. `source` is the address to come from: all
    of 127.0.0.0/8 is this machine (on Linux).
    """

    def __init__(
        self,
        port: int | str,
        *,
        host: str = "127.0.0.1",
        source: str | None = None,
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        address: Any = port if isinstance(port, str) else (host, port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(socket.AF_UNIX if address == port else family)
        sock.settimeout(timeout)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        try:
            sock.connect(address)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        self.sock: Any = sock
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def send_frame(self, opcode: int, payload: bytes | str = b"", **options: Any) -> None:
        """Send one frame."""
        data = payload.encode() if isinstance(payload, str) else payload
        self.send(frame(opcode, data, **options))

    def send_until_stuck(self, block: bytes, most: int, patience: float = 0.3) -> int:
        """Send a block over and over until nothing is taken for a while; how much was sent."""
        sent, timeout = 0, self.sock.gettimeout()
        self.sock.settimeout(patience)
        try:
            while sent < most:
                sent += self.sock.send(block[sent % len(block) :])
        except TimeoutError:
            pass
        finally:
            self.sock.settimeout(timeout)
        return sent

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.send_frame(CLOSE, struct.pack("!H", code) + reason.encode())

    def ask(self, *args: Any, **options: Any) -> Response:
        """Send an opening handshake and read what comes back; a refusal with its body."""
        self.send(upgrade(*args, **options))
        return self.response()

    def open(self, *args: Any, **options: Any) -> Raw:
        """Open the WebSocket, or fail."""
        response = self.ask(*args, **options)
        assert response.status == 101, response
        digest = hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert response.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        return self

    def response(self) -> Response:
        """Read one HTTP response; the body as long as it says."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        response = Response(int(status), headers)
        if response.status not in (100, 101, 204):
            response.body = self.exactly(int(headers["content-length"]))
        return response

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        parts, have = [self._buffer], len(self._buffer)
        while have < size:
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            have += len(self._buffer)
        data = b"".join(parts)
        self._buffer = data[size:]
        return data[:size]

    def frame(self) -> Frame:
        """Read one frame, of a server: unmasked."""
        first, second = self.exactly(2)
        assert not second & 128, "a server must not mask"
        size = second & 127
        if size == 126:
            size = int.from_bytes(self.exactly(2))
        elif size == 127:
            size = int.from_bytes(self.exactly(8))
        return Frame(first & 15, self.exactly(size), bool(first & 128), first >> 4 & 7)

    def message(self) -> str | bytes:
        """Read frames until a message came, which must be in one frame; pings are answered."""
        while True:
            got = self.frame()
            if got.opcode == PING:
                self.send_frame(PONG, got.payload)
            elif got.opcode != PONG:
                break
        assert got.opcode in (TEXT, BINARY), got
        assert got.final
        assert got.rsv == 0
        return got.payload.decode() if got.opcode == TEXT else got.payload

    def closed(self, code: int | None = None) -> Frame:
        """Read up to the close frame, which must have this code."""
        got = self.frame()
        while got.opcode != CLOSE:
            got = self.frame()
        assert code is None or got.code == code, got
        return got

    def end(self) -> bytes:
        """Read to the end of the stream and return what came; a reset raises."""
        parts = [self._buffer]
        while data := self.sock.recv(65536):
            parts.append(data)
        self._buffer = b""
        return b"".join(parts)

    def gone(self) -> bool:
        """Read until the server has ended the connection, in whatever way."""
        try:
            self.end()
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def half_close(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with RST."""
        reset(self.sock)

    def close(self) -> None:
        """Leave with FIN."""
        self.sock.close()

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError(f"the stream ended after {self._buffer[:200]!r}")
        self._buffer += data
