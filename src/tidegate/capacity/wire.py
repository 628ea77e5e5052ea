"""The client side of a WebSocket in as few steps as possible: a generator must cost little."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator

__all__ = ["PING", "TEXT", "frames_of", "masked", "text_of", "upgrade"]

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


def upgrade(host: str, path: str, offered: tuple[str, ...], token: str | None) -> bytes:
    """Encode an opening handshake (RFC 6455 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    if offered:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(offered)}")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def masked(opcode: int, payload: bytes) -> bytes:
    """Encode a frame of a client. The mask is zero, which leaves the payload as it is.

    A real client's must be random (RFC 6455 5.3), against proxies that read along; here it would
    only cost time.
    """
    size = len(payload)
    if size < 126:
        head = bytes((opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((opcode, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((opcode, 0xFF)) + size.to_bytes(8)
    return head + b"\0\0\0\0" + payload


def text_of(**message: object) -> bytes:
    """Encode a message of the native protocol as a frame."""
    return masked(TEXT, json.dumps(message, separators=(",", ":")).encode())


def frames_of(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the complete frames of a server out of a buffer: first byte and payload of each."""
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            if len(buffer) < 4:
                return
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            if len(buffer) < 10:
                return
            size, start = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < start + size:
            return
        first, payload = buffer[0], bytes(buffer[start : start + size])
        del buffer[: start + size]
        yield first, payload
