"""Rooms, publications and direct messages of one node, over the backplane in memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.aio import run
from tests.support.brokers import ToyBroker
from tests.support.delivery import FakeNode
from tests.support.members import EVER
from tidegate.core.codes import NOT_JOINED, OVERLOADED, ROOM_LIMIT, TOO_MANY_ROOMS
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.engine import fanout as fanout_module


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


# Joining and leaving.


def test_join_of_a_room_is_confirmed_in_the_same_turn(node: FakeNode) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    node.join(bob)
    assert node.answers == [None, None]
    assert list(node.rooms.members("room")) == [ann, bob]


def test_join_of_a_room_that_it_is_in_is_confirmed_and_changes_nothing(node: FakeNode) -> None:
    ann = node.connect("ann")
    node.join(ann)
    node.join(ann)
    assert node.answers == [None, None]
    assert ann.rooms == ("room",)
    assert node.rooms.count("room") == 1


@pytest.mark.parametrize(
    ("per_room", "per_connection", "fault"), [(1, 9, ROOM_LIMIT), (9, 1, TOO_MANY_ROOMS)]
)
def test_join_beyond_a_limit_is_refused(per_room: int, per_connection: int, fault: object) -> None:
    broker = ToyBroker(late=0)
    node = FakeNode(broker, per_room, per_connection)
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann, "other")
    node.join(bob)
    node.join(ann)
    assert node.answers == [None, None, fault]
    assert ann.rooms == ("other",)
    assert broker.wanted == {"other", "room"}


def test_join_beyond_a_limit_subscribes_to_nothing() -> None:
    broker = ToyBroker(late=0)
    node = FakeNode(broker, per_room=0)
    node.join(node.connect("ann"))
    assert node.answers == [ROOM_LIMIT]
    assert (broker.wanted, broker.log) == (set(), [])


def test_join_of_a_connection_that_is_not_open_is_ignored(node: FakeNode) -> None:
    ann = node.connect("ann")
    ann.open = False
    node.join(ann)
    assert node.answers == []
    assert (ann.rooms, len(node.rooms)) == ((), 0)


def test_join_after_a_publication_does_not_get_it(node: FakeNode) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    node.publish(b"1")
    node.join(bob)
    node.publish(b"2")
    node.fanout.step(EVER)
    assert (b"".join(ann.got), bob.got) == (b"None:1;None:2;", [b"None:2;"])


def test_leave_of_a_room_ends_what_comes_of_it(node: FakeNode) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    node.join(bob)
    node.publish(b"1")
    node.join(node.connect("cat"))  # what was published is sealed with its members
    assert node.delivery.leave(ann, "room") is None
    node.publish(b"2")
    node.fanout.step(EVER)
    assert (ann.got, b"".join(bob.got)) == ([], b"None:1;None:2;")


def test_leave_of_a_room_that_it_is_not_in_is_refused(node: FakeNode) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")
    assert node.delivery.leave(ann, "room") is NOT_JOINED
    node.join(bob)
    assert node.delivery.leave(ann, "room") is NOT_JOINED
    assert list(node.rooms.members("room")) == [bob]


def test_leave_of_the_last_member_unsubscribes() -> None:
    broker = ToyBroker(late=0)
    node = FakeNode(broker)
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    node.join(bob)
    assert broker.log == [("room", None)]
    node.delivery.leave(ann, "room")
    assert broker.wanted == {"room"}
    node.delivery.leave(bob, "room")
    assert broker.wanted == set()
    node.join(ann)
    assert broker.log == [("room", None)] * 2


def test_gone_takes_a_connection_out_of_everything() -> None:
    broker = ToyBroker(late=0)
    node = FakeNode(broker)
    ann, bob = node.connect("ann", user="a"), node.connect("bob", user="b")
    for room in ("room", "other"):
        node.join(ann, room)
    node.join(bob)
    node.publish(b"1", ann, echo=False)
    node.publish(b"2")
    node.delivery.gone(ann)
    node.delivery.gone(ann)
    node.fanout.step(EVER)
    assert (ann.got, bob.got) == ([], [b"None:1;None:2;"])
    assert broker.wanted == {"room"}
    assert "a" not in node.users
    assert "b" in node.users
    assert (node.delivery._subscribing, node.delivery._origins) == ({}, {})


# Publications.


def test_publish_to_several_subprotocols_encodes_once_for_each(node: FakeNode) -> None:
    members = [node.connect(str(number), subprotocol="jm"[number % 2]) for number in range(4)]
    for member in members:
        node.join(member)
    node.publish(b"1")
    assert node.encoded == []
    node.fanout.step(EVER)
    assert node.encoded == [(b"1", "j"), (b"1", "m")]
    assert [member.got for member in members] == [[b"j:1;"], [b"m:1;"]] * 2
    assert node.answers == [None] * 5


def test_publish_to_a_room_without_members_is_no_error_and_costs_nothing(node: FakeNode) -> None:
    node.publish(b"1")
    assert node.answers == [None]
    assert (node.fanout.backlog, node.fanout.step(EVER), node.encoded) == (0, False, [])


def test_publish_beyond_the_backlog_is_overloaded(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout_module, "_BACKLOG_BYTES", 2000)
    ann = node.connect("ann")
    node.join(ann)
    node.publish(b"x" * 1000)
    node.publish(b"x" * 1000)
    node.fanout.step(EVER)
    node.publish(b"x" * 1000)
    assert node.answers == [None, None, OVERLOADED, None]


def test_publish_of_very_many_tiny_ones_is_bounded_too(node: FakeNode) -> None:
    node.join(node.connect("ann"))
    for _ in range(50_000):
        node.publish(b"")
        if node.answers[-1] is OVERLOADED:
            break
    assert 10_000 < len(node.answers) < 50_000


def test_publish_without_echo_leaves_out_the_connection_that_published(node: FakeNode) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    node.join(bob)
    node.publish(b"1", ann)
    node.publish(b"2", ann, echo=False)
    node.publish(b"3", bob, echo=False)
    node.fanout.step(EVER)
    assert (ann.got, bob.got) == ([b"None:1;None:3;"], [b"None:1;None:2;"])


def test_publish_without_echo_by_no_connection_goes_to_all(node: FakeNode) -> None:
    ann = node.connect("ann")
    node.join(ann)
    node.publish(b"1", ann, echo=False)
    node.publish(b"2", None, echo=False)
    node.delivery.publish(Publication("room", b"3", connection="bob", echo=False), print, None)
    node.fanout.step(EVER)
    assert ann.got == [b"None:2;None:3;"]


def test_publish_by_a_connection_that_is_gone_leaves_nothing_behind(node: FakeNode) -> None:
    ann = node.connect("ann")
    ann.open = False
    node.delivery.gone(ann)
    node.publish(b"1", ann, echo=False)
    assert node.delivery._origins == {}


def test_publish_with_an_echo_remembers_nobody(node: FakeNode) -> None:
    ann = node.connect("ann")
    node.publish(b"1", ann)
    assert node.delivery._origins == {}


# Direct messages.


def test_send_to_a_user_tells_its_open_connections_and_counts_them(node: FakeNode) -> None:
    for name, user in (("1", "ann"), ("2", "ann"), ("3", "bob"), ("4", "ann")):
        node.connect(name, user=user).open = name != "2"
    node.delivery.send(Direct("ann", b"hello"), node.answers.append)
    node.delivery.send(Direct("eve", b"hello"), node.answers.append)
    assert sorted(node.told) == [("1", b"hello"), ("4", b"hello")]
    assert node.answers == [2, 0]


def test_send_to_a_connection_that_ends_another_tells_that_no_more(node: FakeNode) -> None:
    devices = [node.connect(str(number), user="ann") for number in range(3)]

    def tell(connection: Any, message: Direct) -> None:
        node.told.append((connection.id, message.data))
        for other in devices:
            if other is not connection:
                other.open = False
                node.delivery.gone(other)

    run(node.delivery.start(node.encode, node.encode_delta, tell))
    node.delivery.send(Direct("ann", b"hello"), node.answers.append)
    assert (len(node.told), node.answers) == (1, [1])
    assert len(node.users.of_user("ann")) == 1


def test_stop_stops_the_broker() -> None:
    broker = ToyBroker()
    node = FakeNode(broker)
    run(node.delivery.stop())
    assert broker.stopped
