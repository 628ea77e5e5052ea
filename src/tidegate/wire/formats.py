"""The formats of the native protocol, by subprotocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec import Raw

from tidegate.wire.codecs import JSON_V1, decode_client, encode_server
from tidegate.wire.messages import ClientMessage, ServerMessage
from tidegate.wire.packed import MSGPACK_V1, decode_packed, encode_packed

__all__ = ["FORMATS", "PROTOBUF_V1", "Format", "format_of"]

PROTOBUF_V1: Final = "tidegate.v1.proto"
"""The subprotocol of the native protocol in Protobuf; all its messages are binary."""


class Format(NamedTuple):
    """How messages are written."""

    binary: bool
    """Whether the server sends binary messages."""
    decode: Callable[[str | bytes], ClientMessage]
    """Reads one message of a client; raises `MessageError`."""
    encode: Callable[[ServerMessage, Raw | None], bytes]
    """Writes a message: with application data in JSON, and beside it in MessagePack if known."""


def _encode_json(message: ServerMessage, packed: Raw | None) -> bytes:  # noqa: ARG001
    return encode_server(message)


_JSON: Final = Format(False, decode_client, _encode_json)
_formats = {JSON_V1: _JSON, MSGPACK_V1: Format(True, decode_packed, encode_packed)}
try:
    from tidegate.wire.protobuf import decode_protobuf, encode_protobuf
except ImportError:
    pass  # the extra is not installed
else:
    _formats[PROTOBUF_V1] = Format(True, decode_protobuf, encode_protobuf)

FORMATS: Final[Mapping[str, Format]] = _formats
"""The formats that there are: Protobuf needs the extra `tidegate[protobuf]`."""


def format_of(subprotocol: str | None) -> Format:
    """Return the format for connections of a subprotocol: JSON for others than ours. HOT."""
    return _formats.get(subprotocol, _JSON) if subprotocol is not None else _JSON
