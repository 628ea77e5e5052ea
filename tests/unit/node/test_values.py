"""Messages as values, at the edges; the rest is tested where it is used."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tidegate.core.codes import INVALID_FIELD, INVALID_JSON, MESSAGE_RATE, Fault
from tidegate.node.values import WrongMessage, decoder, encoded, error_json


class Inner(msgspec.Struct):
    name: str


class Outer(msgspec.Struct):
    inner: Inner
    names: dict[str, int] = {}


@pytest.mark.parametrize(
    ("kind", "data", "fault", "field"),
    [
        (list, b"[" * 100_000, INVALID_JSON, ""),
        (list, b"\xff", INVALID_JSON, ""),
        (list, "", INVALID_JSON, ""),
        (Outer, b"{}", INVALID_FIELD, "inner"),
        (Outer, b'{"inner": {}}', INVALID_FIELD, "inner.name"),
        (Outer, b'{"inner": {"name": 5}}', INVALID_FIELD, "inner.name"),
        (Outer, b'{"inner": {"name": "a"}, "names": {"b": "c"}}', INVALID_FIELD, "names[...]"),
        (Outer, b"5", INVALID_FIELD, ""),
        (str, b"bytes", INVALID_FIELD, ""),
        (bytes, "text", INVALID_FIELD, ""),
    ],
)
def test_decoder_names_what_is_wrong(kind: Any, data: Any, fault: Fault, field: str) -> None:
    with pytest.raises(WrongMessage) as error:
        decoder(kind)(data)
    assert (error.value.fault, error.value.field) == (fault, field)


@pytest.mark.parametrize("kind", [Any, object, str | bytes, str | bytes | bytearray])
def test_decoder_of_anything_takes_messages_as_they_are(kind: Any) -> None:
    assert decoder(kind)("text") == "text"
    assert decoder(kind)(b"bytes") == b"bytes"


def test_encoded_takes_messages_as_they_are() -> None:
    assert encoded("text") == "text"
    assert encoded(memoryview(b"bytes")) == b"bytes"
    assert encoded({"a": 1}) == '{"a":1}'


def test_error_says_what_is_known() -> None:
    assert msgspec.json.decode(error_json(INVALID_FIELD, "no text", "text")) == {
        "type": "error",
        "code": "invalid_field",
        "message": INVALID_FIELD.message,
        "detail": "no text",
        "field": "text",
    }
    assert msgspec.json.decode(error_json(MESSAGE_RATE)) == {
        "type": "error",
        "code": "message_rate",
        "message": MESSAGE_RATE.message,
        "retryAfter": MESSAGE_RATE.retry_after,
    }
