"""The `auth` message, and connections that must send one first."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import pytest

from tests.unit.node.native.native_world import SECRET, Peer, World, error
from tidegate.core.codes import TOKEN_EXPIRED, UNAUTHORIZED, USER_LIMIT, Close, Refusal, close_text
from tidegate.engine.states import Admission


def unidentified(world: World) -> Peer:
    peer = world.open(unidentified=True)
    assert peer.take() == []
    return peer


def ended_by(reason: Refusal | Close) -> tuple[int, str, str]:
    return reason.code, close_text(reason, reason.retry_after), reason.name


def test_unidentified_connection_may_do_nothing_but_authenticate(world: World) -> None:
    peer = unidentified(world)
    for message in (
        {"type": "join", "room": "lobby", "id": 3},
        {"type": "leave", "room": "lobby", "id": 3},
        {"type": "room_message", "room": "lobby", "data": 1, "id": 3},
        {"type": "direct_message", "user": "ann", "data": 1, "id": 3},
    ):
        assert world.say(peer, **message) == [error("not_authenticated", id=3)]
    assert peer.rooms == ()
    assert peer.admission is Admission.UNIDENTIFIED
    assert peer.open


def test_auth_as_the_first_message_opens_the_connection(world: World) -> None:
    peer = unidentified(world)
    seen: list[tuple[bool, int, Admission]] = []
    peer.on_send = lambda: seen.append(
        ("ann" in world.users, world.tracker.user_count("ann"), peer.admission)
    )
    welcome, ack = world.say(peer, type="auth", token=world.token("ann"), id="a")
    assert (welcome["type"], welcome["userId"]) == ("connected", "ann")
    assert ack == {"type": "ack", "id": "a"}
    # Before anything is sent, because a send may find out that the peer has gone.
    assert seen == [(True, 1, Admission.ADMITTED)] * 2
    peer.on_send = lambda: None
    assert world.say(peer, type="join", room="lobby", id=1)[0]["type"] == "ack"
    world.pass_time(monotonic() + 30)  # it was in time, and its token is still good
    assert peer.open
    world.pass_time(monotonic() + 61)
    assert peer.ends == [ended_by(TOKEN_EXPIRED)]


def test_auth_of_an_anonymous_connection_moves_it_to_its_user(world: World) -> None:
    peer = world.member("lobby")
    assert world.say(peer, type="auth", token=world.token("ann")) == []
    assert "ann" in world.users
    (said,) = world.say(peer, type="room_message", room="lobby", data=1)
    assert said["from"] == "ann"
    world.pass_time(monotonic() + 61)
    assert peer.ends == [ended_by(TOKEN_EXPIRED)]


def test_auth_with_a_tier_counts_it_there() -> None:
    world = World(tiers={"free": {"per_user": 1}})
    peer = unidentified(world)
    world.say(peer, type="auth", token=world.token("ann", "free"))
    assert peer.lease.tier == "free"
    assert world.tracker.tier_count("free") == 1


def test_auth_with_a_newer_token_extends_the_connection(world: World) -> None:
    peer = unidentified(world)
    world.say(peer, type="auth", token=world.token("ann"))
    world.say(peer, type="join", room="lobby")
    later = world.token("ann", age=-1000)  # made in the future: it ends later
    assert world.say(peer, type="auth", token=later, id=7) == [{"type": "ack", "id": 7}]
    world.pass_time(monotonic() + 100)
    assert (peer.open, peer.rooms, world.tracker.user_count("ann")) == (True, ("lobby",), 1)
    (said,) = world.say(peer, type="auth", token="nonsense", id=8)
    assert (said["code"], said["id"]) == ("invalid_token", 8)
    world.pass_time(monotonic() + 2000)
    assert peer.ends == [ended_by(TOKEN_EXPIRED)]


def test_auth_of_another_user_is_refused(world: World) -> None:
    peer = world.open("ann")
    peer.take()
    (said,) = world.say(peer, type="auth", token=world.token("bob"), id=1)
    assert (said["code"], said["id"]) == ("already_authenticated", 1)
    assert (peer.user, peer.open) == ("ann", True)
    assert "bob" not in world.users


@pytest.mark.parametrize(
    ("auth", "make"),
    [
        ({}, lambda world: "nonsense"),
        ({}, lambda world: world.token()[:-4] + "AAAA"),
        ({}, lambda world: world.token(age=100)),
        ({"first_message": False}, lambda world: world.token()),
    ],
    ids=["nonsense", "forged", "expired", "not allowed"],
)
@pytest.mark.parametrize("is_unidentified", [True, False])
def test_auth_with_a_bad_token_ends_the_connection(
    auth: dict[str, object], make: Callable[[World], str], is_unidentified: bool
) -> None:
    world = World(auth={"secret": SECRET, **auth})
    peer = world.open(unidentified=is_unidentified)
    peer.take()
    before = peer.admission
    assert world.say(peer, type="auth", token=make(world), id=1) == []
    assert peer.ends == [ended_by(UNAUTHORIZED)]
    assert (len(world.users), peer.user, peer.admission) == (0, None, before)


def test_auth_without_a_key_ends_the_connection() -> None:
    token = World().token()
    world = World(auth={})
    peer = world.open()
    world.say(peer, type="auth", token=token)
    assert peer.ends == [(4501, '{"error":"unauthorized","retryAfter":null}', "unauthorized")]


def test_auth_of_a_user_with_too_many_connections_ends_it() -> None:
    world = World(limits={"per_user": 1})
    world.open("ann")
    peer = unidentified(world)
    assert world.say(peer, type="auth", token=world.token("ann"), id=1) == []
    assert peer.ends == [ended_by(USER_LIMIT)]
    assert peer.ends[0][:2] == (1013, '{"error":"user_limit","retryAfter":10}')
    assert (peer.user, world.tracker.user_count("ann")) == (None, 1)
    assert peer.admission is Admission.UNIDENTIFIED


def test_auth_that_cannot_be_read_may_be_sent_again(world: World) -> None:
    peer = unidentified(world)
    (said,) = world.say(peer, type="auth", id=1)
    assert (said["code"], said["id"]) == ("invalid_field", 1)
    assert world.say(peer, type="auth", token=world.token())[0]["type"] == "connected"


def test_client_is_told_that_its_token_ends_and_stays_with_a_newer_one(world: World) -> None:
    peer = unidentified(world)
    world.say(peer, type="auth", token=world.token("ann", age=30))  # good for 30 s
    world.pass_time(monotonic() + 14)
    assert peer.take() == []
    world.pass_time(monotonic() + 16)
    (told,) = peer.take()
    assert told["type"] == "token_expiring"
    assert 28 < told["expiresIn"] <= 30  # no time has passed in fact
    assert world.say(peer, type="auth", token=world.token("ann"), id=1) == [
        {"type": "ack", "id": 1}
    ]
    world.pass_time(monotonic() + 31)
    assert peer.open


def test_connection_that_ends_while_it_is_welcomed_leaves_nothing(world: World) -> None:
    peer = unidentified(world)
    peer.on_send = lambda: world.leave(peer)
    world.say(peer, type="auth", token=world.token("ann"))
    assert (len(world.users), world.tracker.open, world.tracker.user_count("ann")) == (0, 0, 0)
    world.pass_time(monotonic() + 1000)
    assert len(peer.ends) == 1, "a connection that is gone has a deadline"
