"""The protocol in Protobuf: the same messages, a schema that stays as it is, data untouched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from tests.unit.wire.test_packed import VALUES
from tidegate.wire.codecs import MessageError
from tidegate.wire.messages import (
    DirectMessage,
    Error,
    HistoryPage,
    KeptMessage,
    PackedToRoom,
    PackedToUser,
    RoomMessage,
    SendToAll,
    SendToRoom,
    ServerMessage,
)
from tidegate.wire.packed import encode_packed
from tidegate.wire.protobuf import (
    ClientEnvelope,
    ServerEnvelope,
    decode_protobuf,
    encode_protobuf,
    file_descriptor,
)
from tidegate.wire.schema import NUMBERS, kinds

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
FROZEN = Path(__file__).with_name("protobuf_fields.txt")


def sent(**fields: Any) -> bytes:
    encoded: bytes = ClientEnvelope(**fields).SerializeToString()
    return encoded


# The schema.


def test_schema_is_what_the_official_compiler_makes_of_the_file(tmp_path: Path) -> None:
    compiled = tmp_path / "schema.bin"
    arguments = [f"-I{REFERENCE}", f"-o{compiled}", "tidegate_v1.proto"]
    assert protoc.main(["protoc", *arguments]) == 0
    (theirs,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    for message in theirs.message_type:
        for field in message.field:
            field.ClearField("json_name")  # it follows from the name
    ours = file_descriptor()
    for file in (theirs, ours):
        file.message_type.sort(key=lambda message: message.name)
    assert str(ours) == str(theirs)


def test_numbers_and_types_of_fields_never_change() -> None:
    lines = {
        f"{kind.name}.{field.name} = {field.number} {field.type}{' repeated' * field.repeated}"
        for kind in kinds().values()
        for field in kind.fields
    }
    frozen = set(FROZEN.read_text(encoding="utf-8").splitlines())
    assert frozen - lines == set(), "clients are built with these: put them back"
    assert lines - frozen == set(), f"add these to {FROZEN.name}; from then on they stay"


def test_numbers_are_given_once_and_to_fields_that_there_are() -> None:
    for name, kind in kinds().items():
        numbers = [field.number for field in kind.fields]
        assert len(set(numbers)) == len(numbers)
        assert NUMBERS[name] == {field.name: field.number for field in kind.fields}
    assert NUMBERS.keys() == kinds().keys()


# In.


@given(VALUES)
def test_data_is_passed_on_as_it_was_written(value: Any) -> None:
    text = json.dumps(value, indent=1).encode()
    message = decode_protobuf(sent(id=7, room_message={"room": "a", "data": text, "echo": False}))
    assert type(message) is SendToRoom
    assert (message.room, message.echo, message.id) == ("a", False, 7)
    assert bytes(message.data) == text


@given(st.binary(max_size=300))
def test_bytes_are_base64_in_json_and_bytes_beside_it(data: bytes) -> None:
    message = decode_protobuf(sent(room_message={"room": "a", "binary": data}))
    assert isinstance(message, PackedToRoom)
    assert bytes(message.data) == msgspec.json.encode(data)
    told = RoomMessage("a", message.data, None, None)
    assert (
        ServerEnvelope.FromString(encode_protobuf(told, message.packed)).room_message.binary == data
    )
    assert msgspec.msgpack.decode(encode_packed(told, message.packed))["data"] == data


def test_bytes_to_a_user_and_to_all() -> None:
    message = decode_protobuf(sent(text_id="x", direct_message={"user": "a", "binary": b"\0"}))
    assert isinstance(message, PackedToUser)
    assert (bytes(message.data), message.id) == (b'"AA=="', "x")
    message = decode_protobuf(sent(broadcast={"binary": b"\0"}))
    assert isinstance(message, SendToAll)
    assert bytes(message.data) == b'"AA=="'


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("data", "code", "text", "id_"),
    [
        ("text", "invalid_protobuf", "binary", None),
        (b"\xff", "invalid_protobuf", "not valid", None),
        (sent(join={"room": "lobby"})[:-1], "invalid_protobuf", "not valid", None),
        (b"\x2a\x03\x0a\x01\xff", "invalid_protobuf", "not valid", None),  # a name in no UTF-8
        (b"\x0b" * 100_000, "invalid_protobuf", "not valid", None),
        (b"", "invalid_field", "`type` is missing", None),
        (sent(id=5), "invalid_field", "`type` is missing", 5),
        (sent(text_id="x") + b"\xfa\x3e\x00", "unknown_type", "no such type", "x"),
        (sent(id=2**53, health_ping={}), "invalid_field", "`id`", None),
        (sent(text_id="x" * 65, health_ping={}), "invalid_field", "`id`", None),
        (sent(id=1, join={"room": ""}), "invalid_field", "`room`", 1),
        (sent(id=1, join={}), "invalid_field", "`room`", 1),
        (b"\x08\x01\x2a\x02\x08\x07", "invalid_field", "`room`", 1),  # a number for a name
        (sent(join={"room": "a\n"}), "invalid_field", "Control characters", None),
        (
            sent(join={"room": "a", "since": {"epoch": "e", "offset": 2**53}}),
            "invalid_field",
            "`since.offset`",
            None,
        ),
        (sent(id=1, room_message={"room": "a"}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": b""}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": b"{"}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": b"1 2"}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": b'"\xff"'}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": b"NaN"}), "invalid_field", "`data`", 1),
        (sent(id=1, room_message={"room": "a", "data": DEEP}), "invalid_field", "`data`", 1),
    ],
)
def test_a_wrong_message_is_explained(data: Any, code: str, text: str, id_: Any) -> None:
    with pytest.raises(MessageError) as raised:
        decode_protobuf(data)
    assert raised.value.code == code
    assert text in raised.value.message
    assert (None if raised.value.id is UNSET else raised.value.id) == id_


@settings(max_examples=2000)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error_of_the_table(data: bytes) -> None:
    codes = []
    try:
        decode_protobuf(data)
    except MessageError as error:
        codes.append(error.code)
    assert set(codes) <= {"invalid_protobuf", "invalid_field", "unknown_type"}


# Out.


def test_every_message_of_the_server_can_be_written() -> None:
    names = {field.name for field in kinds()["ServerMessage"].fields if field.group == "message"}
    assert names == {kind.__struct_config__.tag for kind in get_args(ServerMessage)}


def test_what_is_not_there_and_what_is_null_are_left_out() -> None:
    told = ServerEnvelope.FromString(encode_protobuf(RoomMessage("r", Raw(b"0"), None, None)))
    assert {field.name for field, _ in told.room_message.ListFields()} == {"room", "data"}
    told = ServerEnvelope.FromString(
        encode_protobuf(RoomMessage("r", Raw(b"0"), "", "n-1", 0, 0.0))
    )
    assert told.room_message.HasField("sender")
    assert told.room_message.HasField("offset")
    told = ServerEnvelope.FromString(encode_protobuf(Error("c", "m")))
    assert told.WhichOneof("message_id") is None
    assert not told.error.HasField("retry_after")


def test_data_of_messagepack_goes_out_as_json_unless_it_is_bytes() -> None:
    packed = Raw(msgspec.msgpack.encode({"a": 1}))
    message = DirectMessage(Raw(b'{"a":1}'), "ann", "n-1")
    told = ServerEnvelope.FromString(encode_protobuf(message, packed))
    assert told.direct_message.data == b'{"a":1}'


def test_a_history_has_its_messages_in_order() -> None:
    kept = [KeptMessage(n, Raw(str(n).encode()), None, None) for n in (1, 2)]
    told = ServerEnvelope.FromString(encode_protobuf(HistoryPage("r", kept, "e", 2, id=0)))
    assert [(one.offset, one.data) for one in told.history_page.messages] == [(1, b"1"), (2, b"2")]
    assert told.WhichOneof("message_id") == "id"


# Without the package.

WITHOUT = """
import sys
sys.modules["google.protobuf"] = None
from tidegate.core.settings import Settings
from tidegate.node.native.application import NativeApplication
from tidegate.server.banner import facts
print(*NativeApplication.subprotocols)
print(facts(Settings(), (), ())["protocols"])
"""


def test_without_protobuf_it_is_not_offered_and_the_banner_says_why() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == [
        "tidegate.v1.json tidegate.v1.msgpack",
        "tidegate.v1.json, tidegate.v1.msgpack; tidegate.v1.proto needs tidegate[protobuf]",
    ]
