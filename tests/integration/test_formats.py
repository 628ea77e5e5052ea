"""Clients that speak JSON, MessagePack and Protobuf in one room, over real sockets."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import msgspec

from tests.conftest import Start
from tests.support.raw import BINARY, TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tidegate.wire.protobuf import ClientEnvelope, ServerEnvelope

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


class Speaker:
    """A client of one of the subprotocols."""

    def __init__(self, raw: Raw, form: str) -> None:
        self.raw = raw
        self.form = form

    def say(self, **message: Any) -> None:
        if self.form == "msgpack":
            self.raw.send_frame(BINARY, pack(message))
        elif self.form == "proto":
            kind, number = message.pop("type"), message.pop("id", None)
            envelope = ClientEnvelope(id=number, **{kind: _with_payload(message)})
            self.raw.send_frame(BINARY, envelope.SerializeToString())
        else:
            self.raw.send_frame(TEXT, json.dumps(message))

    def hear(self) -> dict[str, Any]:
        message: Any = self.raw.message()
        assert isinstance(message, bytes) is (self.form != "json")
        if self.form == "proto":
            return _plain(ServerEnvelope.FromString(message))
        found: dict[str, Any] = unpack(message) if self.form == "msgpack" else json.loads(message)
        return found


def _with_payload(message: dict[str, Any]) -> dict[str, Any]:
    if "data" in message:
        data = message.pop("data")
        return {
            **message,
            **(
                {"binary": data} if isinstance(data, bytes) else {"data": msgspec.json.encode(data)}
            ),
        }
    return message


def _plain(envelope: Any) -> dict[str, Any]:
    """A message of the server as it is in JSON, as far as these tests look."""
    kind = envelope.WhichOneof("message")
    body = getattr(envelope, kind)
    found = {"type": kind, **{field.name: value for field, value in body.ListFields()}}
    if envelope.WhichOneof("message_id") is not None:
        found["id"] = envelope.id
    return _opened(found)


def _opened(found: dict[str, Any]) -> dict[str, Any]:
    if "binary" in found:
        found["data"] = found.pop("binary")
    elif "data" in found:
        found["data"] = json.loads(found["data"])
    if "messages" in found:
        found["messages"] = [
            _opened({field.name: value for field, value in kept.ListFields()})
            for kept in found["messages"]
        ]
    return found


def test_all_are_in_one_room_and_each_gets_its_own(serve: Start) -> None:
    rules = [{"pattern": "kept", "history_size": 5, "presence": "members"}]
    server = serve({"auth": {"secret": SECRET}, "rooms": {"rules": rules}})
    with ExitStack() as stack:
        speakers = []
        forms = (("ann", "msgpack"), ("bob", "json"), ("cat", "msgpack"), ("dan", "proto"))
        for user, form in forms:
            headers = [("Sec-WebSocket-Protocol", f"tidegate.v1.{form}"), bearer(user)]
            raw = stack.enter_context(server.connect()).open(headers=headers)
            speaker = Speaker(raw, form)
            assert speaker.hear()["type"] == "connected"
            speaker.say(type="join", room="kept", id=1)
            assert speaker.hear()["type"] == "ack"
            speakers.append(speaker)
        chat(*speakers)


def chat(ann: Speaker, bob: Speaker, cat: Speaker, dan: Speaker) -> None:
    ann.say(type="room_message", room="kept", data={"bin": b"\x00\xff"}, echo=False, id=2)
    assert ann.hear()["offset"] == 1
    assert bob.hear()["data"] == {"bin": "AP8="}
    assert cat.hear()["data"] == {"bin": b"\x00\xff"}
    assert dan.hear()["data"] == {"bin": "AP8="}
    bob.say(type="room_message", room="kept", data=[1, "x", None], echo=False)
    assert [one.hear()["data"] for one in (ann, cat, dan)] == [[1, "x", None]] * 3
    dan.say(type="room_message", room="kept", data=b"\x01\xff", echo=False, id=2)
    acked = dan.hear()
    assert (acked["id"], acked["offset"]) == (2, 3)
    assert [one.hear()["data"] for one in (ann, bob, cat)] == [b"\x01\xff", "Af8=", b"\x01\xff"]
    cat.say(type="room_message", room="kept", data=b"\x02", echo=False)
    assert [one.hear()["data"] for one in (ann, bob, dan)] == [b"\x02", "Ag==", b"\x02"]
    dan.say(type="room_message", room="kept", data={"a": 1.5}, echo=False)
    assert [one.hear()["data"] for one in (ann, bob, cat)] == [{"a": 1.5}] * 3
    cat.say(type="direct_message", user="bob", data=b"\x01", id=3)
    assert cat.hear() == {"type": "ack", "id": 3, "delivered": 1}
    assert bob.hear()["data"] == "AQ=="
    bob.say(type="direct_message", user="ann", data={"a": 1})
    assert ann.hear()["data"] == {"a": 1}
    bob.say(type="direct_message", user="dan", data={"a": 1})
    assert dan.hear()["data"] == {"a": 1}
    dan.say(type="direct_message", user="ann", data=b"\x01", id=3)
    assert dan.hear() == {"type": "ack", "id": 3, "delivered": 1}
    assert ann.hear()["data"] == b"\x01"
    for one in (ann, bob, dan):
        one.say(type="history", room="kept", id=4)
        page = one.hear()
        assert [kept["offset"] for kept in page["messages"]] == [1, 2, 3, 4, 5]
        assert page["messages"][1]["data"] == [1, "x", None]
        one.say(type="presence", room="kept", id=5)
        assert one.hear()["count"] == 4
    for one, code in ((ann, "invalid_msgpack"), (dan, "invalid_protobuf")):
        one.raw.send_frame(BINARY, b"\xc1")
        assert one.hear()["code"] == code
        one.raw.send_frame(TEXT, '{"type":"health_ping"}')
        assert one.hear()["code"] == code
        one.say(type="health_ping", id=6)
        assert one.hear() == {"type": "health_pong", "id": 6}


def test_a_client_of_protobuf_that_is_refused_is_told_in_band(serve: Start) -> None:
    server = serve({"limits": {"connections": 1}})
    headers = [("Sec-WebSocket-Protocol", "tidegate.v1.proto")]
    with server.connect() as raw, server.connect() as other:
        raw.open(headers=headers)
        other.open(headers=headers)
        assert json.loads(other.closed(1013).reason)["error"] == "server_limit"


def test_a_message_of_protobuf_that_is_too_big_gets_an_error(serve: Start) -> None:
    server = serve({"messages": {"max_size": 1000}})
    with server.connect() as raw:
        speaker = Speaker(
            raw.open(headers=[("Sec-WebSocket-Protocol", "tidegate.v1.proto")]), "proto"
        )
        assert speaker.hear()["settings"].max_message_size == 1000
        speaker.say(type="room_message", room="a", data="x" * 1000, id=1)
        assert speaker.hear()["code"] == "too_big"
        speaker.say(type="room_message", room="a", data="x" * 100, id=1)
        told = speaker.hear()
        assert (told["code"], told["id"]) == ("not_joined", 1)
