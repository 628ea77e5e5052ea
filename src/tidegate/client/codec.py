"""How messages are written: JSON in text, or MessagePack in binary messages."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from msgspec import json, msgpack

from tidegate.wire.codecs import JSON_V1
from tidegate.wire.packed import MSGPACK_V1

__all__ = ["CODECS", "Codec", "Format"]

Format = Literal["msgpack", "json"]
"""The names of the codecs."""


class Codec(NamedTuple):
    """A format of messages, and the subprotocol that stands for it."""

    protocol: str
    text: bool

    def encode(self, message: dict[str, Any]) -> str | bytes:
        """Write a message.

        Raises:
            TypeError: for a value that the format does not have; ValueError and others likewise.
        """
        return json.encode(message).decode() if self.text else msgpack.encode(message)

    def decode(self, data: str | bytes) -> Any:
        """Read a message; raises an error if it is not in the format."""
        if isinstance(data, str):
            if self.text:
                return json.decode(data)
        elif not self.text:
            return msgpack.decode(data)
        raise ValueError("text and binary messages are mixed up")


CODECS: Final[dict[Format, Codec]] = {
    "msgpack": Codec(MSGPACK_V1, text=False),
    "json": Codec(JSON_V1, text=True),
}
