"""Rooms that show who is there: what is told to those who ask, and when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.node.native.native_world import Peer, World, error
from tidegate.core.admission.attempt import Claims

RULES = [
    {"pattern": "chat", "presence": "members"},
    {"pattern": "big", "presence": "members", "presence_users": 2},
]


@pytest.fixture
def world() -> World:
    return World(rooms={"rules": RULES})


def join(world: World, user: str | None, room: str = "chat", *, watch: bool = False) -> Peer:
    peer = world.open(user)
    peer.take()
    peer.sent = world.say(peer, type="join", room=room, presence=watch)
    return peer


def tick(world: World, seconds: float = 0.1) -> None:
    world.now += seconds
    world.presence.tick(world.now)


def user(name: str, devices: int = 1) -> dict[str, Any]:
    return {"user": name, "devices": devices}


def test_join_with_presence_tells_who_is_there_and_then_what_changes(world: World) -> None:
    join(world, "ann")
    join(world, "ann")
    bob = join(world, "bob", watch=True)
    assert bob.take() == [
        {"type": "presence_state", "room": "chat", "count": 2}
        | {"users": [user("ann", 2), user("bob")]}
    ]
    tick(world)
    assert bob.take() == []
    cat = join(world, "cat")
    tick(world)
    assert bob.take() == [
        {"type": "user_joined", "room": "chat", "users": [user("cat")], "count": 3}
    ]
    world.say(cat, type="leave", room="chat")
    tick(world)
    assert bob.take() == [{"type": "user_left", "room": "chat", "users": ["cat"], "count": 2}]


def test_a_lost_connection_is_a_leave_only_after_the_grace_time(world: World) -> None:
    ann = join(world, "ann")
    bob = join(world, "bob", watch=True)
    bob.take()
    world.leave(ann)
    tick(world, 4.9)
    ann = join(world, "ann")
    tick(world, 10.0)
    assert bob.take() == []
    world.leave(ann)
    tick(world, 5.0)
    assert bob.take() == [{"type": "user_left", "room": "chat", "users": ["ann"], "count": 1}]


def test_changes_between_two_looks_are_told_together(world: World) -> None:
    bob = join(world, "bob", watch=True)
    bob.take()
    for name in ("ann", "cat", "dan"):
        join(world, name)
    tick(world)
    (told,) = bob.take()
    assert [one["user"] for one in told["users"]] == ["ann", "cat", "dan"]
    assert told["count"] == 4


def test_who_watches_later_is_not_told_again_what_the_state_has(world: World) -> None:
    first = join(world, "bob", watch=True)
    first.take()
    join(world, "ann")
    second = join(world, "cat", watch=True)
    assert [one["user"] for one in second.take()[-1]["users"]] == ["bob", "ann", "cat"]
    tick(world)
    assert second.take() == []
    assert [message["type"] for message in first.take()] == ["user_joined"]


@pytest.mark.parametrize("how", [{"type": "presence"}, {"type": "join", "presence": True}])
def test_who_looks_again_is_not_told_again_what_the_state_has(
    world: World, how: dict[str, Any]
) -> None:
    bob = join(world, "bob", watch=True)
    bob.take()
    join(world, "ann")
    assert world.say(bob, room="chat", **how)[-1]["count"] == 2
    tick(world)
    assert bob.take() == []


def test_changes_that_could_not_be_sent_are_made_good_by_the_state(world: World) -> None:
    bob = join(world, "bob", watch=True)
    bob.take()
    world.fanout.full = True
    ann = join(world, "ann")
    tick(world)
    world.say(ann, type="leave", room="chat")
    tick(world)
    assert bob.take() == []
    world.fanout.full = False
    tick(world)
    assert bob.take() == [
        {"type": "presence_state", "room": "chat", "count": 1, "users": [user("bob")]}
    ]
    tick(world)
    assert bob.take() == []


def test_a_count_is_not_told_to_all_for_each_who_comes_to_watch(world: World) -> None:
    watchers = [join(world, name, "big", watch=True) for name in ("ann", "bob", "cat", "dan")]
    for watcher in watchers:
        watcher.take()
    for name in ("eve", "fay", "gil"):
        join(world, name, "big", watch=True)
    assert watchers[0].take() == []
    tick(world, 1.0)
    assert watchers[0].take() == [{"type": "presence_count", "room": "big", "count": 7}]


def test_a_big_room_tells_counts_once_a_second_and_names_again_when_it_is_small(
    world: World,
) -> None:
    bob = join(world, "bob", "big", watch=True)
    bob.take()
    others = [join(world, name, "big") for name in ("ann", "cat")]
    tick(world)
    assert bob.take() == [{"type": "presence_count", "room": "big", "count": 3}]
    others.append(join(world, "dan", "big"))
    tick(world)
    assert bob.take() == []
    tick(world, 1.0)
    assert bob.take() == [{"type": "presence_count", "room": "big", "count": 4}]
    (state,) = world.say(bob, type="presence", room="big", id=1)
    assert state == {"type": "presence_state", "room": "big", "count": 4, "id": 1}
    for other in others[:2]:
        world.say(other, type="leave", room="big")
    tick(world)
    assert bob.take() == [
        {"type": "presence_state", "room": "big", "count": 2, "users": [user("bob"), user("dan")]}
    ]


def test_info_of_the_token_is_shown(world: World) -> None:
    ann = world.open("ann")
    ann.lease.claims = Claims(info=b'{"name":"Ann"}')
    world.say(ann, type="join", room="chat")
    ann.take()
    (state,) = world.say(ann, type="presence", room="chat")
    assert state["users"] == [{"user": "ann", "devices": 1, "info": {"name": "Ann"}}]


def test_anonymous_members_are_no_users_until_they_say_who_they_are(world: World) -> None:
    peer = join(world, None, watch=True)
    assert peer.take()[-1] == {"type": "presence_state", "room": "chat", "count": 0, "users": []}
    world.say(peer, type="auth", token=world.token("ann"))
    peer.take()
    tick(world)
    assert [message["type"] for message in peer.take()] == ["user_joined"]
    world.leave(peer)
    tick(world, 5.0)
    assert world.presence.state("chat") == (0, [])


@pytest.mark.parametrize(
    ("room", "joined", "code"),
    [("chat", False, "not_joined"), ("attic", True, "no_presence")],
)
def test_presence_is_refused_where_there_is_none(
    world: World, room: str, joined: bool, code: str
) -> None:
    peer = join(world, "ann", room) if joined else world.open("ann")
    peer.take()
    assert world.say(peer, type="presence", room=room, id=1) == [error(code, id=1)]


def test_join_with_presence_of_a_room_that_shows_nobody_is_a_join(world: World) -> None:
    peer = join(world, "ann", "attic", watch=True)
    assert peer.take() == []
    assert peer.rooms == ("attic",)


def test_leaving_ends_the_watch(world: World) -> None:
    bob = join(world, "bob", watch=True)
    world.say(bob, type="leave", room="chat")
    bob.take()
    join(world, "ann")
    tick(world)
    assert bob.take() == []
    assert not world.presence._watched


def test_what_a_slow_connection_missed_is_made_good_by_the_state(world: World) -> None:
    bob = join(world, "bob", watch=True)
    bob.take()
    world.app.gaps(bob, {"\0presence:chat", "\0presence:left"})  # type: ignore[arg-type]
    assert [message["type"] for message in bob.take()] == ["presence_state"]


def test_a_rule_that_changes_leaves_no_user_behind(world: World) -> None:
    ann = join(world, "ann")
    world.rules.apply([])
    world.leave(ann)
    bob = join(world, "bob")
    world.rules.apply(world.settings.rooms.rules)
    world.leave(bob)
    tick(world, 5.0)
    assert world.presence.state("chat") == (0, [])
    assert not world.presence._counted
