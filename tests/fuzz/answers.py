"""What may come back: messages, errors and closes of the tables."""

from __future__ import annotations

import json
from typing import Any, Final, get_args

import msgspec

from tests.fuzz.messages import MARKER
from tidegate.core.codes import REASONS, Close, Fault, Refusal
from tidegate.wire.messages import ServerMessage
from tidegate.wire.protobuf import ServerEnvelope

__all__ = ["check_close", "read"]

_TYPES: Final = {kind.__struct_config__.tag for kind in get_args(ServerMessage)}
_from_json: Final = msgspec.json.Decoder(ServerMessage)
_from_msgpack: Final = msgspec.msgpack.Decoder(ServerMessage)
_FAULTS: Final = {name for name, reason in REASONS.items() if isinstance(reason, Fault)}


def read(form: str, message: str | bytes) -> dict[str, Any]:
    """A message of the server, by its type and id; fail if it is none of the protocol's."""
    assert isinstance(message, str) is (form == "json")
    if form == "proto":
        envelope = ServerEnvelope.FromString(message)
        which = envelope.WhichOneof("message_id")
        plain = {
            "type": envelope.WhichOneof("message"),
            "id": None if which is None else getattr(envelope, which),
            "code": envelope.error.code,
            "message": envelope.error.message,
        }
    elif isinstance(message, bytes):
        plain = msgspec.msgpack.decode(message)
        if plain["type"] != "error":
            _from_msgpack.decode(message)
    else:
        plain = json.loads(message)
        if plain["type"] != "error":
            _from_json.decode(message)
    assert plain["type"] in _TYPES, plain
    if plain["type"] == "error":
        # An id that is wrong comes back too, if it is a number.
        assert plain.keys() <= {"type", "code", "message", "id", "retryAfter"}
        assert plain["code"] in _FAULTS, plain
        assert MARKER not in plain["message"], plain
    return plain


def check_close(code: int, text: str) -> None:
    """Fail if a close is none of the table."""
    reason = REASONS[json.loads(text)["error"]]
    assert isinstance(reason, Close | Refusal), text
    assert code == reason.code, (code, text)
