"""What a client is told that is too fast, and when it has been told often enough."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from native_node import Node, Peer, error

from tidegate.core.codes import MESSAGE_ABUSE, close_reason


@pytest.fixture
def node() -> Node:
    return Node()


def too_early(node: Node, peer: Peer, data: str, delay: float) -> list[dict[str, Any]]:
    node.app.excess(cast(Any, peer), data, delay)
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
def test_it_is_told_when_to_go_on(
    node: Node, data: str, number: dict[str, Any], delay: float, told: int
) -> None:
    peer = node.open()
    peer.take()
    assert too_early(node, peer, data, delay) == [error("message_rate", retryAfter=told, **number)]
    assert peer.rooms == ()
    assert not sum(node.stats.messages_received.values())


def test_it_is_closed_when_it_does_not_heed_that(node: Node) -> None:
    peer = node.open()
    peer.take()
    peer.refusals_left = 2
    for _ in range(2):
        assert too_early(node, peer, "{}", 0.1)[0]["code"] == "message_rate"
    assert too_early(node, peer, "{}", 0.1) == []
    assert peer.ended == (1008, close_reason(MESSAGE_ABUSE, None), "message_abuse")


def test_joins_have_a_rate_of_their_own(node: Node) -> None:
    peer = node.member("before")
    peer.next_join = 0.05
    assert node.say(peer, type="join", room="r", id=1) == [
        error("message_rate", id=1, retryAfter=1)
    ]
    assert peer.rooms == ("before",)
    assert peer.refusals_left == 19
    peer.next_join = 0.0
    assert node.say(peer, type="join", room="r", id=2) == [{"type": "ack", "id": 2, "members": 1}]


def test_the_reason_of_the_close_can_be_read_by_a_program() -> None:
    assert json.loads(close_reason(MESSAGE_ABUSE, None)) == {
        "error": "message_abuse",
        "retryAfter": None,
    }
