"""The vectors of tests/vectors, which every client replays: our own reading and writing of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import fields

from tidegate.wire.codecs import MessageError, decode_client, encode_server
from tidegate.wire.deltas import apply
from tidegate.wire.messages import ClientMessage, RoomDelta, ServerMessage
from tidegate.wire.packed import decode_packed, encode_packed
from tidegate.wire.protobuf import ServerEnvelope, decode_protobuf, encode_protobuf

FOLDER = Path(__file__).parents[2] / "vectors"
CLIENT, SERVER, INVALID, DELTAS = (
    json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("client", "server", "invalid", "deltas")
)
READ_SERVER: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def unpacked(data: bytes) -> dict[str, Any]:
    """Read a message in MessagePack, where a delta is binary."""
    message: dict[str, Any] = msgspec.msgpack.decode(data)
    if message.get("type") == "room_delta":
        assert isinstance(message["delta"], bytes)
        message["delta"] = message["delta"].decode()
    return message


@pytest.mark.parametrize(
    ("union", "vectors"), [(ClientMessage, CLIENT), (ServerMessage, SERVER)], ids=["in", "out"]
)
def test_vectors_have_every_type_and_every_field(union: object, vectors: list[Any]) -> None:
    wanted = {
        (kind.__struct_config__.tag, known.encode_name)
        for kind in get_args(union)
        for known in fields(kind)
    }
    shown = {(each["value"]["type"], key) for each in vectors for key in each["value"]}
    assert wanted - shown == set()


@pytest.mark.parametrize("vector", CLIENT + SERVER + INVALID, ids=str)
def test_vectors_say_the_same_in_each_encoding(vector: dict[str, Any]) -> None:
    assert msgspec.json.decode(vector["json"]) == vector["value"]
    assert unpacked(bytes.fromhex(vector["msgpack"])) == vector["value"]


@pytest.mark.parametrize("vector", CLIENT, ids=str)
def test_vectors_of_a_client_are_read(vector: dict[str, Any]) -> None:
    back = msgspec.json.decode(msgspec.json.encode(decode_client(vector["json"])))
    # A key that is not there has its default, and one that is unknown is left out.
    assert {key: back[key] for key in vector["value"] if key != "later"} == {
        key: value for key, value in vector["value"].items() if key != "later"
    }


@pytest.mark.parametrize("vector", SERVER, ids=str)
def test_vectors_of_the_server_are_written(vector: dict[str, Any]) -> None:
    written = encode_server(READ_SERVER.decode(vector["json"]))
    assert msgspec.json.decode(written) == vector["value"]


@pytest.mark.parametrize("vector", INVALID, ids=str)
def test_vectors_that_are_wrong_are_refused_with_code_and_field(vector: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as refused:
        decode_client(vector["json"])
    assert refused.value.code == vector["code"]
    named = re.search("`([^`]+)`", refused.value.message)
    assert (named and named[1]) == vector["field"]


@pytest.mark.parametrize("vector", CLIENT, ids=str)
def test_vectors_of_a_client_are_read_alike_from_messagepack(vector: dict[str, Any]) -> None:
    expected = decode_client(vector["json"])
    read = decode_packed(bytes.fromhex(vector["msgpack"]))
    assert isinstance(read, type(expected))
    for known in fields(expected):
        ours, theirs = getattr(read, known.name), getattr(expected, known.name)
        if isinstance(theirs, msgspec.Raw):
            ours, theirs = bytes(ours), bytes(theirs)
        assert ours == theirs


@pytest.mark.parametrize("vector", SERVER, ids=str)
def test_vectors_of_the_server_are_written_in_messagepack(vector: dict[str, Any]) -> None:
    message = READ_SERVER.decode(vector["json"])
    packed = None
    if isinstance(message, RoomDelta):
        packed = msgspec.Raw(msgspec.msgpack.encode(message.delta.encode()))
    assert unpacked(encode_packed(message, packed)) == vector["value"]


@pytest.mark.parametrize("vector", INVALID, ids=str)
def test_vectors_that_are_wrong_are_refused_in_messagepack_too(vector: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as refused:
        decode_packed(bytes.fromhex(vector["msgpack"]))
    assert refused.value.code == vector["code"]
    named = re.search("`([^`]+)`", refused.value.message)
    assert (named and named[1]) == vector["field"]


@pytest.mark.parametrize("vector", CLIENT, ids=str)
def test_vectors_of_a_client_are_read_alike_from_protobuf(vector: dict[str, Any]) -> None:
    expected = decode_client(vector["json"])
    read = decode_protobuf(bytes.fromhex(vector["protobuf"]))
    assert type(read) is type(expected)
    for known in fields(expected):
        ours, theirs = getattr(read, known.name), getattr(expected, known.name)
        if isinstance(theirs, msgspec.Raw):
            ours, theirs = bytes(ours), bytes(theirs)
        assert ours == theirs


@pytest.mark.parametrize("vector", SERVER, ids=str)
def test_vectors_of_the_server_are_written_in_protobuf(vector: dict[str, Any]) -> None:
    written = encode_protobuf(READ_SERVER.decode(vector["json"]))
    # Not as bytes: the order of fields is open in Protobuf.
    assert ServerEnvelope.FromString(written) == ServerEnvelope.FromString(
        bytes.fromhex(vector["protobuf"])
    )


@pytest.mark.parametrize(
    "vector", [each for each in INVALID if each["protobuf"] is not None], ids=str
)
def test_vectors_that_are_wrong_are_refused_in_protobuf_too(vector: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as refused:
        decode_protobuf(bytes.fromhex(vector["protobuf"]))
    assert refused.value.code == vector["code"]
    named = re.search("`([^`]+)`", refused.value.message)
    assert (named and named[1]) == vector["field"]


@pytest.mark.parametrize("vector", DELTAS, ids=str)
def test_vectors_of_deltas_make_the_data(vector: dict[str, Any]) -> None:
    made = apply(vector["base"].encode(), vector["delta"].encode())
    assert made.decode() == vector["data"]
    base, delta, data = (bytes.fromhex(vector["msgpack"][key]) for key in ("base", "delta", "data"))
    assert apply(base, delta) == data
