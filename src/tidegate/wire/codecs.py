"""Messages of the native protocol to bytes and back."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, DecodeError, MsgspecError, Raw, Struct, UnsetType, ValidationError
from msgspec import json as _json

from tidegate.errors import PeerError
from tidegate.wire.messages import ClientMessage, MessageId, ServerMessage

__all__ = [
    "JSON_V1",
    "NEUTRAL_V1",
    "NOT_EXACT",
    "SESSION_PREFIX",
    "TOKEN_PREFIX",
    "MessageError",
    "decode_client",
    "describe",
    "encode_server",
    "read_id",
]

JSON_V1: Final = "tidegate.v1.json"
"""The subprotocol of the native protocol in JSON."""

NEUTRAL_V1: Final = "tidegate.v1"
"""The subprotocol that says nothing of the messages. Every server of ours agrees to it.

A browser fails a connection if it offers subprotocols, such as its token, and the server agrees to
none of them (WHATWG WebSockets 2, RFC 6455 4.1). So a page offers this one beside its token.
"""

TOKEN_PREFIX: Final = "tidegate.token."  # noqa: S105 - a name, not a secret
"""A browser cannot set headers, so it offers its token as a subprotocol with this prefix."""


SESSION_PREFIX: Final = "tidegate.session."
"""The session that a client wants to resume comes in the same way."""


NOT_EXACT: Final = 2**53
"""JavaScript holds integers below it exactly."""


class MessageError(PeerError):
    """A client's message cannot be understood. Answer it with an `error` and carry on.

    `code` is `unknown_type`, `invalid_field`, or `invalid_json` for what is no JSON; other formats
    have their own. `message` says what is wrong without repeating anything that the peer sent. `id`
    is the message's own, where readable.
    """

    def __init__(self, code: str, message: str, id: MessageId | UnsetType = UNSET) -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id


class _Envelope(Struct):
    # Both as raw text, so that a wrong one does not hide the other.
    type: Raw = Raw()
    id: Raw = Raw()


_decoder: _json.Decoder[ClientMessage] = _json.Decoder(ClientMessage)
_id_decoder: _json.Decoder[MessageId] = _json.Decoder(MessageId)
_decode = _decoder.decode
_decode_envelope = _json.Decoder(_Envelope).decode
_decode_id = _id_decoder.decode
_decode_number = _json.Decoder(int | float).decode
_decode_type = _json.Decoder(str).decode
_encode = _json.Encoder().encode
_TYPES = frozenset(
    tag for member in ClientMessage.__args__ if isinstance(tag := member.__struct_config__.tag, str)
)


def decode_client(data: str | bytes) -> ClientMessage:
    """Read one message of a client. Bytes are taken for JSON in UTF-8.

    Raises `MessageError` for whatever else may come: malformed or too deeply nested JSON, half
    a surrogate pair, an unknown type, a field that is missing or out of its bounds.
    """
    try:
        # Decoded first, because application data is passed on without being looked into, and
        # bytes that are no UTF-8 must not get into a text frame (RFC 6455 section 8.1).
        return _decode(data if isinstance(data, str) else data.decode())
    except (MsgspecError, UnicodeError, RecursionError) as error:
        raise _explain(data, error) from None


def encode_server(message: ServerMessage) -> bytes:
    """The JSON text of a message, in UTF-8, without white space. HOT."""
    return _encode(message)


def _explain(data: str | bytes, error: Exception) -> MessageError:
    if not isinstance(error, ValidationError):
        return _malformed(error)
    # The decoder stops at the first wrong field, and its error says neither which message it
    # was nor whether the rest is JSON at all. Errors are rare, so look again.
    try:
        envelope = _decode_envelope(data)
    except ValidationError:
        return MessageError("invalid_json", "The message is not a JSON object")
    except (MsgspecError, RecursionError) as malformed:
        return _malformed(malformed)
    id_ = read_id(envelope.id)
    if not envelope.type:
        return MessageError("invalid_field", "The field `type` is missing", id_)
    try:
        type_ = _decode_type(envelope.type)
    except ValidationError:
        return MessageError("invalid_field", "The field `type` is not a string", id_)
    if type_ not in _TYPES:
        return MessageError("unknown_type", "There is no such type of message", id_)
    return MessageError("invalid_field", describe(error), id_)


def _malformed(error: Exception) -> MessageError:
    if isinstance(error, RecursionError):
        return MessageError("invalid_json", "The message is nested too deeply")
    if isinstance(error, DecodeError):
        # msgspec names the kind of mistake and its position, never the text around it.
        return MessageError("invalid_json", str(error))
    return MessageError("invalid_json", "The message is not valid UTF-8")


def describe(error: ValidationError) -> str:
    """Say what is wrong with a field, by its name."""
    text = str(error)
    if text.startswith("Invalid value"):
        # The only values that msgspec quotes: a second, different `type` in one object.
        return "The field `type` is there twice"
    text = text.replace("int | float", "int")  # a float that is a whole number
    problem, _, path = text.rpartition(" - at `$.")
    return f"In the field `{path[:-1]}`: {problem}" if problem else text


def read_id(raw: Raw) -> MessageId | UnsetType:
    """The id of a message that is wrong, where it can be told back."""
    if not raw:
        return UNSET
    try:
        id_ = _decode_id(raw)
    except MsgspecError:
        # A wrong one that is a number comes back too: its client knows what it numbered so.
        try:
            id_ = _decode_number(raw)
        except MsgspecError:
            return UNSET
        if abs(id_) >= NOT_EXACT:
            return UNSET
    return int(id_) if isinstance(id_, float) and id_.is_integer() else id_
