"""Messages about rooms: what each does, and what is said to whom."""

from __future__ import annotations

import pytest

from tests.unit.node.native.native_world import World, error
from tidegate.core.admission.attempt import Claims
from tidegate.core.admission.shedding import Profile, Zone

# Limits.


def test_join_of_a_user_with_too_many_rooms_is_refused_on_every_connection() -> None:
    world = World(limits={"rooms_per_user": 1})
    world.member("lobby", "ann")
    other = world.member("lobby", "ann")
    assert other.rooms == ("lobby",)
    assert world.say(other, type="join", room="hall", id=1) == [error("too_many_user_rooms", id=1)]
    assert world.member("hall", "bob").rooms == ("hall",)


def test_join_with_too_many_connections_of_a_user_is_refused_until_one_leaves() -> None:
    world = World(rooms={"rules": [{"members_per_user": 1}]})
    first = world.member("lobby", "ann")
    second = world.open("ann")
    second.take()
    assert world.say(second, type="join", room="lobby", id=1) == [error("room_user_limit", id=1)]
    world.leave(first)
    assert world.say(second, type="join", room="lobby", id=2)[0]["type"] == "ack"


def test_message_beyond_the_rate_of_the_room_is_refused_with_the_delay() -> None:
    rule = {"pattern": "chat", "publish_per_second": 0.5, "publish_burst": 2}
    world = World(rooms={"rules": [rule]})
    ann, bob = world.member("chat", "ann"), world.member("chat", "bob")
    for peer in (ann, bob):
        answers = world.say(peer, type="room_message", room="chat", data=0, echo=False, id=1)
        assert {"type": "ack", "id": 1} in answers
    for peer in (ann, bob):
        peer.take()
    for peer in (ann, bob):
        answers = world.say(peer, type="room_message", room="chat", data=0, id=3)
        assert answers == [error("room_rate", id=3, retryAfter=2)]
    assert ann.refusals_left == 20  # others used the rate up, so it is no abuse
    ann.shared.poller.now = bob.shared.poller.now = 2.0
    world.say(bob, type="room_message", room="chat", data="late")
    assert ann.take()[0]["data"] == "late"
    assert world.room_rates.refused == 2


def test_message_that_may_not_be_published_does_not_count_in_the_rate() -> None:
    rule = {"pattern": "chat", "publish": "users", "publish_per_second": 1, "publish_burst": 1}
    world = World(rooms={"rules": [rule]}, anonymous={"join": ["*"]})
    stranger, ann = world.member("chat"), world.member("chat", "ann")
    answers = world.say(stranger, type="room_message", room="chat", data=0, id=1)
    assert answers == [error("not_allowed", id=1)]
    assert world.say(ann, type="room_message", room="chat", data=0, echo=False, id=2) == [
        {"type": "ack", "id": 2}
    ]


# Join.


def test_join_with_an_id_says_how_many_are_there(world: World) -> None:
    world.member("lobby")
    peer = world.open()
    peer.take()
    assert world.say(peer, type="join", room="lobby", id="1") == [
        {"type": "ack", "id": "1", "members": 2}
    ]
    assert peer.rooms == ("lobby",)


def test_join_without_an_id_is_done_and_not_answered(world: World) -> None:
    peer = world.open()
    peer.take()
    assert world.say(peer, type="join", room="lobby") == []
    assert peer.rooms == ("lobby",)


def test_join_of_a_member_counts_once(world: World) -> None:
    peer = world.member("lobby")
    before = list(world.fanout.events)
    assert world.say(peer, type="join", room="lobby", id=0) == [
        {"type": "ack", "id": 0, "members": 1}
    ]
    assert world.fanout.events == before
    assert peer.rooms == ("lobby",)


def test_join_with_publications_on_their_way_settles_them_before_the_member_is_added(
    world: World,
) -> None:
    world.member("lobby")
    world.member("lobby")
    assert world.fanout.events == [("before_join", "lobby", 0), ("before_join", "lobby", 1)]


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"per_room": 1}, "room_limit"), ({"rooms_per_connection": 0}, "too_many_rooms")],
)
def test_join_beyond_a_limit_is_refused(limits: dict[str, int], code: str) -> None:
    world = World(limits=limits)
    world.member("lobby")
    peer = world.open()
    peer.take()
    assert world.say(peer, type="join", room="lobby", id=5) == [error(code, id=5)]
    assert peer.rooms == ()
    assert peer.open


