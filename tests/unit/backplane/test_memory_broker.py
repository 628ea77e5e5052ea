"""The backplane of a single node."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.aio import run
from tidegate.backplane.base import Broker, Receiver
from tidegate.backplane.memory import MemoryBroker
from tidegate.core.codes import OVERLOADED, Fault
from tidegate.core.messaging.publication import Direct, Publication


class Node:
    """A receiver that notes what it is called with."""

    def __init__(self) -> None:
        self.delivered: list[Any] = []
        self.fault: Fault | None = None

    def deliver(self, publication: Publication) -> Fault | None:
        self.delivered.append(publication)
        return self.fault

    def deliver_to_user(self, message: Direct) -> int:
        self.delivered.append(message)
        return 3

    def deliver_to_all(self, message: Publication) -> int:
        self.delivered.append(message)
        return 7

    def missed_directs(self) -> None:
        raise AssertionError

    def missed(self, room: str) -> None:
        self.delivered.append(room)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def broker(node: Node) -> Broker:
    broker: Broker = MemoryBroker()
    receiver: Receiver = node
    run(broker.start(receiver))
    return broker


@pytest.mark.parametrize("fault", [None, OVERLOADED])
def test_publish_in_the_same_turn_delivers_and_tells_how_it_went(
    broker: Broker, node: Node, fault: Fault | None
) -> None:
    node.fault = fault
    answers: list[Any] = []
    publications = [Publication("room", b"1"), Publication("other", b"2")]
    for publication in publications:
        broker.publish(publication, answers.append)
    assert node.delivered == publications
    assert answers == [fault, fault]


def test_to_all_in_the_same_turn_delivers_and_tells_to_how_many(broker: Broker, node: Node) -> None:
    answers: list[int] = []
    message = Publication("", b"1")
    broker.to_all(message, answers.append)
    assert (node.delivered, answers) == ([message], [7])


def test_send_in_the_same_turn_delivers_and_tells_to_how_many(broker: Broker, node: Node) -> None:
    answers: list[int] = []
    message = Direct("ann", b"1")
    broker.send(message, answers.append)
    assert node.delivered == [message]
    assert answers == [3]


def test_subscribe_of_any_room_confirms_at_once(broker: Broker, node: Node) -> None:
    answers: list[Any] = []
    broker.subscribe("room", answers.append)
    broker.unsubscribe("room")
    broker.subscribe("room", answers.append)
    assert answers == [None, None]
    assert node.delivered == []


def test_stop_of_an_idle_broker_calls_nobody(broker: Broker, node: Node) -> None:
    run(broker.stop())
    assert node.delivered == []
