"""permessage-deflate (RFC 7692): negotiating it, and compressing and inflating messages.

zlib cannot write a raw stream with a window of 256 bytes (8 bits): it refuses, and old versions
quietly used 9 bits, which a peer with an 8-bit window could not read. An offer that demands
`server_max_window_bits=8` is therefore declined. Reading such a stream is no trouble.
"""

from __future__ import annotations

import re
import zlib
from functools import cache

from tidegate.wire.frames import ProtocolError

__all__ = ["RATIO_FROM", "Deflate", "Inflation", "negotiate"]

RATIO_FROM = 65536
"""The size in bytes up to which a message may inflate whatever its ratio is."""

_NAME = "permessage-deflate"
_MAX_BITS = 15
_MIN_BITS = 9  # the least that zlib can write
# The loop waits while a message is compressed, and the slower levels gain little on messages.
_LEVEL = 1

_TAIL = b"\x00\x00\xff\xff"  # what a flush ends with, and a message leaves out
_END = b"\x01" + _TAIL  # an empty block that ends the stream

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"({_WORD})"))?')
_OFFER = re.compile(rf"[ \t]*({_WORD})((?:{_PARAMETER.pattern})*)[ \t]*(?:,|$)")
_EMPTY = re.compile(r"[ \t]*(?:,|$)")  # RFC 9110, section 5.6.1.2
_BITS = re.compile(r"[89]|1[0-5]")


class Deflate:
    """Compresses what this side sends and inflates what the peer sends.

    With context takeover an object belongs to one connection. Without it, in both directions,
    it keeps nothing between messages and may serve any number of connections and threads.
    The windows are in bits, 9 to 15 for sending and 8 to 15 for receiving. A message over
    RATIO_FROM bytes may be `max_ratio` times as large as its compressed form.
    """

    __slots__ = ("_compressor", "_inflater", "_receive_bits", "_send_bits", "max_ratio")

    def __init__(
        self,
        send_bits: int,
        receive_bits: int,
        send_takeover: bool,
        receive_takeover: bool,
        max_ratio: int,
    ) -> None:
        self.max_ratio = max_ratio
        self._send_bits = send_bits
        self._receive_bits = receive_bits
        self._compressor = self._new_compressor() if send_takeover else None
        self._inflater = zlib.decompressobj(-receive_bits) if receive_takeover else None

    def _new_compressor(self) -> zlib._Compress:
        # Memory level bits - 7 makes zlib's hash table as large as its window, and so keeps the
        # whole compressor in proportion to the window.
        bits = self._send_bits
        return zlib.compressobj(_LEVEL, zlib.DEFLATED, -bits, bits - 7)

    def compress(self, payload: bytes) -> bytes:
        """Return the compressed payload of one message, for a frame with RSV1 set."""
        compressor = self._compressor or self._new_compressor()
        data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)]

    def begin(self, data: bytes) -> Inflation:
        """Begin to inflate the payload of one message, all its fragments joined."""
        return Inflation(self, data)

    def decompress(self, data: bytes, max_size: int) -> bytes:
        """Return the inflated payload of one message, all its fragments joined.

        Never makes more than `max_size` + 1 bytes. Raises ProtocolError: message_too_big when
        the payload is larger than `max_size` bytes, invalid_data when the data is corrupt.
        """
        payload = Inflation(self, data).more(max_size)
        if payload is None:
            raise ProtocolError("message_too_big", "message too big")
        return payload


