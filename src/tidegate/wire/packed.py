"""Messages of the native protocol in MessagePack: the same ones, in the same shape.

Within the server application data is JSON, whatever it came as, so that everything that reads it
knows one format. Data that came in MessagePack is kept beside it, and members who speak MessagePack
get that, byte for byte. What JSON has no word for is said in JSON as near as it goes: bytes as
base64, a time as text (RFC 3339), NaN and infinity as null, keys that are numbers as text.
"""

from __future__ import annotations

import json as stdjson
from typing import Any, Final

import msgspec
from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType, ValidationError
from msgspec.structs import replace

from tidegate.wire.codecs import MessageError, decode_client, describe, encode_server, read_id
from tidegate.wire.messages import (
    ClientMessage,
    MessageId,
    PackedToRoom,
    PackedToUser,
    RoomDelta,
    RoomMessage,
    SendToAll,
    SendToRoom,
    SendToUser,
    ServerMessage,
)

__all__ = ["MSGPACK_V1", "decode_packed", "encode_packed", "pack_data"]

MSGPACK_V1: Final = "tidegate.v1.msgpack"
"""The subprotocol of the native protocol in MessagePack; all its messages are binary."""

_MOST: Final = 2**64  # MessagePack has no larger integers


class _Envelope(Struct):
    type: Raw = Raw()
    id: Raw = Raw()


_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_decode = _decoder.decode
_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode
_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


def decode_packed(data: str | bytes) -> ClientMessage:
    """Read one message of a client.

    Raises `MessageError` for whatever else may come, as `decode_client` does; the code of what is
    no MessagePack is `invalid_msgpack`.
    """
    if isinstance(data, str):
        raise MessageError("invalid_msgpack", "Messages of this subprotocol are binary")
    try:
        message = _decode(data)
    except ValidationError as error:
        raise _explain(data, error) from None
    except (MsgspecError, UnicodeError, RecursionError):
        raise _malformed() from None
    if isinstance(message, SendToRoom):
        return PackedToRoom(message.room, _in_json(message), message.echo, message.id, message.data)
    if isinstance(message, SendToUser):
        return PackedToUser(message.user, _in_json(message), message.id, message.data)
    if isinstance(message, SendToAll):
        return replace(message, data=_in_json(message))
    return message


def encode_packed(message: ServerMessage, packed: Raw | None = None) -> bytes:
    """The MessagePack of a message.

    Args:
        message: with application data in JSON.
        packed: its `data` in MessagePack, where that is known; of a `RoomDelta`, its `delta`.
    """
    if packed is not None and isinstance(message, RoomMessage):
        return _pack(replace(message, data=packed))
    if packed is not None and isinstance(message, RoomDelta):
        return _pack(replace(message, delta=packed))
    text = encode_server(message)
    plain: Any
    try:
        plain = _from_json(text)
        if packed is not None:
            plain["data"] = packed
        return _pack(plain)
    except (MsgspecError, OverflowError):  # a number that is too large for it
        return _pack(_bounded(stdjson.loads(text)))


def pack_data(data: Raw, packed: Raw | None = None) -> bytes:
    """The MessagePack of application data in JSON, or `packed` where that is known."""
    if packed is not None:
        return bytes(packed)
    try:
        return _pack(_from_json(data))
    except (MsgspecError, OverflowError):
        return _pack(_bounded(stdjson.loads(bytes(data))))


def _in_json(message: SendToRoom | SendToUser | SendToAll) -> Raw:
    """The application data of a message as JSON."""
    try:
        return Raw(_to_json(_unpack(message.data)))
    except (MsgspecError, UnicodeError, TypeError, ValueError, RecursionError, OverflowError):
        raise MessageError(
            "invalid_field", "In the field `data`: it cannot be said in JSON", message.id
        ) from None


def _explain(data: bytes, error: ValidationError) -> MessageError:
    try:
        envelope = _decode_envelope(data)
        text = _to_json(_unpack(data))
    except ValidationError:
        return MessageError("invalid_msgpack", "The message is not a map")
    except (MsgspecError, UnicodeError, TypeError, ValueError, RecursionError, OverflowError):
        return _malformed()
    # The same message in JSON has the same mistake, which is explained there.
    try:
        decode_client(text)
    except MessageError as explained:
        return MessageError(explained.code, explained.message, _read_id(envelope.id))
    return MessageError("invalid_field", describe(error), _read_id(envelope.id))


def _malformed() -> MessageError:
    return MessageError("invalid_msgpack", "The message is not valid MessagePack")


def _read_id(raw: Raw) -> MessageId | UnsetType:
    """The id of a message that is wrong: read as that of one in JSON."""
    try:
        return read_id(Raw(_to_json(_unpack(raw)))) if raw else UNSET
    except (MsgspecError, UnicodeError, TypeError, ValueError, RecursionError, OverflowError):
        return UNSET


def _bounded(value: Any) -> Any:
    """A value with its integers beyond 64 bits as floats."""
    if isinstance(value, dict):
        return {key: _bounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bounded(inner) for inner in value]
    if isinstance(value, int) and not -_MOST // 2 <= value < _MOST:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value