def test_join_whose_member_ends_while_it_is_acknowledged_leaves_nothing(world: World) -> None:
    peer = world.open("ann")
    peer.on_send = lambda: world.leave(peer)
    world.say(peer, type="join", room="lobby", id=1)
    assert (len(world.rooms), len(world.users), world.tracker.open) == (0, 0, 0)


# Leave.


def test_leave_of_a_member_is_acknowledged_and_of_another_refused(world: World) -> None:
    peer = world.member("lobby")
    world.fanout.events.clear()
    assert world.say(peer, type="leave", room="lobby", id=1) == [{"type": "ack", "id": 1}]
    assert world.fanout.events == [("on_leave", "lobby", 0)]
    assert world.say(peer, type="leave", room="lobby", id=2) == [error("not_joined", id=2)]
    assert len(world.fanout.events) == 1


def test_leave_without_an_id_is_answered_only_when_it_is_refused(world: World) -> None:
    peer = world.member("lobby")
    assert world.say(peer, type="leave", room="lobby") == []
    assert world.say(peer, type="leave", room="lobby") == [error("not_joined")]


def test_connection_that_ends_is_in_no_room_and_under_no_user(world: World) -> None:
    peer = world.member("a", "ann")
    world.say(peer, type="join", room="b")
    world.fanout.events.clear()
    world.leave(peer)
    assert (len(world.rooms), len(world.users), peer.rooms) == (0, 0, ())
    assert world.fanout.events == [("on_leave", "a", 0), ("on_leave", "b", 0)]


# Messages to a room.


def test_room_message_reaches_every_member_once(world: World) -> None:
    ann, bob, eve = world.member("lobby", "ann"), world.member("lobby"), world.member("other")
    message = {"type": "room_message", "room": "lobby", "data": {"text": "hé", "n": [1, None]}}
    expected = {**message, "from": "ann", "connectionId": ann.id}
    assert world.say(ann, **message) == [expected]
    assert bob.take() == [expected]
    assert eve.take() == []
    assert len(world.fanout.frames) == 1


def test_room_message_with_an_id_is_acknowledged_to_its_sender(world: World) -> None:
    ann, bob = world.member("lobby", "ann"), world.member("lobby")
    said = world.say(ann, type="room_message", room="lobby", data=1, id=3)
    assert sorted(message["type"] for message in said) == ["ack", "room_message"]
    assert {"type": "ack", "id": 3} in said
    assert [message["type"] for message in bob.take()] == ["room_message"]


def test_room_message_of_an_anonymous_sender_is_from_null(world: World) -> None:
    peer = world.member("lobby")
    (said,) = world.say(peer, type="room_message", room="lobby", data=1)
    assert (said["from"], said["connectionId"]) == (None, peer.id)


def test_room_message_without_echo_is_acknowledged_and_not_repeated(world: World) -> None:
    ann, bob = world.member("lobby", "ann"), world.member("lobby")
    said = world.say(ann, type="room_message", room="lobby", data=1, echo=False, id="x")
    assert said == [{"type": "ack", "id": "x"}]
    assert [message["data"] for message in bob.take()] == [1]


def test_room_message_goes_out_with_its_data_as_it_came(world: World) -> None:
    peer = world.member("lobby")
    world.give(peer, '{"type":"room_message","room":"lobby","data":{"a": 1.10, "a":"\\u00e9"}}')
    assert b'"data":{"a": 1.10, "a":"\\u00e9"},' in world.fanout.frames[0]


def test_room_message_of_a_stranger_is_refused(world: World) -> None:
    bob, eve = world.member("lobby"), world.member("other")
    said = world.say(eve, type="room_message", room="lobby", data=1, id=9)
    assert said == [error("not_joined", id=9)]
    assert bob.take() == []


def test_room_message_beyond_the_backlog_is_refused_with_a_delay(world: World) -> None:
    peer = world.member("lobby")
    world.fanout.full = True
    said = world.say(peer, type="room_message", room="lobby", data=1, id=9)
    assert said == [error("overloaded", id=9, retryAfter=1)]


