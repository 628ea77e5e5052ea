"""What a client is told that is too fast, and when it has been told often enough."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.unit.node.native.native_world import Peer, World, error
from tidegate.core.codes import MESSAGE_ABUSE, close_text


def too_early(world: World, peer: Peer, data: str, delay: float) -> list[dict[str, Any]]:
    world.app.too_early(cast(Any, peer), data, delay)
    return peer.take()


@pytest.mark.parametrize(
    ("data", "number"),
    [
        ('{"type": "room_message", "room": "r", "data": 1, "id": 7}', {"id": 7}),
        ('{"type": "join", "room": "r", "id": "a"}', {"id": "a"}),
        ('{"type": "join", "room": "r"}', {}),
        ('{"type": "join", "room": "", "id": 8}', {"id": 8}),
        ("{", {}),
    ],
)
@pytest.mark.parametrize(("delay", "told"), [(0.01, 1), (1.0, 1), (1.2, 2)])
def test_message_that_is_too_early_is_refused_with_the_delay(
    world: World, data: str, number: dict[str, Any], delay: float, told: int
) -> None:
    peer = world.open()
    peer.take()
    assert too_early(world, peer, data, delay) == [error("message_rate", retryAfter=told, **number)]
    assert peer.rooms == ()
    assert not sum(world.stats.messages_received.values())


def test_client_that_goes_on_too_fast_is_closed(world: World) -> None:
    peer = world.open()
    peer.take()
    peer.refusals_left = 2
    for _ in range(2):
        assert too_early(world, peer, "{}", 0.1)[0]["code"] == "message_rate"
    assert too_early(world, peer, "{}", 0.1) == []
    assert peer.ends == [(1008, close_text(MESSAGE_ABUSE, None), "message_abuse")]


def test_join_that_is_too_early_is_refused_and_counted(world: World) -> None:
    peer = world.member("before")
    peer.next_join = 0.05
    assert world.say(peer, type="join", room="r", id=1) == [
        error("message_rate", id=1, retryAfter=1)
    ]
    assert peer.rooms == ("before",)
    assert peer.refusals_left == 19
    peer.next_join = 0.0
    assert world.say(peer, type="join", room="r", id=2) == [{"type": "ack", "id": 2, "members": 1}]


def test_join_that_is_too_early_and_one_too_many_says_that_it_is_one_too_many() -> None:
    world = World(limits={"rooms_per_connection": 1})
    peer = world.member("before")
    peer.next_join = 0.05
    assert world.say(peer, type="join", room="r", id=1) == [error("too_many_rooms", id=1)]
    assert world.say(peer, type="join", room="before", id=2)[0]["type"] == "ack"
    assert peer.refusals_left == 20


def test_text_of_the_close_can_be_read_by_a_program() -> None:
    assert json.loads(close_text(MESSAGE_ABUSE, None)) == {
        "error": "message_abuse",
        "retryAfter": None,
    }
