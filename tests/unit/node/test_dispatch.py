"""What each message of the native protocol does, and what is said to whom."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_node import Node, error

from tidegate.core.codes import REASONS


@pytest.fixture
def node() -> Node:
    return Node()


# Opening and closing.


def test_a_connection_is_welcomed() -> None:
    node = Node(
        limits={"connections": 3},
        heartbeat={"interval": 25},
        messages={"max_size": 5000},
    )
    node.open("bob")
    assert node.open("ann").take() == [
        {
            "type": "connected",
            "connectionId": "n-2",
            "userId": "ann",
            "settings": {
                "pingInterval": 25,
                "maxMessageSize": 5000,
                "messagesPerSecond": 100,
                "broadcast": True,
            },
            "degraded": False,
            "utilization": 0.6667,
        }
    ]
    assert "ann" in node.users


def test_an_anonymous_connection_is_welcomed_without_a_user(node: Node) -> None:
    assert node.open().take()[0]["userId"] is None
    assert len(node.users) == 0


def test_a_closed_connection_is_nowhere(node: Node) -> None:
    peer = node.member("a", "ann")
    node.say(peer, type="join", room="b")
    node.fanout.events.clear()
    node.leave(peer)
    assert (len(node.rooms), len(node.users), peer.rooms) == (0, 0, ())
    assert node.fanout.events == [("on_leave", "a", 0), ("on_leave", "b", 0)]


# Rooms.


def test_join_says_how_many_are_there(node: Node) -> None:
    node.member("lobby")
    peer = node.open()
    peer.take()
    assert node.say(peer, type="join", room="lobby", id="1") == [
        {"type": "ack", "id": "1", "members": 2}
    ]
    assert peer.rooms == ("lobby",)


def test_joining_twice_counts_once(node: Node) -> None:
    peer = node.member("lobby")
    before = list(node.fanout.events)
    assert node.say(peer, type="join", room="lobby", id=0) == [
        {"type": "ack", "id": 0, "members": 1}
    ]
    assert node.fanout.events == before


def test_what_was_said_before_is_settled_before_a_member_is_added(node: Node) -> None:
    node.member("lobby")
    node.member("lobby")
    assert node.fanout.events == [("before_join", "lobby", 0), ("before_join", "lobby", 1)]


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"per_room": 1}, "room_limit"), ({"rooms_per_connection": 0}, "too_many_rooms")],
)
def test_a_join_beyond_a_limit_is_refused(limits: dict[str, int], code: str) -> None:
    node = Node(limits=limits)
    node.member("lobby")
    peer = node.open()
    peer.take()
    assert node.say(peer, type="join", room="lobby", id=5) == [error(code, id=5)]
    assert peer.rooms == ()
    assert peer.open


def test_leave(node: Node) -> None:
    peer = node.member("lobby")
    node.fanout.events.clear()
    assert node.say(peer, type="leave", room="lobby", id=1) == [{"type": "ack", "id": 1}]
    assert node.fanout.events == [("on_leave", "lobby", 0)]
    assert node.say(peer, type="leave", room="lobby", id=2) == [error("not_joined", id=2)]
    assert len(node.fanout.events) == 1


def test_a_room_message_reaches_every_member_once(node: Node) -> None:
    ann, bob, eve = node.member("lobby", "ann"), node.member("lobby"), node.member("other")
    message = {"type": "room_message", "room": "lobby", "data": {"text": "hé", "n": [1, None]}}
    expected = {**message, "from": "ann", "connectionId": ann.id}
    assert node.say(ann, **message) == [expected]
    assert bob.take() == [expected]
    assert eve.take() == []
    assert len(node.fanout.frames) == 1


def test_a_room_message_without_echo_is_acknowledged_but_not_repeated(node: Node) -> None:
    ann, bob = node.member("lobby", "ann"), node.member("lobby")
    said = node.say(ann, type="room_message", room="lobby", data=1, echo=False, id="x")
    assert said == [{"type": "ack", "id": "x"}]
    assert [message["data"] for message in bob.take()] == [1]


def test_data_goes_out_as_it_came_in(node: Node) -> None:
    peer = node.member("lobby")
    node.give(peer, '{"type":"room_message","room":"lobby","data":{"a": 1.10, "a":"\\u00e9"}}')
    assert b'"data":{"a": 1.10, "a":"\\u00e9"},' in node.fanout.frames[0]


def test_only_members_speak_in_a_room(node: Node) -> None:
    bob, eve = node.member("lobby"), node.member("other")
    said = node.say(eve, type="room_message", room="lobby", data=1, id=9)
    assert said == [error("not_joined", id=9)]
    assert bob.take() == []


def test_a_full_backlog_is_told_with_a_delay(node: Node) -> None:
    peer = node.member("lobby")
    node.fanout.full = True
    said = node.say(peer, type="room_message", room="lobby", data=1, id=9)
    assert said == [error("overloaded", id=9, retryAfter=1)]


def test_a_member_that_ends_while_its_join_is_acknowledged_leaves_nothing(node: Node) -> None:
    peer = node.open("ann")
    peer.on_send = lambda: node.leave(peer)
    node.say(peer, type="join", room="lobby", id=1)
    assert (len(node.rooms), len(node.users), node.tracker.open) == (0, 0, 0)


# Direct messages.


def test_a_direct_message_reaches_all_devices_of_its_user(node: Node) -> None:
    ann = node.open("ann")
    phone, laptop, eve = node.open("bob"), node.open("bob"), node.open("eve")
    for peer in (ann, phone, laptop, eve):
        peer.take()
    said = node.say(ann, type="direct_message", user="bob", data="hi", id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 2}]
    expected = {"type": "direct_message", "data": "hi", "from": "ann", "connectionId": ann.id}
    assert phone.take() == laptop.take() == [expected]
    assert eve.take() == []


def test_a_direct_message_to_nobody_is_delivered_to_none(node: Node) -> None:
    ann = node.open("ann")
    ann.take()
    said = node.say(ann, type="direct_message", user="nobody", data=1, id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 0}]
    assert node.say(ann, type="direct_message", user="nobody", data=1) == []


def test_a_direct_message_passes_by_a_closing_device(node: Node) -> None:
    ann, phone, laptop = node.open("ann"), node.open("bob"), node.open("bob")
    ann.take()
    phone.close()
    said = node.say(ann, type="direct_message", user="bob", data=1, id=1)
    assert said == [{"type": "ack", "id": 1, "delivered": 1}]
    assert laptop.take()[-1]["data"] == 1


def test_devices_may_end_while_they_are_sent_to(node: Node) -> None:
    ann = node.open("ann")
    devices = [node.open("bob") for _ in range(3)]
    for device in devices:
        device.on_send = lambda device=device: node.leave(device)  # type: ignore[misc]
    node.say(ann, type="direct_message", user="bob", data=1)
    assert "bob" not in node.users
    assert not any(device.open for device in devices)


# Errors.


@pytest.mark.parametrize(
    ("data", "code", "id_"),
    [
        ("nonsense", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        ("[" * 100_000, "invalid_json", None),
        ('{"type":"room_message","room":"a","data":' + "[" * 100_000, "invalid_json", None),
        ('{"type":"dance","id":"x"}', "unknown_type", "x"),
        ('{"type":"join","room":7,"id":"x"}', "invalid_field", "x"),
        ('{"type":"room_message","room":"a","id":8}', "invalid_field", 8),
        ('{"type":"join","room":"\\u0000","id":8}', "invalid_field", 8),
    ],
)
def test_errors_carry_the_id_and_leave_the_connection_open(
    node: Node, data: str | bytes, code: str, id_: object
) -> None:
    peer = node.open()
    peer.take()
    (said,) = node.give(peer, data)
    assert (said["type"], said["code"], said.get("id")) == ("error", code, id_)
    assert said["message"]
    assert said["code"] in REASONS
    assert peer.open
    label = "unknown" if code == "unknown_type" else "invalid"
    assert node.stats.messages_received[label] == 1


def test_a_binary_message_is_read_like_text(node: Node) -> None:
    peer = node.open()
    peer.take()
    assert node.give(peer, b'{"type":"join","room":"lobby","id":1}') == [
        {"type": "ack", "id": 1, "members": 1}
    ]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"type":"join","room":"aaaa"}', True),
        ('{"type":"join","room":"aaaaa"}', False),
        ('{"type":"join","room":"éé"}', True),
        ('{"type":"join","room":"ééa"}', False),
        ('{"type":"join","room":"\U0001f600"}', True),
    ],
)
def test_the_size_of_a_message_is_counted_in_bytes(text: str, fits: bool) -> None:
    node = Node(messages={"max_size": len('{"type":"join","room":"aaaa"}')})
    for data in (text, text.encode()):
        peer = node.open()
        peer.take()
        assert node.give(peer, data) == ([] if fits else [error("too_big")])
    assert node.stats.messages_received["invalid"] == (0 if fits else 2)


def test_messages_are_counted_by_type_under_a_fixed_set_of_labels(node: Node) -> None:
    labels = {
        *("join", "leave", "room_message", "direct_message", "auth"),
        *("unknown", "invalid"),
    }
    assert set(node.stats.messages_received) == labels
    peer = node.member("lobby")
    node.say(peer, type="room_message", room="lobby", data=1)
    node.say(peer, type="dance")
    node.say(peer, type="<made up>")
    node.give(peer, "x")
    counts = dict(node.stats.messages_received)
    assert {label: count for label, count in counts.items() if count} == {
        "join": 1,
        "room_message": 1,
        "unknown": 2,
        "invalid": 1,
    }
    assert set(counts) == labels


@given(st.text(max_size=40) | st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_is_answered(data: str | bytes) -> None:
    node = Node()
    peer = node.open()
    peer.take()
    assert [message["type"] for message in node.give(peer, data)] == ["error"]
