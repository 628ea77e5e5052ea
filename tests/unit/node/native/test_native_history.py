"""Rooms with history: what joins, messages and `history` are answered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.node.native.native_world import World, error
from tidegate.core.messaging.history import Position


@pytest.fixture
def world() -> World:
    rules = [{"pattern": "chat:*", "history_size": 5}, {"pattern": "timed", "timestamp": True}]
    return World(rooms={"rules": rules})


def publish(world: World, peer: Any, *numbers: int, room: str = "chat:1") -> None:
    for number in numbers:
        world.say(peer, type="room_message", room=room, data=number, echo=False)


def data(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(message["offset"], message["data"]) for message in messages]


def test_join_of_a_room_with_history_tells_its_position(world: World) -> None:
    speaker = world.member("chat:1")
    publish(world, speaker, 1, 2)
    peer = world.open()
    peer.take()
    (ack,) = world.say(peer, type="join", room="chat:1", id=1)
    assert ack.pop("epoch")
    assert ack == {"type": "ack", "id": 1, "members": 2, "offset": 2}


@pytest.mark.parametrize("kept", [True, False])
def test_a_message_to_a_room_is_acknowledged_with_its_position(world: World, kept: bool) -> None:
    room = "chat:1" if kept else "attic"
    peer = world.member(room)
    said = world.say(peer, type="room_message", room=room, data="x", echo=False, id=7)
    assert said[0].get("offset") == (1 if kept else None)
    assert ("epoch" in said[0]) is kept


def test_messages_carry_their_offset_and_a_time_where_the_rule_asks(world: World) -> None:
    reader, timed = world.member("chat:1"), world.member("timed")
    publish(world, reader, 1, 2)
    publish(world, timed, 3, room="timed")
    other = world.member("chat:1")
    publish(world, other, 4)
    (message,) = reader.take()
    assert (message["offset"], message["data"], "timestamp" in message) == (3, 4, False)
    listener = world.member("timed")
    publish(world, timed, 5, room="timed")
    (message,) = listener.take()
    assert "offset" not in message
    assert message["timestamp"] > 1.7e9


def test_join_with_since_sends_what_was_missed_behind_the_ack(world: World) -> None:
    speaker = world.member("chat:1")
    publish(world, speaker, 1, 2, 3)
    peer = world.open("ann")
    peer.take()
    epoch = world.say(peer, type="join", room="chat:1", id=1)[0]["epoch"]
    world.say(peer, type="leave", room="chat:1")
    publish(world, speaker, 4, 5)
    since = {"epoch": epoch, "offset": 3}
    ack, *missed = world.say(peer, type="join", room="chat:1", since=since, id=2)
    assert ack == {"type": "ack", "id": 2, "members": 2, "epoch": epoch, "offset": 5} | {
        "recovered": True
    }
    assert data(missed) == [(4, 4), (5, 5)]
    publish(world, speaker, 6)
    assert data(peer.take()) == [(6, 6)]


def test_join_with_since_that_is_gone_says_so_and_sends_the_last_ones(world: World) -> None:
    speaker = world.member("chat:1")
    publish(world, speaker, *range(1, 10))
    peer = world.open()
    peer.take()
    since = {"epoch": "another", "offset": 3}
    ack, *last = world.say(peer, type="join", room="chat:1", since=since, history=2, id=2)
    assert ack["recovered"] is False
    assert data(last) == [(8, 8), (9, 9)]


@pytest.mark.parametrize("wanted", [{"history": 5}, {"since": {"epoch": "e", "offset": 1}}])
def test_join_with_history_of_a_room_without_any_is_a_join(
    world: World, wanted: dict[str, Any]
) -> None:
    peer = world.open()
    peer.take()
    (ack,) = world.say(peer, type="join", room="attic", id=1, **wanted)
    expected = {"type": "ack", "id": 1, "members": 1}
    assert ack == (expected | {"recovered": False} if "since" in wanted else expected)
    assert peer.rooms == ("attic",)


def test_history_gives_a_page_to_a_member(world: World) -> None:
    peer = world.member("chat:1", "ann")
    publish(world, peer, 1, 2, 3)
    (page,) = world.say(peer, type="history", room="chat:1", limit=2, id=4)
    assert data(page["messages"]) == [(2, 2), (3, 3)]
    assert page["messages"][0]["from"] == "ann"
    assert (page["type"], page["id"], page["offset"]) == ("history_page", 4, 3)
    since = {"epoch": page["epoch"], "offset": 0}
    (page,) = world.say(peer, type="history", room="chat:1", limit=2, since=since)
    assert data(page["messages"]) == [(1, 1), (2, 2)]
    assert page["recovered"] is True
    assert "id" not in page


@pytest.mark.parametrize(("room", "code"), [("other", "not_joined"), ("attic", "no_history")])
def test_history_is_refused_where_there_is_none(world: World, room: str, code: str) -> None:
    peer = world.member("attic")
    assert world.say(peer, type="history", room=room, id=4) == [error(code, id=4)]


def test_history_is_cut_to_what_a_connection_can_be_sent(world: World) -> None:
    peer = world.member("chat:1")
    for _ in range(5):
        world.say(peer, type="room_message", room="chat:1", data="x" * 200_000, echo=False)
    (page,) = world.say(peer, type="history", room="chat:1")
    assert [message["offset"] for message in page["messages"]] == [4, 5]


def test_history_keeps_the_data_and_not_the_message_that_it_came_in(world: World) -> None:
    peer = world.member("chat:1")
    unknown = "x" * 100_000
    world.say(peer, type="room_message", room="chat:1", unknown=unknown, data=1, echo=False)
    (kept,) = world.history.last("chat:1", 1, 0.0).publications
    assert len(memoryview(kept.data)) == len(bytes(kept.data)) == 1
    assert world.history.since("chat:1", Position(kept.epoch, 0), 9, 0.0).recovered


def test_gaps_are_told_for_rooms_that_the_connection_is_still_in(world: World) -> None:
    peer = world.member("chat:1")
    world.app.gaps(peer, {"chat:1", "left"})  # type: ignore[arg-type]
    assert peer.take() == [{"type": "gap", "room": "chat:1"}]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "history", "room": "chat:1"},
        {"type": "join", "room": "chat:1", "history": 5},
        {"type": "join", "room": "chat:1", "since": {"epoch": "e", "offset": 0}},
    ],
)
def test_a_history_is_charged_like_a_join_because_one_message_brings_many(
    world: World, message: dict[str, Any]
) -> None:
    peer = world.member("chat:1")
    peer.next_join = 0.2
    (answer,) = world.say(peer, **message, id=1)
    assert (answer["code"], answer["retryAfter"]) == ("message_rate", 1)
    assert world.say(peer, type="join", room="chat:1", id=2)[0]["type"] == "ack"
    peer.next_join = 0.0
    assert world.say(peer, **message, id=3)[0]["type"] in ("ack", "history_page")
