"""The protocol in MessagePack: the same messages, and data that passes untouched."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tidegate.wire.codecs import MessageError, decode_client, encode_server
from tidegate.wire.messages import (
    Ack,
    DirectMessage,
    HistoryPage,
    Join,
    KeptMessage,
    PackedToRoom,
    PresenceState,
    PresentUser,
    RoomMessage,
    SendToAll,
    ServerMessage,
    UserJoined,
)
from tidegate.wire.packed import decode_packed, encode_packed

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode
EXTENSION = msgspec.msgpack.Ext(7, b"x")

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "join", "room": "a", "id": 1, "since": {"epoch": "e", "offset": 3.0}},
        {"type": "leave", "room": "a"},
        {"type": "auth", "token": "x", "new": [1]},
        {"type": "history", "room": "a", "limit": 2},
        {"type": "presence", "room": "a", "id": "x"},
        {"type": "health_ping"},
    ],
)
def test_messages_without_data_are_those_of_json(message: dict[str, Any]) -> None:
    assert decode_packed(pack(message)) == decode_client(json.dumps(message))


@given(VALUES)
def test_data_is_json_within_and_untouched_beside_it(value: Any) -> None:
    sent = pack({"type": "room_message", "room": "a", "data": value, "echo": False, "id": 7})
    message = decode_packed(sent)
    assert isinstance(message, PackedToRoom)
    assert (message.room, message.echo, message.id) == ("a", False, 7)
    assert json.loads(bytes(message.data)) == value
    assert bytes(message.packed) == pack(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00\xff", "AP8="),
        (float("nan"), None),
        ({1: "a"}, {"1": "a"}),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00Z"),
    ],
)
def test_what_json_has_no_word_for_is_said_as_near_as_it_goes(value: Any, shown: Any) -> None:
    message = decode_packed(pack({"type": "room_message", "room": "a", "data": value}))
    assert isinstance(message, PackedToRoom)
    assert json.loads(bytes(message.data)) == shown


@pytest.mark.parametrize(
    ("data", "code", "text", "id_"),
    [
        ("text", "invalid_msgpack", "binary", None),
        (b"", "invalid_msgpack", "not valid", None),
        (b"\xc1", "invalid_msgpack", "not valid", None),
        (pack([1]), "invalid_msgpack", "not a map", None),
        (pack({"id": 5}), "invalid_field", "`type` is missing", 5),
        (pack({"type": "nope", "id": 5}), "unknown_type", "no such type", 5),
        (pack({"type": "health_ping", "id": -1}), "invalid_field", "`id`", -1),
        (pack({"type": "join", "room": "", "id": 5.0}), "invalid_field", "`room`", 5),
        (pack({"type": "join", "room": "a\n"}), "invalid_field", "Control characters", None),
        (pack({"type": "join", "room": "a", "history": 1.5}), "invalid_field", "whole", None),
        (
            pack(
                {"type": "room_message", "room": "a", "data": msgspec.msgpack.Ext(7, b"x"), "id": 1}
            ),
            "invalid_field",
            "`data`",
            1,
        ),
        (b"\x81\xa4type\xa4\xff\xff\xff\xff", "invalid_msgpack", "not valid", None),
        (b"\x91" * 100_000, "invalid_msgpack", "not", None),
        (
            b"\x83\xa4type\xacroom_message\xa4room\xa1a\xa4data" + b"\x91" * 100_000 + b"\xc0",
            "invalid_",
            "",
            None,
        ),
    ],
)
def test_a_wrong_message_is_explained(data: Any, code: str, text: str, id_: Any) -> None:
    with pytest.raises(MessageError) as raised:
        decode_packed(data)
    assert raised.value.code.startswith(code)
    assert text in raised.value.message
    assert (None if raised.value.id is msgspec.UNSET else raised.value.id) == id_


@settings(max_examples=2000)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error_of_the_table(data: bytes) -> None:
    codes = []
    try:
        decode_packed(data)
    except MessageError as error:
        codes.append(error.code)
    assert set(codes) <= {"invalid_msgpack", "invalid_field", "unknown_type"}


DATA = Raw(b'{"a":[1,2.5,null]}')


@pytest.mark.parametrize(
    "message",
    [
        Ack(1, members=2),
        Ack("x", epoch="e", offset=3, recovered=True),
        RoomMessage("r", DATA, "ann", "n-1", 5),
        DirectMessage(DATA, None, None, 3),
        HistoryPage("r", [KeptMessage(1, DATA, None, "n-1")], "e", 1),
        PresenceState("r", 1, [PresentUser("ann", 1, Raw(b'{"n":1}'))]),
        UserJoined("r", [PresentUser("ann", 1)], 1),
    ],
)
def test_what_the_server_says_is_the_same_in_both(message: ServerMessage) -> None:
    assert unpack(encode_packed(message)) == json.loads(encode_server(message))


@pytest.mark.parametrize(("text", "value"), [("1e400", float("inf")), ("1" * 30, float("1" * 30))])
def test_numbers_beyond_messagepack_are_as_near_as_it_goes(text: str, value: float) -> None:
    message = RoomMessage("r", Raw(text.encode()), None, None)
    assert unpack(encode_packed(message))["data"] == value


def test_data_that_came_in_messagepack_goes_out_as_it_came() -> None:
    packed = Raw(pack({"bin": b"\x00\xff"}))
    for message in (
        RoomMessage("r", Raw(b"{}"), None, None),
        DirectMessage(Raw(b"{}"), None, None),
    ):
        assert unpack(encode_packed(message, packed))["data"] == {"bin": b"\x00\xff"}


def test_what_an_operator_says_is_json_within() -> None:
    message = decode_packed(pack({"type": "broadcast", "data": {"a": 1}}))
    assert isinstance(message, SendToAll)
    assert bytes(message.data) == b'{"a":1}'


def test_a_message_of_messagepack_is_one_of_the_protocol() -> None:
    assert isinstance(decode_packed(pack({"type": "join", "room": "a"})), Join)


def test_a_type_that_is_there_twice_is_an_error_that_repeats_nothing_of_the_client() -> None:
    data = b"\x83\xa4type\xa6secret\xa4room\xa1a\xa4type\xa5leave"
    with pytest.raises(MessageError) as caught:
        decode_packed(data)
    assert (caught.value.code, caught.value.message) == (
        "invalid_field",
        "The field `type` is there twice",
    )
