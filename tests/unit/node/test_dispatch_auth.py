"""The `auth` message, and connections that must send one first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from native_node import NOW, SECRET, Node, Peer, error

from tidegate.core.admission.attempt import Identity

pytestmark = pytest.mark.usefixtures("clock_stands")


@pytest.fixture
def node() -> Node:
    return Node()


class Seen:
    """Keeps the calls of `on_authenticated`, and what had been sent by then."""

    def __init__(self, node: Node) -> None:
        self.calls: list[tuple[Peer, Identity, int]] = []
        node.app.on_authenticated = self

    def __call__(self, connection: Any, identity: Identity) -> None:
        self.calls.append((connection, identity, len(connection.sent)))


def waiting(node: Node) -> Peer:
    peer = node.open(pending=True)
    assert peer.take() == []
    return peer


def test_a_connection_that_must_authenticate_hears_nothing_before(node: Node) -> None:
    peer = waiting(node)
    for message in (
        {"type": "join", "room": "lobby", "id": 3},
        {"type": "leave", "room": "lobby", "id": 3},
        {"type": "room_message", "room": "lobby", "data": 1, "id": 3},
        {"type": "direct_message", "user": "ann", "data": 1, "id": 3},
    ):
        assert node.say(peer, **message) == [error("not_authenticated", id=3)]
    assert peer.rooms == ()
    assert peer.pending_auth
    assert peer.open


def test_a_first_auth_message_opens_the_connection(node: Node) -> None:
    seen = Seen(node)
    peer = waiting(node)
    welcome, ack = node.say(peer, type="auth", token=node.token("ann"), id="a")
    assert (welcome["type"], welcome["userId"]) == ("connected", "ann")
    assert ack == {"type": "ack", "id": "a"}
    assert not peer.pending_auth
    assert "ann" in node.users
    assert node.tracker.user_count("ann") == 1
    expires_at = float(int(NOW + 60))
    # Before anything is sent, because a send may find out that the peer has gone.
    assert seen.calls == [(peer, Identity("ann", expires_at=expires_at), 0)]
    assert node.say(peer, type="join", room="lobby", id=1)[0]["type"] == "ack"


def test_an_anonymous_connection_may_authenticate_later(node: Node) -> None:
    seen = Seen(node)
    peer = node.member("lobby")
    assert node.say(peer, type="auth", token=node.token("ann")) == []
    assert len(seen.calls) == 1
    assert "ann" in node.users
    (said,) = node.say(peer, type="room_message", room="lobby", data=1)
    assert said["from"] == "ann"


def test_a_tier_comes_with_the_token() -> None:
    node = Node(tiers={"free": {"per_user": 1}})
    peer = waiting(node)
    node.say(peer, type="auth", token=node.token("ann", "free"))
    assert peer.lease.tier == "free"
    assert node.tracker.tier_count("free") == 1


def test_nobody_authenticates_twice(node: Node) -> None:
    seen = Seen(node)
    peer = node.open("ann")
    peer.take()
    (said,) = node.say(peer, type="auth", token=node.token("bob"), id=1)
    assert (said["code"], said["id"]) == ("already_authenticated", 1)
    assert (peer.user, peer.open, seen.calls) == ("ann", True, [])


UNAUTHORIZED = (4001, '{"error":"unauthorized","retryAfter":null}', "unauthorized")


@pytest.mark.parametrize(
    ("auth", "make"),
    [
        ({}, lambda node: "nonsense"),
        ({}, lambda node: node.token()[:-4] + "AAAA"),
        ({}, lambda node: node.token(now=NOW - 100)),
        ({"first_message": False}, lambda node: node.token()),
    ],
)
@pytest.mark.parametrize("pending", [True, False])
def test_a_bad_token_ends_the_connection(
    auth: dict[str, object], make: Callable[[Node], str], pending: bool
) -> None:
    node = Node(auth={"secret": SECRET, **auth})
    seen = Seen(node)
    peer = node.open(pending=pending)
    peer.take()
    assert node.say(peer, type="auth", token=make(node), id=1) == []
    assert peer.ended == UNAUTHORIZED
    assert (seen.calls, len(node.users), peer.user) == ([], 0, None)


def test_without_a_key_any_token_ends_the_connection() -> None:
    token = Node().token()
    node = Node(auth={})
    peer = node.open()
    node.say(peer, type="auth", token=token)
    assert peer.ended == UNAUTHORIZED


def test_a_user_with_too_many_connections_is_turned_away() -> None:
    node = Node(limits={"per_user": 1})
    seen = Seen(node)
    node.open("ann")
    peer = waiting(node)
    assert node.say(peer, type="auth", token=node.token("ann"), id=1) == []
    assert peer.ended == (1013, '{"error":"user_limit","retryAfter":10}', "user_limit")
    assert (seen.calls, peer.user, node.tracker.user_count("ann")) == ([], None, 1)


def test_an_auth_message_that_is_wrong_can_be_sent_again(node: Node) -> None:
    peer = waiting(node)
    (said,) = node.say(peer, type="auth", id=1)
    assert (said["code"], said["id"]) == ("invalid_field", 1)
    assert node.say(peer, type="auth", token=node.token())[0]["type"] == "connected"


def test_a_connection_that_ends_while_it_is_welcomed_leaves_nothing(node: Node) -> None:
    peer = waiting(node)
    peer.on_send = lambda: node.leave(peer)
    node.say(peer, type="auth", token=node.token("ann"))
    assert (len(node.users), node.tracker.open, node.tracker.user_count("ann")) == (0, 0, 0)
