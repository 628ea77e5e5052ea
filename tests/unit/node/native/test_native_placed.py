"""Rooms that the server joins a client to, and messages of operators to all."""

from __future__ import annotations

import pytest

from tests.unit.node.native.native_world import World, error
from tidegate.core.admission.attempt import Claims

INBOX = {"pattern": "inbox:*", "join": "nobody", "history_size": 5}


def test_a_token_joins_its_connection_whatever_the_rule_says() -> None:
    world = World(rooms={"rules": [INBOX]})
    ann = world.open("ann", claims=Claims(join=("inbox:ann", "lobby")))
    connected, *joined = ann.take()
    assert connected["type"] == "connected"
    assert joined[0].pop("epoch").startswith("n")
    assert joined == [
        {"type": "joined", "room": "inbox:ann", "members": 1, "offset": 0},
        {"type": "joined", "room": "lobby", "members": 1},
    ]
    assert ann.rooms == ("inbox:ann", "lobby")


def test_a_room_of_the_token_that_is_full_is_left_with_the_reason() -> None:
    world = World(limits={"rooms_per_connection": 1})
    ann = world.open("ann", claims=Claims(join=("a", "b")))
    assert ann.take()[1:] == [
        {"type": "joined", "room": "a", "members": 1},
        {"type": "left", "room": "b", "reason": "too_many_rooms"},
    ]


def test_a_client_that_is_gone_before_its_rooms_joins_none() -> None:
    world = World()
    peer = world.wait("ann")
    peer.on_send = lambda: world.leave(peer)
    world.admit(peer, Claims(join=("a", "b")))
    assert peer.rooms == ()
    assert world.rooms.count("a") == 0


@pytest.mark.parametrize("claims", [None, Claims(), Claims(rooms=("*",))])
def test_broadcast_of_a_client_that_is_no_operator_is_refused(claims: Claims | None) -> None:
    world = World()
    ann, other = world.open("ann", claims=claims), world.open()
    ann.take()
    other.take()
    assert world.say(ann, type="broadcast", data=1, id=1) == [error("not_allowed", id=1)]
    assert other.take() == []


def test_broadcast_of_an_operator_reaches_all_that_are_admitted() -> None:
    world = World()
    root = world.open("root", claims=Claims(operator=True))
    other, waiting = world.open(), world.wait()
    for peer in (root, other):
        peer.take()
    gone = world.open()
    world.leave(gone)
    gone.take()
    said = {"type": "broadcast", "data": {"a": 1}, "from": "root"}
    assert world.say(root, type="broadcast", data={"a": 1}, id=7) == [
        said,
        {"type": "ack", "id": 7, "delivered": 2},
    ]
    assert other.take() == [said]
    assert waiting.take() == gone.take() == []
    assert len(world.fanout.frames) == 1


def test_broadcast_that_does_not_fit_is_delivered_to_none() -> None:
    world = World()
    root = world.open("root", claims=Claims(operator=True))
    root.take()
    world.fanout.full = True
    said = world.say(root, type="broadcast", data=1, id=7)
    assert said == [{"type": "ack", "id": 7, "delivered": 0}]
