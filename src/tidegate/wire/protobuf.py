"""Messages of the native protocol in Protobuf: the same ones, by the schema of `wire.schema`.

Application data is JSON, as in the rest of the server: the field `data` is its text, which is
passed on untouched. Data that is no JSON goes in the field `binary`. It is a byte string for those
who speak MessagePack, and base64 for those who speak JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType, ValidationError

from tidegate.wire.codecs import NOT_EXACT, MessageError, describe
from tidegate.wire.messages import (
    MAX_ID,
    ClientMessage,
    MessageId,
    PackedToRoom,
    PackedToUser,
    SendToRoom,
    SendToUser,
    ServerMessage,
)
from tidegate.wire.schema import PACKAGE, Field, Kind, kinds

__all__ = [
    "ClientEnvelope",
    "ServerEnvelope",
    "decode_protobuf",
    "encode_protobuf",
    "file_descriptor",
]

_FILE: Final = "tidegate_v1.proto"
_SCALARS: Final = {"double": 1, "uint64": 4, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE: Final = 11
_ONE, _MANY = 1, 3  # a field's label

_read_data = msgspec.json.Decoder(Raw).decode
_to_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_PACKED_BYTES: Final = (0xC4, 0xC5, 0xC6)  # how a byte string begins in MessagePack


def file_descriptor() -> Any:
    """Return the schema as a `FileDescriptorProto`, as a compiler makes it of the `.proto` file."""
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    for kind in kinds().values():
        described = file.message_type.add(name=kind.name)
        groups = dict.fromkeys(field.group for field in kind.fields if field.group)
        # Those that a compiler makes for `optional` come last.
        groups |= dict.fromkeys(f"_{field.name}" for field in kind.fields if field.optional)
        for group in groups:
            described.oneof_decl.add(name=group)
        for field in kind.fields:
            _describe_field(described.field.add(), field, list(groups))
    return file


def _describe_field(described: Any, field: Field, groups: list[str]) -> None:
    described.name = field.name
    described.number = field.number
    described.label = _MANY if field.repeated else _ONE
    if field.type in _SCALARS:
        described.type = _SCALARS[field.type]
    else:
        described.type = _MESSAGE
        described.type_name = f".{PACKAGE}.{field.type}"
    if field.optional:
        described.proto3_optional = True
        described.oneof_index = groups.index(f"_{field.name}")
    elif field.group:
        described.oneof_index = groups.index(field.group)


# In a pool of its own: a process may have the compiled schema too, for a client.
_pool = descriptor_pool.DescriptorPool()
_pool.Add(file_descriptor())
_KINDS: Final = kinds()


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ClientEnvelope: Final = _class("ClientMessage")
"""The class of what clients send."""
ServerEnvelope: Final = _class("ServerMessage")
"""The class of what the server sends."""


# In.


class _Reading(NamedTuple):
    """How a message is read. Fields that are `plain` are always there, zero if nothing came."""

    struct: type[Struct]
    plain: tuple[str, ...]
    optional: tuple[str, ...]
    nested: Mapping[str, _Reading]
    has_data: bool


def _reading(kind: Kind) -> _Reading:
    assert kind.struct is not None
    fields = [field for field in kind.fields if not field.group]
    scalars = [field for field in fields if field.type in _SCALARS]
    return _Reading(
        kind.struct,
        tuple(field.name for field in scalars if not field.optional),
        tuple(field.name for field in scalars if field.optional),
        {field.name: _reading(_KINDS[field.type]) for field in fields if field not in scalars},
        any(field.group == "payload" for field in kind.fields),
    )


_READ: Final = {
    field.name: _reading(_KINDS[field.type])
    for field in _KINDS["ClientMessage"].fields
    if field.group == "message"
}


def decode_protobuf(data: str | bytes) -> ClientMessage:
    """Read one message of a client.

    Raises `MessageError` for whatever else may come, as `decode_client` does; the code of what is
    no Protobuf is `invalid_protobuf`. A field of another type than the schema's is an unknown one
    (as the specification of Protobuf has it), so what is told is that the known one is missing.
    """
    if isinstance(data, str):
        raise MessageError("invalid_protobuf", "Messages of this subprotocol are binary")
    try:
        envelope = ClientEnvelope.FromString(data)
    except DecodeError:
        raise MessageError("invalid_protobuf", "The message is not valid Protobuf") from None
    type_ = envelope.WhichOneof("message")
    if type_ is None:
        if len(UnknownFieldSet(envelope)):
            raise MessageError("unknown_type", "There is no such type of message", _id(envelope))
        raise MessageError("invalid_field", "The field `type` is missing", _id(envelope))
    reading = _READ[type_]
    body = getattr(envelope, type_)
    values = _values(body, reading)
    numbered = envelope.WhichOneof("message_id")
    if numbered is not None:
        values["id"] = getattr(envelope, numbered)
    packed = None
    try:
        if reading.has_data:
            values["data"], packed = _data(body)
        message: ClientMessage = msgspec.convert(values, cast(Any, reading.struct))
    except ValidationError as error:
        raise MessageError("invalid_field", describe(error), _id(envelope)) from None
    if packed is not None:
        if isinstance(message, SendToRoom):
            return PackedToRoom(message.room, message.data, message.echo, message.id, packed)
        if isinstance(message, SendToUser):
            return PackedToUser(message.user, message.data, message.id, packed)
    return message


def _values(body: Any, reading: _Reading) -> dict[str, Any]:
    values = {name: getattr(body, name) for name in reading.plain}
    for name in reading.optional:
        if body.HasField(name):
            values[name] = getattr(body, name)
    for name, inner in reading.nested.items():
        if body.HasField(name):
            values[name] = _values(getattr(body, name), inner)
    return values


def _data(body: Any) -> tuple[Raw, Raw | None]:
    """The application data of a message as JSON, and in MessagePack where it came as bytes."""
    which = body.WhichOneof("payload")
    if which is None:
        raise ValidationError("Object missing required field `data`")
    if which == "binary":
        return Raw(_to_json(body.binary)), Raw(_pack(body.binary))
    data = body.data
    try:
        data.decode()  # it goes into text frames (RFC 6455 8.1)
        return _read_data(data), None
    except (MsgspecError, UnicodeError, RecursionError):
        raise ValidationError("It is not JSON in UTF-8 - at `$.data`") from None


def _id(envelope: Any) -> MessageId | UnsetType:
    """The id of a message that is wrong, where it can be told back."""
    which = envelope.WhichOneof("message_id")
    if which == "id" and envelope.id < NOT_EXACT:
        return int(envelope.id)
    if which == "text_id" and 0 < len(envelope.text_id) <= MAX_ID:
        return str(envelope.text_id)
    return UNSET


# Out.


class _Writing(NamedTuple):
    """How a message is written."""

    scalars: tuple[str, ...]
    texts: tuple[str, ...]
    """JSON texts."""
    lists: tuple[str, ...]
    nested: tuple[tuple[str, _Writing], ...]
    nested_lists: tuple[tuple[str, _Writing], ...]
    has_data: bool


def _writing(kind: Kind) -> _Writing:
    fields = [field for field in kind.fields if not field.group]
    scalars = [field for field in fields if field.type in _SCALARS]
    nested = [
        (field.repeated, field.name, _writing(_KINDS[field.type]))
        for field in fields
        if field not in scalars
    ]
    single = [field for field in scalars if not field.repeated]
    return _Writing(
        tuple(field.name for field in single if field.type != "bytes"),
        tuple(field.name for field in single if field.type == "bytes"),
        tuple(field.name for field in scalars if field.repeated),
        tuple((name, inner) for repeated, name, inner in nested if not repeated),
        tuple((name, inner) for repeated, name, inner in nested if repeated),
        any(field.group == "payload" for field in kind.fields),
    )


_WRITTEN: Final = {
    _KINDS[field.type].struct: (field.name, _writing(_KINDS[field.type]))
    for field in _KINDS["ServerMessage"].fields
    if field.group == "message"
}


def encode_protobuf(message: ServerMessage, packed: Raw | None = None) -> bytes:
    """The Protobuf of a message.

    Args:
        message: with application data in JSON.
        packed: its `data` in MessagePack, where that is known.
    """
    envelope = ServerEnvelope()
    id_ = getattr(message, "id", UNSET)
    if isinstance(id_, str):
        envelope.text_id = id_
    elif id_ is not UNSET:
        envelope.id = id_
    name, writing = _WRITTEN[type(message)]
    body = getattr(envelope, name)
    body.SetInParent()
    if packed is not None and memoryview(packed)[0] in _PACKED_BYTES:
        body.binary = _unpack(packed)
        _write(body, message, writing, False)
    else:
        _write(body, message, writing, writing.has_data)
    encoded: bytes = envelope.SerializeToString()
    return encoded


def _write(body: Any, message: Any, writing: _Writing, data: bool) -> None:
    for name in writing.scalars:
        value = getattr(message, name)
        if value is not None and value is not UNSET:
            setattr(body, name, value)
    if data:
        body.data = bytes(message.data)
    for name in writing.texts:
        value = getattr(message, name)
        if value is not UNSET:
            setattr(body, name, bytes(value))
    for name in writing.lists:
        value = getattr(message, name)
        if value is not UNSET:
            getattr(body, name).extend(value)
    for name, inner in writing.nested:
        _write(getattr(body, name), getattr(message, name), inner, inner.has_data)
    for name, inner in writing.nested_lists:
        value = getattr(message, name)
        if value is not UNSET:
            many = getattr(body, name)
            for one in value:
                _write(many.add(), one, inner, inner.has_data)
