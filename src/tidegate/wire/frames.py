"""WebSocket frames: RFC 6455, sections 5 to 7.

`encode` and its kin write whole frames; `reader` turns the bytes of one connection into messages.
"""

from __future__ import annotations

from struct import Struct

from tidegate.errors import PeerError, UsageError
from tidegate.wire.controls import CLOSE, PING, PONG

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which websockets ships no compiled wheel

    def apply_mask(data: bytes | bytearray | memoryview[int], mask: bytes | bytearray) -> bytes:
        """Return `data` with every byte XORed with the mask, which repeats."""
        size = len(data)
        key = (bytes(mask) * (size // 4 + 1))[:size]
        both = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
        return both.to_bytes(size, "little")


__all__ = [
    "BINARY",
    "BINARY_HEADS",
    "CLOSE",
    "CONT",
    "PING",
    "PONG",
    "TEXT",
    "TEXT_HEADS",
    "ProtocolError",
    "apply_mask",
    "close_content",
    "encode",
    "encode_close",
    "encode_masked",
    "text_of",
]

CONT, TEXT, BINARY = 0, 1, 2

_NO_STATUS = 1005
# Rows of the table of reasons, which has their codes.
_PROTOCOL_ERROR, _INVALID_DATA, _TOO_BIG = "protocol_error", "invalid_data", "message_too_big"
_MAX_CONTROL = 125
# The first bytes of the common case: a message in one frame, not compressed.
_WHOLE_TEXT, _WHOLE_BINARY = 0x80 | TEXT, 0x80 | BINARY

_HEAD_16 = Struct("!BBH")
_HEAD_64 = Struct("!BBQ")
# The heads of small messages, by length: most frames that a server sends have one of these.
TEXT_HEADS = [bytes((_WHOLE_TEXT, size)) for size in range(126)]
BINARY_HEADS = [bytes((_WHOLE_BINARY, size)) for size in range(126)]


class ProtocolError(PeerError):
    """The peer broke the protocol: close for this `reason`, and read no more.

    `reason` names a row of the table of reasons: `protocol_error`, `invalid_data` or
    `message_too_big`. `message` says what exactly is wrong.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def encode(opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
    """Return one final, unmasked frame, as a server sends it."""
    first = 0xC0 | opcode if rsv1 else 0x80 | opcode
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _HEAD_16.pack(first, 126, size) + payload
    return _HEAD_64.pack(first, 127, size) + payload


def encode_masked(opcode: int, payload: bytes, mask: bytes, rsv1: bool = False) -> bytes:
    """Return one final frame masked with the four bytes of `mask`, as a client sends it."""
    frame = encode(opcode, payload, rsv1)
    head = bytearray(frame[: len(frame) - len(payload)])
    head[1] |= 0x80
    return b"".join((head, mask, apply_mask(payload, mask)))


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a whole close frame; the reason is cut to the 123 bytes that fit.

    Code 1005 stands for a frame without a code. Raises UsageError for a code that RFC 6455,
    section 7.4, forbids on the wire.
    """
    if code == _NO_STATUS:
        return encode(CLOSE, b"")
    if not _sendable(code):
        raise UsageError(f"{code} is not a close code that may be sent")
    text = reason.encode("utf-8", "replace")[: _MAX_CONTROL - 2]
    if len(text) == _MAX_CONTROL - 2:
        text = text.decode("utf-8", "ignore").encode()
    return encode(CLOSE, code.to_bytes(2, "big") + text)


def _sendable(code: int) -> bool:
    # RFC 6455, section 7.4, and the IANA registry: 1012 to 1014 were added later.
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def close_content(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame. Raises ProtocolError when they are not valid."""
    if not payload:
        return _NO_STATUS, ""
    # Section 5.5.1 asks for two bytes; one alone is below every code that may be sent.
    code = int.from_bytes(payload[:2], "big")
    if not _sendable(code):
        raise ProtocolError(_PROTOCOL_ERROR, "close code not valid")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(_INVALID_DATA, "close reason is not UTF-8") from None


def text_of(payload: bytes) -> str:
    """Return the text of a message. Raises ProtocolError when it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(_INVALID_DATA, "text is not UTF-8") from None