class Inflation:
    """One message that is being inflated, as far as somebody has asked for it."""

    __slots__ = ("_deflate", "_inflater", "_made", "_most", "_rest")

    def __init__(self, deflate: Deflate, data: bytes) -> None:
        kept = deflate._inflater
        self._deflate = deflate
        self._inflater = zlib.decompressobj(-deflate._receive_bits) if kept is None else kept
        self._made = b""
        self._rest = data + _TAIL
        self._most = max(RATIO_FROM, len(data) * deflate.max_ratio)

    @property
    def held(self) -> int:
        """How many bytes are kept for it."""
        return len(self._made) + len(self._rest)

    def more(self, size: int) -> bytes | None:
        """Inflate until there are `size` bytes; the whole message when it has no more than that.

        Never makes more than `size` + 1 bytes. Raises ProtocolError: invalid_data when the data is
        corrupt, compression_ratio when it inflates to more than its size allows.
        """
        inflater = self._inflater
        room = size + 1 - len(self._made)
        try:
            if room > 0:
                self._made += inflater.decompress(self._rest, min(room, self._most + 1))
                self._rest = inflater.unconsumed_tail
            if len(self._made) > self._most:
                raise ProtocolError("compression_ratio", "the message inflates too much")
            if len(self._made) > size:
                return None
            whole = self._ends_well()
        except zlib.error:
            whole = False
        if not whole:
            raise ProtocolError("invalid_data", "compressed data is corrupt")
        return self._made

    def _ends_well(self) -> bool:
        """Whether all of the data was used, and the stream can go on, or is over."""
        inflater, deflate = self._inflater, self._deflate
        kept = deflate._inflater is not None
        if inflater.eof:
            # RFC 7692, section 7.2.3.4: a peer may end its stream, then adds an empty block.
            if kept:
                deflate._inflater = zlib.decompressobj(-deflate._receive_bits)
            return inflater.unused_data in (b"", b"\x00" + _TAIL)
        # Only a stream that is dropped anyway can be ended to see if it was cut short.
        return kept or (inflater.decompress(_END) == b"" and inflater.eof)


@cache
def _shared(send_bits: int, max_ratio: int) -> Deflate:
    return Deflate(send_bits, _MAX_BITS, False, False, max_ratio)


def negotiate(
    offers: str, *, context_takeover: bool, window_bits: int, max_ratio: int
) -> tuple[str, Deflate] | None:
    """Accept the first acceptable offer in a Sec-WebSocket-Extensions header.

    `context_takeover` allows keeping the window between messages, in either direction, and
    `window_bits` (9 to 15) bounds both windows; `max_ratio` is that of `Deflate`. Returns the value
    for the response header and what compresses; None when nothing acceptable is offered or the
    header is malformed.
    """
    for parameters in _parse(offers):
        accepted = _accept(parameters, context_takeover, window_bits, max_ratio)
        if accepted is not None:
            return accepted
    return None


def _parse(offers: str) -> list[list[tuple[str, str | None]]]:
    """Return the parameters of each permessage-deflate offer; nothing if malformed."""
    found = []
    at = 0
    while at < len(offers):
        match = _OFFER.match(offers, at) or _EMPTY.match(offers, at)
        if match is None:
            return []
        at = match.end()
        if match.re is _OFFER and match[1] == _NAME:
            found.append(
                [
                    (parameter[1], parameter[2] or parameter[3])
                    for parameter in _PARAMETER.finditer(match[2])
                ]
            )
    return found


def _accept(
    parameters: list[tuple[str, str | None]],
    context_takeover: bool,
    window_bits: int,
    max_ratio: int,
) -> tuple[str, Deflate] | None:
    offer = dict(parameters)
    if len(offer) != len(parameters):
        return None  # RFC 7692, section 7.1: a parameter that comes twice
    for name, value in parameters:
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            valid = value is None
        elif name == "server_max_window_bits":
            valid = value is not None and _BITS.fullmatch(value) is not None
        elif name == "client_max_window_bits":
            valid = value is None or _BITS.fullmatch(value) is not None
        else:
            valid = False
        if not valid:
            return None

    response = [_NAME]
    send_takeover = context_takeover and "server_no_context_takeover" not in offer
    if not send_takeover:
        response.append("server_no_context_takeover")
    receive_takeover = context_takeover and "client_no_context_takeover" not in offer
    if not receive_takeover:
        response.append("client_no_context_takeover")

    send_bits = window_bits
    if demanded := offer.get("server_max_window_bits"):
        send_bits = min(window_bits, int(demanded))
        if send_bits < _MIN_BITS:
            return None
        response.append(f"server_max_window_bits={send_bits}")
    # RFC 7692, section 7.1.2.2: the client's window may only be bounded if it offered that.
    receive_bits = _MAX_BITS
    if "client_max_window_bits" in offer:
        receive_bits = min(window_bits, int(offer["client_max_window_bits"] or _MAX_BITS))
        response.append(f"client_max_window_bits={receive_bits}")

    if send_takeover or receive_takeover:
        deflate = Deflate(send_bits, receive_bits, send_takeover, receive_takeover, max_ratio)
    else:
        deflate = _shared(send_bits, max_ratio)
    return "; ".join(response), deflate
