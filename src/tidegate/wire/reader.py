"""The incremental parser of what one peer sends: RFC 6455, sections 5 to 7.

It turns the bytes of one connection into messages, however the network has cut them, and names the
reason when the peer breaks a rule.
"""

from __future__ import annotations

import codecs
from typing import Any, Final, Protocol

from tidegate.wire.controls import CLOSE, PONG, take_controls
from tidegate.wire.frames import (
    BINARY,
    CONT,
    TEXT,
    ProtocolError,
    apply_mask,
    close_content,
    text_of,
)

__all__ = ["HEAVY", "LIGHT_BYTES", "Inflater", "Inflating", "Reader"]

LIGHT_BYTES: Final = 65536
"""The largest message that a `Reader` returns as it comes; what is larger is `HEAVY` first."""

HEAVY: Final[tuple[int, Any]] = (-1, None)
"""Says that going on takes a while: a large message, or one in many fragments."""

_LIGHT_FRAGMENTS: Final = 64  # in one call
# Rows of the table of reasons, which has their codes.
_PROTOCOL_ERROR, _INVALID_DATA, _TOO_BIG = "protocol_error", "invalid_data", "message_too_big"
_MAX_CONTROL = 125
# The first bytes of the common case: a message in one frame, not compressed.
_WHOLE_TEXT, _WHOLE_BINARY = 0x80 | TEXT, 0x80 | BINARY
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Inflating(Protocol):
    """One compressed message that is being inflated."""

    @property
    def held(self) -> int:
        """How many bytes are kept for it."""

    def more(self, size: int, /) -> bytes | None:
        """Inflate until there are `size` bytes; the whole message when it has no more than that.

        Raises ProtocolError: the data is corrupt, or inflates too much.
        """


class _Plain:
    """A message that came as it is."""

    __slots__ = ("_message",)

    def __init__(self, message: bytes) -> None:
        self._message = message

    @property
    def held(self) -> int:
        return len(self._message)

    def more(self, size: int) -> bytes | None:
        return self._message if len(self._message) <= size else None


class Inflater(Protocol):
    """What was negotiated about compression, as far as reading goes: `deflate.Deflate` has it."""

    def begin(self, data: bytes, /) -> Inflating:
        """Begin to inflate the payload of one message, all its fragments joined."""


