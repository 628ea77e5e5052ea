"""Rooms whose messages are the difference to the one before, for members that ask for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.node.native.native_world import Peer, World
from tidegate.core.messaging.rules import Rules
from tidegate.node import deltas
from tidegate.wire.deltas import apply

RULES = [
    {"pattern": "doc", "delta": True, "timestamp": True},
    {"pattern": "kept", "delta": True, "history_size": 5},
]
STATE = {"title": "Grüße", "lines": [f"line {number}" for number in range(20)]}


class Reader:
    """A client that makes the data of each message, and says which had a base."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.data = b""

    def read(self, message: dict[str, Any]) -> tuple[Any, bool]:
        assert message["type"] == "room_delta"
        base = message.get("base")
        assert base in (None, self.version)
        self.data = apply(self.data if base else b"", message["delta"].encode())
        self.version = message["version"]
        return json.loads(self.data), base is not None


def world_of(**sections: Any) -> World:
    return World(rooms={"rules": RULES}, **sections)


def member(world: World, room: str = "doc", **more: Any) -> Peer:
    peer = world.open("ann")
    peer.take()
    (ack,) = world.say(peer, type="join", room=room, delta="fossil", id=1, **more)
    assert ack["delta"] == "fossil"
    return peer


def publish(world: World, peer: Any, n: int, room: str = "doc", **more: Any) -> None:
    said = {"type": "room_message", "room": room, "data": {**STATE, "n": n}, **more}
    world.app.message(peer, json.dumps(said))


def test_members_that_ask_for_deltas_get_the_first_message_whole_and_then_what_changed() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    plain = world.member("doc")
    client = Reader()
    for number in range(3):
        publish(world, ann, number)
        (message,) = bob.take()
        assert client.read(message) == ({**STATE, "n": number}, number > 0)
        assert (message["from"], message["connectionId"]) == ("ann", ann.id)
        assert message["timestamp"] > 0
        (whole,) = plain.take()
        assert (whole["type"], whole["data"]) == ("room_message", {**STATE, "n": number})
        assert len(message["delta"]) < 60 or not number
    (first, second, third) = ann.take()
    assert ("base" in first, second["base"], third["base"]) == (False, 1, 2)


def test_a_member_that_joins_later_gets_a_whole_message_first() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    publish(world, ann, 1)
    cat = member(world)
    publish(world, ann, 2)
    assert Reader().read(cat.take()[-1]) == ({**STATE, "n": 2}, False)
    assert "base" in bob.take()[-1]


def test_a_message_after_one_without_echo_is_whole_for_its_sender_only() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    publish(world, bob, 0)
    publish(world, ann, 1, echo=False)
    publish(world, bob, 2)
    assert ["base" in message for message in ann.take()] == [False, False]
    assert ["base" in message for message in bob.take()] == [False, True, True]


def test_a_single_member_gets_whole_messages() -> None:
    world = world_of()
    ann = member(world)
    client = Reader()
    for number in range(2):
        publish(world, ann, number)
        assert client.read(*ann.take()) == ({**STATE, "n": number}, False)


@pytest.mark.parametrize("data", ["x" * 40_000, {"n": 1}], ids=["large", "nothing in common"])
def test_data_that_is_large_or_quite_other_is_sent_whole(data: object) -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    publish(world, ann, 0)
    client = Reader()
    client.read(*bob.take())
    world.say(ann, type="room_message", room="doc", data=data)
    assert client.read(*bob.take()) == (data, False)
    publish(world, ann, 1)
    assert client.read(*bob.take()) == ({**STATE, "n": 1}, False)


@pytest.mark.parametrize(
    ("room", "delta"), [("doc", "vcdiff"), ("doc", ""), ("other", "fossil"), ("doc", None)]
)
def test_join_with_a_delta_that_is_not_to_be_had_is_answered_without(
    room: str, delta: str | None
) -> None:
    world = world_of()
    peer = world.open()
    peer.take()
    asked = {} if delta is None else {"delta": delta}
    assert world.say(peer, type="join", room=room, id=1, **asked) == [
        {"type": "ack", "id": 1, "members": 1}
    ]
    publish(world, peer, 1, room)
    assert [message["type"] for message in peer.take()] == ["room_message"]
    assert world.delivery.deltas.rooms == {}


def test_join_again_without_delta_ends_it() -> None:
    world = world_of()
    ann = member(world)
    world.say(ann, type="join", room="doc")
    publish(world, ann, 1)
    assert [message["type"] for message in ann.take()] == ["room_message"]
    assert world.delivery.deltas.rooms == {}


def test_messages_of_the_history_are_whole_and_so_is_the_one_behind_them() -> None:
    world = world_of()
    ann, bob = member(world, "kept"), member(world, "kept")
    publish(world, ann, 1, "kept")
    epoch, offset = ann.take()[-1], bob.take()[-1]["offset"]
    assert offset == 1
    cat = world.open()
    cat.take()
    ack, kept = world.say(cat, type="join", room="kept", history=5, delta="fossil", id=1)
    assert (ack["delta"], ack["offset"], kept["type"]) == ("fossil", 1, "room_message")
    assert epoch["offset"] == 1
    publish(world, ann, 2, "kept")
    (live,) = cat.take()
    assert Reader().read(live) == ({**STATE, "n": 2}, False)
    assert live["offset"] == 2
    assert "base" in bob.take()[-1]


def test_a_rule_that_allows_deltas_no_more_ends_them() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    publish(world, ann, 1)
    world.delivery.deltas.apply(Rules())
    publish(world, ann, 2)
    for peer in (ann, bob):
        assert [message["type"] for message in peer.take()] == ["room_delta", "room_message"]


def test_members_that_leave_or_end_are_forgotten() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    world.say(ann, type="leave", room="doc")
    assert set(world.delivery.deltas.rooms["doc"].members) == {bob}
    world.leave(bob)
    assert world.delivery.deltas.rooms == {}


def test_a_publication_that_was_not_taken_is_no_base() -> None:
    world = world_of()
    ann, bob = member(world), member(world)
    publish(world, ann, 1)
    world.fanout.full = True
    assert world.say(ann, type="room_message", room="doc", data=1, id=1)[-1]["code"] == "overloaded"
    world.fanout.full = False
    publish(world, ann, 2)
    client = Reader()
    assert [client.read(message)[0]["n"] for message in bob.take()] == [1, 2]


def test_what_was_saved_is_counted() -> None:
    world = world_of()
    ann, _ = member(world), member(world)
    for number in range(3):
        publish(world, ann, number)
    _, *changed = [message["delta"] for message in ann.take()]
    stats = world.fanout.stats
    assert stats.deltas_sent == 4  # to both
    data = json.dumps({**STATE, "n": 1}).encode()
    saved = sum(len(data) - len(delta.encode()) for delta in changed)
    assert stats.delta_bytes_saved == 2 * saved
    assert stats.outgoing.others.count == 6


def test_data_over_the_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "_LARGEST", 100)
    world = world_of()
    ann, _ = member(world), member(world)
    publish(world, ann, 1)
    chain = world.delivery.deltas.rooms["doc"]
    assert chain.last is None
    world.say(ann, type="room_message", room="doc", data=1)
    assert chain.last is not None
    assert bytes(chain.last.data) == b"1"
