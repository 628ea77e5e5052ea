"""Reading whatever a client may send, and writing what the server says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from msgspec.structs import fields

from tidegate.errors import PeerError
from tidegate.wire.codecs import MessageError, decode_client, encode_server
from tidegate.wire.messages import (
    MAX_TOKEN,
    Ack,
    Authenticate,
    ClientMessage,
    Connected,
    ConnectionSettings,
    DirectMessage,
    Error,
    HealthPing,
    Join,
    Leave,
    Position,
    RoomMessage,
    SendToRoom,
    SendToUser,
    ServerMessage,
    ServerShutdown,
)

DEEP = "[" * 100_000
CODES = {"invalid_json", "unknown_type", "invalid_field"}
LONG_ID = '{"type":"join","room":"a","id":"' + "x" * 65 + '"}'


def plain(message: ClientMessage) -> dict[str, Any]:
    """The fields as plain values, without those that have their default."""
    values = {
        known.name: (known.default, getattr(message, known.name)) for known in fields(message)
    }
    return {
        name: bytes(value) if isinstance(value, Raw) else value
        for name, (default, value) in values.items()
        if value is not UNSET and value != default
    }


@pytest.mark.parametrize(
    ("text", "type_", "fields"),
    [
        ('{"type":"join","room":"lobby"}', Join, {"room": "lobby"}),
        ('{"type":"join","room":"a","id":"7"}', Join, {"room": "a", "id": "7"}),
        ('{"type":"join","room":"a","id":0}', Join, {"room": "a", "id": 0}),
        (
            '{"type":"join","room":"a","id":9007199254740991}',
            Join,
            {"room": "a", "id": 2**53 - 1},
        ),
        ('{"type":"leave","room":"a","id":7}', Leave, {"room": "a", "id": 7}),
        (
            '{"type":"room_message","room":"a","data":null}',
            SendToRoom,
            {"room": "a", "data": b"null"},
        ),
        (
            '{"id":1,"echo":false,"data":{"a" : 1},"room":"a","type":"room_message"}',
            SendToRoom,
            {"room": "a", "data": b'{"a" : 1}', "echo": False, "id": 1},
        ),
        (
            '{"type":"direct_message","user":"ann","data":[1e400, -0, "\\u00e9"]}',
            SendToUser,
            {"user": "ann", "data": b'[1e400, -0, "\\u00e9"]'},
        ),
        (
            '{"type":"join","room":"a","presence":true,"history":2.0,'
            '"since":{"epoch":"x","offset":7e0}}',
            Join,
            {"room": "a", "presence": True, "history": 2, "since": Position("x", 7)},
        ),
        ('{"type":"health_ping","id":1}', HealthPing, {"id": 1}),
        ('{"type":"auth","token":"a.b.c"}', Authenticate, {"token": "a.b.c"}),
        # Keys of a later version are ignored, whatever they hold.
        ('{"type":"join","room":"a","new":[{}]}', Join, {"room": "a"}),
        # RFC 8259 section 4 leaves repeated keys open; the last one counts.
        ('{"type":"join","room":"a","room":"b"}', Join, {"room": "b"}),
        (' {"type":"join",\n"room":"\\ud83d\\ude00"} ', Join, {"room": "\U0001f600"}),
    ],
)
def test_reads(text: str, type_: type, fields: dict[str, Any]) -> None:
    for data in (text, text.encode()):
        message = decode_client(data)
        assert type(message) is type_
        assert plain(message) == fields


@pytest.mark.parametrize(
    ("data", "code", "id_", "said"),
    [
        ("", "invalid_json", UNSET, "truncated"),
        ("{", "invalid_json", UNSET, "truncated"),
        ("nonsense", "invalid_json", UNSET, "malformed"),
        ('{"type":"join","room":"a"} x', "invalid_json", UNSET, "trailing"),
        ('{"type":"nothing","id":1', "invalid_json", UNSET, "truncated"),
        ("\ufeff{}", "invalid_json", UNSET, "malformed"),
        ("[]", "invalid_json", UNSET, "not a JSON object"),
        ("17", "invalid_json", UNSET, "not a JSON object"),
        ("9" * 5000, "invalid_json", UNSET, "not a JSON object"),
        (b"\xff", "invalid_json", UNSET, "UTF-8"),
        (b'{"type":"room_message","room":"a","data":"\xff"}', "invalid_json", UNSET, "UTF-8"),
        ('"\ud800"', "invalid_json", UNSET, "UTF-8"),
        (
            '{"type":"room_message","room":"a","data":"\\ud800"}',
            "invalid_json",
            UNSET,
            "",
        ),
        ('{"type":"join","room":"\\udc00","id":1}', "invalid_json", UNSET, "surrogate"),
        (
            '{"type":"room_message","room":"a","data":NaN,"id":1}',
            "invalid_json",
            UNSET,
            "malformed",
        ),
        (
            '{"type":"room_message","room":"a","data":' + DEEP,
            "invalid_json",
            UNSET,
            "nested too deeply",
        ),
        ('{"type":"nothing","more":' + DEEP, "invalid_json", UNSET, "nested too deeply"),
        ('{"id":' + DEEP, "invalid_json", UNSET, "nested too deeply"),
        (DEEP, "invalid_json", UNSET, "not a JSON object"),
        ('{"type":"nothing","id":"x1"}', "unknown_type", "x1", "no such type of message"),
        ('{"id":4,"type":""}', "unknown_type", 4, "no such type of message"),
        ('{"type":"Join","room":"a"}', "unknown_type", UNSET, "no such type of message"),
        ('{"type":"connected"}', "unknown_type", UNSET, "no such type of message"),
        ("{}", "invalid_field", UNSET, "`type` is missing"),
        ('{"room":"a","id":4}', "invalid_field", 4, "`type` is missing"),
        ('{"type":null,"id":4}', "invalid_field", 4, "`type` is not a string"),
        ('{"type":["join"],"id":4}', "invalid_field", 4, "`type` is not a string"),
        (
            '{"type":"join","type":"leave","room":"a","id":4}',
            "invalid_field",
            4,
            "`type` is there twice",
        ),
        ('{"type":"join","id":4}', "invalid_field", 4, "missing required field `room`"),
        ('{"type":"join","room":"","id":4}', "invalid_field", 4, "`room`: "),
        ('{"type":"join","room":"%s","id":4}' % ("x" * 129), "invalid_field", 4, "<= 128"),
        ('{"type":"join","room":"a\\u0000b","id":4}', "invalid_field", 4, "Control characters"),
        ('{"type":"leave","room":"\\n","id":4}', "invalid_field", 4, "Control characters"),
        ('{"type":"join","room":{"a":[]},"id":4}', "invalid_field", 4, "`room`: "),
        ('{"type":"room_message","room":"a","id":4}', "invalid_field", 4, "field `data`"),
        (
            '{"type":"room_message","room":"a","data":1,"echo":0,"id":4}',
            "invalid_field",
            4,
            "`echo`: ",
        ),
        ('{"type":"direct_message","data":1,"id":4}', "invalid_field", 4, "field `user`"),
        (
            '{"type":"direct_message","user":"%s","data":1,"id":4}' % ("x" * 257),
            "invalid_field",
            4,
            "<= 256",
        ),
        ('{"type":"auth","id":4}', "invalid_field", 4, "field `token`"),
        ('{"type":"auth","token":"","id":4}', "invalid_field", 4, "`token`: "),
        (
            '{"type":"auth","token":"%s","id":4}' % ("x" * (MAX_TOKEN + 1)),
            "invalid_field",
            4,
            "<= 8192",
        ),
        # An identifier that is itself wrong cannot come back.
        ('{"type":"join","room":"a","id":null}', "invalid_field", UNSET, "`id`: "),
        ('{"type":"join","room":"a","id":true}', "invalid_field", UNSET, "`id`: "),
        # One that is a number can: its client knows what it numbered so.
        (
            '{"type":"join","room":"a","id":1.5}',
            "invalid_field",
            1.5,
            "`id`: Expected a whole number",
        ),
        ('{"type":"auth","token":"a","id":1.5}', "invalid_field", 1.5, "`id`: "),
        ('{"type":"join","room":"a","id":-1}', "invalid_field", -1, "`id`: "),
        ('{"type":"join","room":"a","id":-2.0}', "invalid_field", -2, "`id`: "),
        ('{"type":"join","room":"","id":2.0}', "invalid_field", 2, "`room`: "),
        ('{"type":"nothing","id":3e0}', "unknown_type", 3, "no such type"),
        ('{"type":"join","room":"a","id":1e400}', "invalid_field", UNSET, "`id`: "),
        ('{"type":"join","room":"a","id":1e16}', "invalid_field", UNSET, "`id`: "),
        ('{"type":"join","room":"a","id":[1.0]}', "invalid_field", UNSET, "Expected `int | str`"),
        ('{"type":"join","room":"a","id":""}', "invalid_field", UNSET, "`id`: "),
        (f'{{"type":"join","room":"a","id":{2**53}}}', "invalid_field", UNSET, "`id`: "),
        ('{"type":"join","room":"a","id":%s}' % ("9" * 5000), "invalid_field", UNSET, "`id`: "),
        (LONG_ID, "invalid_field", UNSET, "`id`: "),
    ],
)
def test_refuses(data: str | bytes, code: str, id_: object, said: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode_client(data)
    error = caught.value
    assert (error.code, error.id) == (code, id_)
    assert said in error.message
    assert str(error) == error.message
    assert isinstance(error, PeerError)


BODIES: dict[str, dict[str, Any]] = {
    "join": {"room": "a"},
    "leave": {"room": "a"},
    "room_message": {"room": "a", "data": 1},
    "direct_message": {"user": "ann", "data": 1},
    "auth": {"token": "a.b.c"},
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(("1.0", 1), ("1e0", 1), ("1E2", 100), ("10e-1", 1), ("0.0", 0), ("-0.0", 0)),
        ("9007199254740991.0", 2**53 - 1),
    ],
)
def test_reads_a_whole_number_however_it_is_written(kind: str, written: str, number: int) -> None:
    body = json.dumps({"type": kind, **BODIES[kind]})
    message = decode_client(f'{body[:-1]},"id":{written}}}')
    assert (message.id, type(message.id)) == (number, int)
    assert message.id is not UNSET
    assert encode_server(Ack(message.id)) == b'{"type":"ack","id":%d}' % number


@pytest.mark.parametrize("kind", BODIES)
def test_every_message_takes_a_whole_number_as_messagepack_writes_it(kind: str) -> None:
    decoder: Any = msgspec.msgpack.Decoder(ClientMessage)
    body = {"type": kind, **BODIES[kind]}
    for number in (7, 7.0):
        message = decoder.decode(msgspec.msgpack.encode({**body, "id": number}))
        assert (message.id, type(message.id)) == (7, int)
    with pytest.raises(msgspec.ValidationError, match="whole number"):
        decoder.decode(msgspec.msgpack.encode({**body, "id": 7.5}))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"<secret>"}',
        '{"type":"join","room":"<secret>\\u0000"}',
        '{"type":"join","room":{"<secret>":1}}',
        '{"type":"join","<secret>":1}',
        '{"type":"join","room":"a","id":["<secret>"]}',
        '{"type":"auth","token":["<secret>"]}',
        '{"type":"join","type":"<secret>","room":"a"}',
        '{"type":"join","room":"a"}<secret>',
    ],
)
def test_an_error_never_repeats_what_was_sent(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode_client(text)
    error = caught.value
    assert "secret" not in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(["type", "room", "user", "data", "echo", "id", "token", "x"]),
    JSON | st.sampled_from(["join", "leave", "room_message", "direct_message", "auth"]),
)


@given(FIELDS.map(json.dumps) | st.text(max_size=30) | st.binary(max_size=30))
@settings(max_examples=150)
def test_anything_is_a_message_or_a_message_error(data: str | bytes) -> None:
    try:
        message = decode_client(data)
    except MessageError as error:
        # Whatever came in, the answer can be written.
        code = json.loads(encode_server(Error(error.code, error.message, error.id)))["code"]
    else:
        code = type(message).__name__
    assert code in CODES or code in {member.__name__ for member in ClientMessage.__args__}


@given(JSON.map(lambda value: json.dumps(value, ensure_ascii=False)))
@settings(max_examples=150)
def test_data_is_passed_on_byte_for_byte(text: str) -> None:
    message = decode_client(f'{{"type":"room_message","room":"a","data":{text}}}')
    assert isinstance(message, SendToRoom)
    assert bytes(message.data) == text.encode()
    out = encode_server(RoomMessage("a", message.data, None, "n-1"))
    assert out == (
        b'{"type":"room_message","room":"a","data":%s,"from":null,"connectionId":"n-1"}'
        % text.encode()
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            Connected("n-1", None, ConnectionSettings(30.0, 1024, 50.0, True), False, 0.25),
            {
                "type": "connected",
                "connectionId": "n-1",
                "userId": None,
                "settings": {
                    "pingInterval": 30.0,
                    "maxMessageSize": 1024,
                    "messagesPerSecond": 50.0,
                    "broadcast": True,
                },
                "degraded": False,
                "utilization": 0.25,
            },
        ),
        (Ack("a"), {"type": "ack", "id": "a"}),
        (Ack(0, members=3), {"type": "ack", "id": 0, "members": 3}),
        (Ack(1, delivered=0), {"type": "ack", "id": 1, "delivered": 0}),
        (Error("too_big", "Too big."), {"type": "error", "code": "too_big", "message": "Too big."}),
        (
            Error("overloaded", "Later.", 0, 5),
            {"type": "error", "code": "overloaded", "message": "Later.", "id": 0, "retryAfter": 5},
        ),
        (
            RoomMessage("lobby", Raw(b"[1]"), "ann", "n-1"),
            {
                "type": "room_message",
                "room": "lobby",
                "data": [1],
                "from": "ann",
                "connectionId": "n-1",
            },
        ),
        (
            DirectMessage(Raw(b'"hi"'), None, "n-1"),
            {"type": "direct_message", "data": "hi", "from": None, "connectionId": "n-1"},
        ),
        (
            ServerShutdown("drained", 12.345),
            {"type": "server_shutdown", "reason": "drained", "reconnectDelay": 12.345},
        ),
    ],
)
def test_writes(message: ServerMessage, expected: dict[str, Any]) -> None:
    assert json.loads(encode_server(message)) == expected
    assert msgspec.json.decode(encode_server(message), type=type(message)) is not None


PROTOCOL = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
SENT, RECEIVED = PROTOCOL.split("### From the client")[1].split("### From the server")
SERVER = msgspec.json.Decoder(ServerMessage)


@pytest.mark.parametrize(
    ("section", "union", "read"),
    [(SENT, ClientMessage, decode_client), (RECEIVED, ServerMessage, SERVER.decode)],
)
def test_the_documentation_shows_a_valid_example_of_every_message(
    section: str, union: Any, read: Callable[[str], Any]
) -> None:
    examples = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert sorted(type(read(text)).__name__ for text in examples) == sorted(
        member.__name__ for member in union.__args__
    )
    for text in examples:
        # No key that is not a field, or was misspelt.
        known = {field.encode_name for field in msgspec.structs.fields(type(read(text)))}
        assert set(json.loads(text)) <= known | {"type"}


def test_the_documentation_shows_what_is_really_said() -> None:
    session = PROTOCOL.split("```text")[1].split("```")[0]
    sent = re.findall(r"^> (\{.*)$", session, re.MULTILINE)
    received = re.findall(r"^< (\{.*)$", session, re.MULTILINE)
    assert len(sent) == 3
    for text in sent:
        decode_client(text)
    assert len(received) == 5
    for text in received:
        assert encode_server(SERVER.decode(text)).decode() == text
