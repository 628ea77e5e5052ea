"""Delivery over a backplane that answers late, loses and repeats."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.support.aio import run
from tests.support.brokers import ToyBroker
from tests.support.delivery import FakeNode
from tests.support.members import EVER
from tidegate.core.codes import NOT_JOINED, OVERLOADED
from tidegate.core.messaging.publication import Direct


@pytest.fixture
def broker() -> ToyBroker:
    return ToyBroker(late=4)


@pytest.fixture
def node(broker: ToyBroker) -> FakeNode:
    return FakeNode(broker)


def join(node: FakeNode, *names: str) -> list[Any]:
    """Connect and join; the answers are names, with the fault if there is one."""
    connections = [node.connect(name) for name in names]
    for connection in connections:
        node.delivery.join(connection, "room", partial(answered, node, connection.id))
    return connections


def answered(node: FakeNode, name: str, fault: object) -> None:
    node.answers.append(name if fault is None else (name, fault))


def got(connection: Any) -> bytes:
    """The texts that a connection got."""
    return b"".join(connection.got).replace(b"None:", b"").replace(b";", b"")


# Joining.


def test_join_of_several_is_told_when_the_broker_has_confirmed(
    node: FakeNode, broker: ToyBroker
) -> None:
    join(node, "ann", "bob")
    broker.step()
    join(node, "cat")
    for _ in range(2):
        broker.step()
        assert node.answers == []
    broker.step()
    assert node.answers == ["ann", "bob", "cat"]
    join(node, "dan")
    assert node.answers[3:] == ["dan"]
    assert broker.log == [("room", None)]


def test_join_twice_before_the_answer_is_told_twice(node: FakeNode, broker: ToyBroker) -> None:
    (ann,) = join(node, "ann")
    node.join(ann)
    assert node.answers == []
    broker.settle()
    assert node.answers == ["ann", None]


def test_join_that_the_broker_refuses_takes_all_out_again(
    node: FakeNode, broker: ToyBroker
) -> None:
    broker.faults["room"] = OVERLOADED
    ann, bob = join(node, "ann", "bob")
    node.join(ann, "other")
    node.publish(b"1")
    broker.settle()
    assert sorted(node.answers, key=str) == [("ann", OVERLOADED), ("bob", OVERLOADED), None, None]
    assert (ann.rooms, bob.rooms, node.rooms.count("room")) == (("other",), (), 0)
    assert broker.wanted == broker.subscribed == {"other"}
    assert node.delivery.leave(bob, "room") is NOT_JOINED
    node.fanout.step(EVER)
    assert (ann.got, bob.got) == ([], [])
    assert node.delivery._subscribing == {}


def test_join_that_is_refused_after_a_delivery_gets_nothing_any_more(
    node: FakeNode, broker: ToyBroker
) -> None:
    broker.faults["room"] = OVERLOADED
    broker.late = 1  # in force at once, answered by the next step
    (ann,) = join(node, "ann")
    broker.late = 0
    node.publish(b"1")
    join(node, "bob")  # what was delivered is sealed with its members
    broker.settle()
    node.fanout.step(EVER)
    assert ann.got == []


def test_join_again_after_a_refusal_subscribes_again(node: FakeNode, broker: ToyBroker) -> None:
    broker.faults["room"] = OVERLOADED
    ann, bob = node.connect("ann"), node.connect("bob")

    def again(connection: Any, fault: object) -> None:
        answered(node, connection.id, fault)
        broker.faults.clear()
        if fault is not None:
            node.delivery.join(connection, "room", partial(again, connection))

    for connection in (ann, bob):
        node.delivery.join(connection, "room", partial(again, connection))
    broker.settle()
    assert node.answers == [("ann", OVERLOADED), ("bob", OVERLOADED), "ann", "bob"]
    assert list(node.rooms.members("room")) == [ann, bob]
    assert broker.wanted == {"room"}


def test_join_before_the_answer_gets_what_is_delivered_before_it(
    node: FakeNode, broker: ToyBroker
) -> None:
    broker.late = 1  # in force at once, confirmed by the next step
    (ann,) = join(node, "ann")
    broker.late = 0
    node.publish(b"1")
    node.fanout.step(EVER)
    assert got(ann) == b"1"


# Leaving meanwhile.


@pytest.mark.parametrize("way", ["leave", "gone"])
def test_leave_before_the_answer_is_told_and_unsubscribes_then(
    node: FakeNode, broker: ToyBroker, way: str
) -> None:
    ann, bob = join(node, "ann", "bob")
    node.join(ann)
    for connection in (ann, bob):
        if way == "gone":
            node.delivery.gone(connection)
        else:
            assert node.delivery.leave(connection, "room") is None
            assert node.delivery.leave(connection, "room") is NOT_JOINED
        assert broker.wanted == {"room"}
    told = [] if way == "gone" else [("ann", NOT_JOINED), NOT_JOINED, ("bob", NOT_JOINED)]
    assert node.answers == told
    broker.settle()
    assert node.answers == told
    assert broker.wanted == broker.subscribed == set()
    assert node.delivery._subscribing == {}


def test_leave_before_the_answer_does_not_touch_the_others(
    node: FakeNode, broker: ToyBroker
) -> None:
    ann, bob, cat = join(node, "ann", "bob", "cat")
    node.delivery.leave(ann, "room")
    node.delivery.gone(cat)
    broker.settle()
    assert node.answers == [("ann", NOT_JOINED), "bob"]
    assert list(node.rooms.members("room")) == [bob]
    assert broker.wanted == {"room"}


@pytest.mark.parametrize("who", ["ann", "bob"])
def test_join_after_a_leave_before_the_answer_keeps_the_subscription(
    node: FakeNode, broker: ToyBroker, who: str
) -> None:
    (ann,) = join(node, "ann")
    broker.step()
    node.delivery.leave(ann, "room")
    broker.step()
    node.delivery.join(
        ann if who == "ann" else node.connect("bob"), "room", partial(answered, node, who)
    )
    broker.settle()
    assert node.answers == [("ann", NOT_JOINED), who]
    assert broker.log == [("room", None)]
    assert broker.wanted == broker.subscribed == {"room"}


def test_leave_and_a_refusal_leave_nothing_behind(node: FakeNode, broker: ToyBroker) -> None:
    broker.faults["room"] = OVERLOADED
    (ann,) = join(node, "ann")
    node.delivery.leave(ann, "room")
    broker.settle()
    assert node.answers == [("ann", NOT_JOINED)]
    assert (broker.wanted, node.delivery._subscribing) == (set(), {})


def test_join_while_the_unsubscription_is_on_its_way_subscribes_again(
    node: FakeNode, broker: ToyBroker
) -> None:
    (ann,) = join(node, "ann")
    broker.settle()
    node.delivery.leave(ann, "room")
    join(node, "bob")
    assert node.answers == ["ann"]
    broker.settle()
    assert node.answers == ["ann", "bob"]
    assert broker.subscribed == {"room"}


@pytest.mark.parametrize("way", ["leave", "gone"])
def test_leave_of_the_others_while_one_is_told_is_told_too(
    node: FakeNode, broker: ToyBroker, way: str
) -> None:
    ann, bob = node.connect("ann"), node.connect("bob")

    def end_all(fault: object) -> None:
        answered(node, "ann", fault)
        for connection in (ann, bob):
            if way == "gone":
                connection.open = False
                node.delivery.gone(connection)
            else:
                node.delivery.leave(connection, "room")

    node.delivery.join(ann, "room", end_all)
    node.delivery.join(bob, "room", partial(answered, node, "bob"))
    broker.settle()
    assert node.answers == (["ann"] if way == "gone" else ["ann", ("bob", NOT_JOINED)])
    assert broker.wanted == set()


# Publications that come late, twice or never.


def test_publish_is_told_and_delivered_when_the_broker_says(
    node: FakeNode, broker: ToyBroker
) -> None:
    (ann,) = join(node, "ann")
    broker.settle()
    for data in (b"1", b"2", b"3"):
        node.publish(data)
        broker.step()
    assert node.fanout.step(EVER) is False
    assert node.answers == ["ann"]
    broker.settle()
    node.fanout.step(EVER)
    assert node.answers == ["ann", None, None, None]
    assert ann.got == [b"None:1;None:2;None:3;"]


def test_deliver_after_a_leave_reaches_nobody(node: FakeNode, broker: ToyBroker) -> None:
    ann, bob = join(node, "ann", "bob")
    broker.settle()
    node.publish(b"1")
    node.delivery.leave(ann, "room")
    broker.settle()
    node.fanout.step(EVER)
    node.publish(b"2")
    node.delivery.gone(bob)
    broker.settle()
    node.fanout.step(EVER)
    assert (got(ann), got(bob)) == (b"", b"1")
    assert [said.data for said in broker.log[1:]] == [b"1", b"2"]


def test_deliver_of_lost_and_repeated_publications_keeps_the_order_of_the_broker() -> None:
    broker = ToyBroker(late=1, lose={2, 4}.__contains__, repeat={1, 5}.__contains__)
    node = FakeNode(broker)
    ann, bob = join(node, "ann", "bob")
    broker.settle()
    for number in range(1, 7):
        node.publish(b"%d" % number)
        broker.step()
        if number % 2:
            node.fanout.step(EVER)
    broker.settle()
    node.fanout.step(EVER)
    order = b"".join(said.data for said in broker.log[1:])
    assert sorted(order) == sorted(b"1" + b"1" + b"3" + b"5" + b"5" + b"6")
    assert got(ann) == got(bob) == order


def test_deliver_of_repeats_without_echo_never_reaches_the_origin() -> None:
    broker = ToyBroker(late=1, repeat=lambda number: True)
    node = FakeNode(broker)
    ann, bob = join(node, "ann", "bob")
    broker.settle()
    node.publish(b"1", ann, echo=False)
    broker.step()
    node.delivery.leave(ann, "room")
    node.join(ann)
    node.publish(b"2", ann)
    broker.settle()
    node.fanout.step(EVER)
    assert sorted(got(ann)) == sorted(b"22")
    assert sorted(got(bob)) == sorted(b"1122")
    node.delivery.gone(ann)
    assert node.delivery._origins == {}


# Several nodes.


def test_publish_reaches_the_members_on_every_node_in_one_order() -> None:
    brokers = [ToyBroker(late=1)]
    brokers.append(ToyBroker(late=3, beside=brokers[0]))
    one, two = nodes = [FakeNode(broker) for broker in brokers]
    ann, bob = join(one, "ann", "bob")
    (cat,) = join(two, "cat")
    for broker in brokers:
        broker.settle()
    one.publish(b"1", ann, echo=False)
    two.publish(b"2", cat, echo=False)
    one.publish(b"3", bob)
    for broker, node in zip(brokers, nodes, strict=True):
        broker.settle()
        node.fanout.step(EVER)
    assert (got(ann), got(bob), got(cat)) == (b"23", b"123", b"13")


def test_send_reaches_the_user_on_every_node_and_is_told_to_how_many() -> None:
    brokers = [ToyBroker(late=1)]
    brokers.append(ToyBroker(beside=brokers[0]))
    one, two = nodes = [FakeNode(broker) for broker in brokers]
    one.connect("1", user="ann")
    two.connect("2", user="ann")
    two.connect("3", user="ann")
    answers: list[int] = []
    one.delivery.send(Direct("ann", b"hello"), answers.append)
    assert answers == []
    brokers[0].settle()
    assert answers == [3]
    assert [len(node.told) for node in nodes] == [1, 2]


def test_stop_while_a_subscription_is_under_way_tells_nobody(
    node: FakeNode, broker: ToyBroker
) -> None:
    join(node, "ann")
    run(node.delivery.stop())
    broker.settle()
    assert node.answers == []