def test_room_message_while_broadcast_is_off_is_refused_until_it_is_on_again(world: World) -> None:
    ann, bob = world.member("a", "ann"), world.member("a", "bob")
    world.app.profile_changed(Zone.EMERGENCY, Profile(False, 100, 5.0, 120.0), True)
    answer = world.say(ann, type="room_message", room="a", data=1, id=7)
    assert answer == [error("broadcast_off", id=7, retryAfter=10)]
    assert bob.take() == []
    stranger = world.say(ann, type="room_message", room="b", data=1)
    assert stranger == [error("not_joined")]
    # The rest works.
    assert world.say(ann, type="direct_message", user="bob", data=1, id=8)[0]["type"] == "ack"
    assert [message["type"] for message in bob.take()] == ["direct_message"]
    world.app.profile_changed(Zone.NORMAL, Profile(True, 1 << 20, 100.0, 30.0), False)
    assert len(world.say(ann, type="room_message", room="a", data=1, id=9)) == 2


# Rules of rooms.


def test_join_is_allowed_by_the_rule_of_the_room_and_the_claims_of_the_token() -> None:
    rules = [{"pattern": "chat:*", "join": "token"}, {"pattern": "news", "publish": "nobody"}]
    world = World(rooms={"rules": rules})
    ann, bob = world.open("ann", claims=Claims(rooms=("chat:1",))), world.open("bob")
    ann.take()
    bob.take()
    assert world.say(ann, type="join", room="chat:1") == []
    assert world.say(ann, type="join", room="chat:2", id=1) == [error("not_allowed", id=1)]
    assert world.say(bob, type="join", room="chat:1", id=2) == [error("not_allowed", id=2)]
    assert world.say(bob, type="join", room="news") == []
    said = world.say(bob, type="room_message", room="news", data=1, id=3)
    assert said == [error("not_allowed", id=3)]


def test_a_newer_token_brings_its_claims_and_the_member_stays() -> None:
    world = World(rooms={"rules": [{"pattern": "*", "join": "token"}]})
    ann = world.open("ann", claims=Claims(rooms=("a",)))
    world.say(ann, type="join", room="a")
    world.say(ann, type="auth", token=world.token())
    assert world.say(ann, type="join", room="b", id=1) == [error("not_allowed", id=1)]
    assert ann.rooms == ("a",)


def test_the_rule_says_how_many_members_a_room_has() -> None:
    rules = [{"pattern": "pair:*", "members": 1}, {"pattern": "all", "members": 3}]
    world = World(rooms={"rules": rules}, limits={"per_room": 2})
    for room, most in (("pair:1", 1), ("all", 3), ("other", 2)):
        peers = [world.open() for _ in range(most + 1)]
        for peer in peers:
            peer.take()
        said = [world.say(peer, type="join", room=room, id=1)[0]["type"] for peer in peers]
        assert said == ["ack"] * most + ["error"]


# Clients without a token.


def test_join_of_an_anonymous_client_is_refused_where_that_is_not_allowed() -> None:
    world = World(anonymous={"join": ["lobby", "news.*"]})
    peer, ann = world.open(), world.open("ann")
    peer.take()
    ann.take()
    assert world.say(peer, type="join", room="staff", id=1) == [error("not_allowed", id=1)]
    for room in ("lobby", "news.sport"):
        assert world.say(peer, type="join", room=room) == []
    assert peer.rooms == ("lobby", "news.sport")
    assert world.say(ann, type="join", room="staff") == []
    assert ann.rooms == ("staff",)


def test_message_of_an_anonymous_member_is_refused_where_that_is_not_allowed() -> None:
    world = World(anonymous={"publish": ["lobby"]})
    peer, ann = world.open(), world.open("ann")
    for each in (peer, ann):
        for room in ("lobby", "news"):
            world.say(each, type="join", room=room)
        each.take()
    refused = world.say(peer, type="room_message", room="news", data=1, id=1)
    assert refused == [error("not_allowed", id=1)]
    assert ann.take() == []
    world.say(peer, type="room_message", room="lobby", data=2)
    assert [said["data"] for said in ann.take()] == [2]
    world.say(ann, type="room_message", room="news", data=3)
    assert [said["data"] for said in peer.take()][-1] == 3
