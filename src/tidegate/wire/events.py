"""Server-sent events: the messages of a connection as the body of one HTTP response.

The format is that of the HTML standard, section 9.2.6. Each message of the protocol is one event
without a name. Two events have names, for what a WebSocket says outside of its messages:

    opened   the key with which the client posts its own messages
    closed   code and reason, as in a close frame; the response ends behind it

The response has no length and is not chunked: it ends with its connection (RFC 9112 6.3). So what
many members get is the same bytes for all of them.
"""

from __future__ import annotations

from typing import Final

from msgspec import MsgspecError as _MsgspecError
from msgspec import Raw, json

from tidegate.wire.codecs import MessageError

__all__ = [
    "EVENTS_V1",
    "KEEPALIVE",
    "KEY_HEADER",
    "closed_event",
    "encode_event",
    "events_head",
    "opened_event",
    "split_posted",
]

EVENTS_V1: Final = "tidegate.v1.events"
"""What stands for a subprotocol on such a connection. No WebSocket can ask for it."""

KEY_HEADER: Final = "x-stream-key"
"""The header field in which a client that posts messages shows the key of its stream."""

KEEPALIVE: Final = b":\n\n"
"""A comment, which every client skips."""

# Some scanners and proxies pass nothing on before they have seen so much of a response.
_PADDING: Final = b":" + 2048 * b" " + b"\n\n"

# `no-transform` keeps proxies from compressing it, which would hold events back; the field of
# nginx keeps it from being collected there.
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Connection: close\r\n"
)

_encode = json.Encoder().encode
_decode = json.Decoder(Raw).decode
_decode_several = json.Decoder(list[Raw]).decode


def events_head(fields: bytes = b"") -> bytes:
    """Return the head of the response, with more header fields, and the padding behind it."""
    return _HEAD + fields + b"\r\n" + _PADDING


def encode_event(payload: bytes, id: str = "") -> bytes:  # noqa: A002
    """Return a message as an event. HOT.

    Args:
        payload: JSON; what it holds of a client may have line breaks between its parts.
        id: what the client shows as `Last-Event-ID` when it comes back; letters, digits, `.-_`.
    """
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(payload.splitlines())
    if id:
        return b"id: %b\ndata: %b\n\n" % (id.encode(), payload)
    return b"data: %b\n\n" % payload


def opened_event(key: str, retry: int) -> bytes:
    """Return the first event of a stream.

    Args:
        key: with which messages are posted.
        retry: milliseconds after which a browser comes back when the stream just ends.
    """
    return b"retry: %d\nevent: opened\ndata: %b\n\n" % (retry, _encode({"key": key}))


def closed_event(code: int, reason: str, retry: float | None = None) -> bytes:
    """Return the last event of a stream.

    Args:
        code: a close code of RFC 6455 7.4.
        reason: as in a close frame.
        retry: seconds after which the client may come back.
    """
    event = b"event: closed\ndata: %b\n\n" % _encode({"code": code, "reason": reason})
    return event if retry is None else b"retry: %d\n%b" % (round(retry * 1000), event)


def split_posted(body: bytes) -> list[str]:
    """Return the messages that a client has posted: one object, or a list of them.

    Each one is JSON; what it says is for the reader of messages to check.

    Raises:
        MessageError: the body is no JSON in UTF-8.
    """
    try:
        text = body.decode()
        if text.lstrip(" \t\r\n").startswith("["):
            return [bytes(message).decode() for message in _decode_several(text)]
        _decode(text)
    except (_MsgspecError, UnicodeError, RecursionError):
        raise MessageError("invalid_json", "The body is not valid JSON") from None
    return [text]