class Reader:
    """The incremental parser of one connection's incoming bytes.

    Give it bytes with `feed`, then call `next` until it returns None. After ProtocolError no
    method but `pending` and `idle` may be used. After a close message everything that follows
    is ignored, as RFC 6455, section 1.4, asks.

    `max_message` is the most payload bytes of one message, all fragments together and inflated;
    `max_fragments` the most frames of one. `deflate` is what was negotiated, and `masked` tells
    whether the peer is a client.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_buffer",
        "_checker",
        "_closed",
        "_compressed",
        "_deflate",
        "_final",
        "_fragments",
        "_inflating",
        "_left",
        "_mask",
        "_masked",
        "_max_fragments",
        "_max_message",
        "_message",
        "_opcode",
    )

    def __init__(
        self,
        max_message: int,
        max_fragments: int,
        deflate: Inflater | None = None,
        masked: bool = True,
    ) -> None:
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._deflate = deflate
        self._masked = masked
        self._buffer = bytearray()
        self._at = 0  # where the unread part of the buffer begins
        self._ahead = 0  # the frame that `controls` looks at next begins there, or further on
        self._closed = False
        # The message in progress: its opcode (0: none), what has come of it, and how it is checked.
        self._opcode = 0
        self._compressed = False
        self._message = bytearray()
        self._fragments = 0
        self._inflating: Inflating | None = None
        self._checker: codecs.IncrementalDecoder | None = None
        # Its frame in progress: payload bytes still to come (-1: no frame), mask, FIN.
        self._left = -1
        self._mask = b""
        self._final = False

    @property
    def pending(self) -> int:
        """How many bytes were fed and not yet read; the message in progress is not counted."""
        return len(self._buffer) - self._at

    @property
    def held(self) -> int:
        """How many bytes are kept: those that were fed, and the message in progress."""
        inflating = self._inflating
        size = len(self._buffer) + len(self._message)
        return size if inflating is None else size + inflating.held

    @property
    def idle(self) -> bool:
        """Whether nothing is held: no unread bytes and no message in progress."""
        return self._opcode == 0 and len(self._buffer) == self._at

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the network."""
        if self._closed:
            return
        if self._at:
            self._drop_read()
        self._buffer += data

    def _drop_read(self) -> None:
        del self._buffer[: self._at]
        self._ahead -= self._at
        self._at = 0

    def next(self, light: int = 1 << 63) -> tuple[int, Any] | None:
        """Return the next message or control frame as (opcode, content), or None.

        The content is a str for TEXT, bytes for BINARY, PING and PONG, and (code, reason) for
        CLOSE, where code 1005 means that the peer gave none. Where going on would make a message
        of more than `light` bytes, or takes many fragments, it is `HEAVY`: call again, with no
        bound on the size, when there is time.
        Raises ProtocolError once everything in front of the offence has been returned.
        """
        if self._inflating is not None:
            return self._inflate(light)
        for _ in range(_LIGHT_FRAGMENTS):
            if self._left >= 0:
                found = self._read_payload(light)
                if found is not None or self._left >= 0:
                    return found
                continue

            buffer = self._buffer
            at = self._at
            held = len(buffer) - at
            if held < 2:
                return None
            first = buffer[at]
            second = buffer[at + 1]
            masked = self._masked
            usual = (
                first in (_WHOLE_TEXT, _WHOLE_BINARY)
                and not self._opcode
                and (second >= 0x80) == masked
            )
            if not usual:
                self._check_head(first, second)
            size = second & 0x7F
            body = at + 2
            if size > _MAX_CONTROL:
                body += 2 if size == 126 else 8
                if len(buffer) < body:
                    return None
                size = self._long_size(size, int.from_bytes(buffer[at + 2 : body], "big"))
            control = first & 0x08
            if not control and (not usual or size > self._max_message):
                self._check_size(first, size)
            if masked:
                body += 4
            end = body + size

            if len(buffer) >= end and (usual or control):
                if size > light:
                    return HEAVY
                self._at = end
                if masked:
                    payload = apply_mask(buffer[body:end], buffer[body - 4 : body])
                else:
                    payload = bytes(buffer[body:end])
                if control:
                    return self._control(first & 0x0F, payload)
                return (TEXT, text_of(payload)) if first == _WHOLE_TEXT else (BINARY, payload)

            if control or len(buffer) < body:
                return None
            self._at = body
            self._begin_frame(first, size, bytes(buffer[body - 4 : body]) if masked else b"")
        return HEAVY

    def controls(self) -> list[tuple[int, Any]]:
        """Take the whole control frames out of the bytes that were fed, ahead of the messages.

        For a peer whose next message has to wait. Behind a close frame nothing is kept. What breaks
        a rule is left for `next` to find, but for the content of a close frame.
        """
        at = max(self._ahead, self._at + max(self._left, 0))
        found, self._ahead = take_controls(self._buffer, at, self._masked)
        items: list[tuple[int, Any]] = []
        for opcode, mask, data in found:
            payload = apply_mask(data, mask) if mask else data
            if opcode == CLOSE:
                self._closed = True
                items.append((CLOSE, close_content(payload)))
            else:
                items.append((opcode, payload))
        return items

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if (second >= 0x80) != self._masked:
            raise ProtocolError(
                _PROTOCOL_ERROR, "frame not masked" if self._masked else "frame masked"
            )
        if first & 0x70 and (first & 0x30 or self._deflate is None or opcode not in (TEXT, BINARY)):
            raise ProtocolError(_PROTOCOL_ERROR, "reserved bit set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise ProtocolError(_PROTOCOL_ERROR, "opcode not known")
            if first < 0x80:
                raise ProtocolError(_PROTOCOL_ERROR, "control frame fragmented")
            if second & 0x7F > _MAX_CONTROL:
                raise ProtocolError(_PROTOCOL_ERROR, "control frame too long")
        elif opcode > BINARY:
            raise ProtocolError(_PROTOCOL_ERROR, "opcode not known")
        elif opcode == CONT:
            if not self._opcode:
                raise ProtocolError(_PROTOCOL_ERROR, "nothing to continue")
        elif self._opcode:
            raise ProtocolError(_PROTOCOL_ERROR, "message begun within another")

    def _check_size(self, first: int, size: int) -> None:
        limit = self._max_message
        if first & 0x40 or self._compressed:
            # Data that does not compress grows a little; the limit itself is on what comes out.
            limit += (limit >> 4) + 64
        if len(self._message) + size > limit:
            raise ProtocolError(_TOO_BIG, "message too big")
        if self._fragments >= self._max_fragments:
            raise ProtocolError(_TOO_BIG, "message in too many fragments")

    def _long_size(self, kind: int, size: int) -> int:
        # RFC 6455, section 5.2: "the minimal number of bytes MUST be used", and the most
        # significant bit of a 64-bit length MUST be 0.
        if size < (126 if kind == 126 else 65536) or size >> 63:
            raise ProtocolError(_PROTOCOL_ERROR, "payload length not valid")
        return size

    def _begin_frame(self, first: int, size: int, mask: bytes) -> None:
        self._left = size
        self._mask = mask
        self._final = first >= 0x80
        self._fragments += 1
        opcode = first & 0x0F
        if opcode != CONT:
            self._opcode = opcode
            self._compressed = bool(first & 0x40)
            if opcode == TEXT and not self._compressed:
                self._checker = _Utf8Decoder()

    def _read_payload(self, light: int) -> tuple[int, Any] | None:
        """Take what has come of the frame in progress; return the message when it is whole."""
        buffer = self._buffer
        at = self._at
        piece: bytes | bytearray = buffer[at : at + self._left]
        size = len(piece)
        self._at = at + size
        self._left -= size
        mask = self._mask
        if mask:
            piece = apply_mask(piece, mask)
            turn = size & 3
            if turn:
                self._mask = mask[turn:] + mask[:turn]
        if self._checker is not None:
            try:
                self._checker.decode(piece)
            except UnicodeDecodeError:
                raise ProtocolError(_INVALID_DATA, "text is not UTF-8") from None
        self._message += piece
        if self._left:
            self._drop_read()  # the next bytes may be a while in coming
            return None
        self._left = -1
        return self._finish(light) if self._final else None

    def _finish(self, light: int) -> tuple[int, Any]:
        if self._compressed and self._deflate is not None:
            self._inflating = self._deflate.begin(bytes(self._message))
        else:
            self._inflating = _Plain(bytes(self._message))
        self._message = bytearray()
        return self._inflate(light)

    def _inflate(self, light: int) -> tuple[int, Any]:
        assert self._inflating is not None
        message = self._inflating.more(min(light, self._max_message))
        if message is not None:
            self._inflating = None
            return self._whole(message)
        if light >= self._max_message:
            raise ProtocolError(_TOO_BIG, "message too big")
        return HEAVY

    def _whole(self, message: bytes) -> tuple[int, Any]:
        opcode = self._opcode
        self._opcode = 0
        self._compressed = False
        self._fragments = 0
        self._checker = None
        return opcode, (text_of(message) if opcode == TEXT else message)

    def _control(self, opcode: int, payload: bytes) -> tuple[int, Any]:
        if opcode != CLOSE:
            return opcode, payload
        self._closed = True
        self._buffer.clear()
        self._at = 0
        self._opcode = 0
        return CLOSE, close_content(payload)
