"""Joining with history: nothing is missing, doubled or out of order, however late the broker is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.brokers import ToyBroker
from tests.support.delivery import FakeNode
from tests.support.members import EVER
from tidegate.core.codes import NO_HISTORY, NOT_JOINED, OVERLOADED
from tidegate.core.messaging.history import History, Page, Position
from tidegate.core.settings import RoomsSettings
from tidegate.node.recovery import Wanted

NOTHING = Wanted(None, 0)


class Node:
    """A node whose broker keeps the last messages; data is the number of the message."""

    def __init__(self, late: int = 0, keep: int = 100) -> None:
        self.history = History(RoomsSettings(), "n")
        self.broker = ToyBroker(late, history=self.history, keep=keep)
        self.node = FakeNode(self.broker)
        self.count = 0

    def connect(self, name: str) -> Any:
        return self.node.connect(name)

    def publish(self, size: int = 0) -> None:
        self.count += 1
        self.node.publish(b"%d" % self.count + b" " * size)

    def join(self, connection: Any, wanted: Wanted = NOTHING) -> list[Any]:
        answers: list[Any] = []
        self.node.delivery.recover(connection, "room", wanted, answers.append)
        return answers

    def send(self) -> None:
        while self.node.fanout.step(EVER):
            pass

    def settle(self) -> None:
        self.broker.settle()
        self.send()


def numbers(connection: Any) -> list[int]:
    """The numbers of the messages that a connection got."""
    frames = b"".join(connection.got).split(b";")
    return [int(frame.partition(b":")[2]) for frame in frames if frame]


def test_recover_sends_what_was_missed_and_then_what_is_live() -> None:
    node = Node()
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(ann)
    for _ in range(4):
        node.publish()
    (page,) = node.join(bob, Wanted(Position("n-0", 1), 0))
    node.publish()
    node.send()
    assert page.recovered
    assert page.position == ("n-0", 4)
    assert numbers(bob) == [2, 3, 4, 5]
    assert numbers(ann) == [1, 2, 3, 4, 5]


def test_recover_as_a_member_sends_again_what_is_on_its_way_and_nothing_twice() -> None:
    node = Node()
    ann = node.connect("ann")
    node.join(ann)
    node.publish()
    node.send()
    assert numbers(ann) == [1]
    node.publish()  # it waits for the end of the turn
    node.join(ann, Wanted(Position("n-0", 1), 0))
    node.publish()
    node.send()
    assert numbers(ann) == [1, 2, 3]


@pytest.mark.parametrize(
    ("wanted", "expected", "recovered"),
    [
        (Wanted(None, 2), [8, 9], False),
        (Wanted(None, 99), [5, 6, 7, 8, 9], False),
        (Wanted(Position("n-0", 4), 0), [5, 6, 7, 8, 9], True),
        (Wanted(Position("n-0", 9), 2), [], True),
        (Wanted(Position("n-0", 2), 0), [], False),
        (Wanted(Position("n-0", 2), 2), [8, 9], False),
        (Wanted(Position("other", 4), 2), [8, 9], False),
    ],
)
@pytest.mark.parametrize("late", [0, 4])
def test_recover_falls_back_to_the_last_messages(
    late: int, wanted: Wanted, expected: list[int], recovered: bool
) -> None:
    node = Node(late, keep=5)
    for _ in range(9):
        node.publish()
    node.settle()
    ann = node.connect("ann")
    answers = node.join(ann, wanted)
    node.settle()
    (page,) = answers
    assert (numbers(ann), page.recovered) == (expected, recovered)
    assert page.position == ("n-0", 9)


def test_recover_sends_no_more_than_half_of_what_an_outbox_takes() -> None:
    node = Node()
    for _ in range(9):
        node.publish(size=100_000)
    ann, bob = node.connect("ann"), node.connect("bob")
    (page,) = node.join(ann, Wanted(Position("n-0", 0), 0))
    assert (page.recovered, numbers(ann)) == (False, [])
    (page,) = node.join(bob, Wanted(Position("n-0", 0), 9))
    assert numbers(bob) == [5, 6, 7, 8, 9]


def test_recover_in_a_room_without_history_joins_and_says_so() -> None:
    node = FakeNode(ToyBroker(late=0))
    ann = node.connect("ann")
    answers: list[Any] = []
    node.delivery.recover(ann, "room", Wanted(None, 5), answers.append)
    assert answers == [NO_HISTORY]
    node.publish(b"1")
    node.fanout.step(EVER)
    assert numbers(ann) == [1]


def test_recover_twice_at_once_refuses_the_second() -> None:
    node = Node(late=4)
    ann = node.connect("ann")
    first = node.join(ann)
    assert node.join(ann) == [OVERLOADED]
    node.settle()
    assert isinstance(first[0], Page)
    assert isinstance(node.join(ann), list)


def test_leaving_while_the_history_is_on_its_way_answers_the_join() -> None:
    node = Node(late=4)
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(bob)
    node.settle()
    answers = node.join(ann)
    assert node.node.delivery.leave(ann, "room") is None
    assert answers == [NOT_JOINED]
    node.publish()
    node.settle()
    assert numbers(ann) == []
    assert not node.node.delivery._recovery.rooms


def test_a_connection_that_ends_while_the_history_is_on_its_way_is_forgotten() -> None:
    node = Node(late=4)
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(bob)
    node.settle()
    answers = node.join(ann)
    ann.open = False
    node.node.delivery.gone(ann)
    node.settle()
    assert answers == []
    assert not node.node.delivery._recovery.rooms


def test_more_than_is_kept_while_the_history_is_on_its_way_is_a_gap_that_is_told() -> None:
    node = Node(late=8)
    ann, bob = node.connect("ann"), node.connect("bob")
    node.join(bob)
    node.settle()
    answers = node.join(ann, Wanted(Position("n-0", 0), 0))
    for _ in range(5):
        node.publish(size=300_000)
    node.settle()
    (page,) = answers
    assert not page.recovered
    assert numbers(ann) == []
    node.publish()
    node.settle()
    assert numbers(ann) == [page.position.offset + 1]


class Joins(RuleBasedStateMachine):
    """Members join, leave, come back with a position, while others publish and the broker is late.

    Each is a client as the protocol asks for: it takes the position from the answer, and ignores
    the room while it waits for one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clients: dict[str, Client] = {}

    @initialize(late=st.integers(0, 6), keep=st.integers(1, 30))
    def begin(self, late: int, keep: int) -> None:
        self.node = Node(late, keep)
        self.clients = {name: Client(self.node, name) for name in "abc"}

    @rule()
    def publish(self) -> None:
        self.node.publish()

    @rule()
    def step(self) -> None:
        self.node.broker.step()

    @rule()
    def send(self) -> None:
        self.node.send()

    @rule(name=st.sampled_from("abc"), last=st.integers(0, 3))
    def join(self, name: str, last: int) -> None:
        self.clients[name].join(last)

    @rule(name=st.sampled_from("abc"))
    def leave(self, name: str) -> None:
        self.clients[name].leave()

    @rule(name=st.sampled_from("abc"))
    def cut(self, name: str) -> None:
        self.clients[name].cut()

    @precondition(lambda self: self.clients)
    @invariant()
    def nothing_is_missing_doubled_or_out_of_order(self) -> None:
        for client in self.clients.values():
            client.check()

    def teardown(self) -> None:
        if not self.clients:
            return
        for client in self.clients.values():
            client.join(0)
        self.node.settle()
        self.node.publish()
        self.node.settle()
        for client in self.clients.values():
            client.check()
            assert client.position == self.node.history.position("room")


class Client:
    """A client that keeps the numbers it saw and checks them."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.position = Position("n-0", 0)
        self.times = 0
        self.waiting = False
        self.connect()

    def connect(self) -> None:
        self.times += 1
        self.connection = self.node.connect(f"{self.name}{self.times}")
        self.member = False

    def join(self, last: int) -> None:
        if self.waiting:
            return
        self.waiting = True
        self.take()
        connection = self.connection

        def answered(answer: Any) -> None:
            assert connection is self.connection, "one that is gone is told nothing"
            connection.got.clear()  # what came before the answer is ignored
            self.waiting = False
            if isinstance(answer, Page):
                self.member = True
                if not answer.recovered:
                    first = answer.publications[0].offset if answer.publications else None
                    top = answer.position.offset
                    before = top if first is None else first - 1
                    self.position = Position(answer.position.epoch, before)
            else:
                assert answer is NOT_JOINED

        self.node.node.delivery.recover(connection, "room", Wanted(self.position, last), answered)

    def leave(self) -> None:
        self.take()
        self.node.node.delivery.leave(self.connection, "room")
        self.member = False

    def cut(self) -> None:
        self.take()
        self.connection.open = False
        self.node.node.delivery.gone(self.connection)
        self.waiting = False
        self.connect()

    def take(self) -> None:
        seen = numbers(self.connection)
        self.connection.got.clear()
        if self.waiting:
            return
        for number in seen:
            assert number == self.position.offset + 1, f"{number} after {self.position}"
            self.position = self.position._replace(offset=number)

    def check(self) -> None:
        if not self.waiting:
            self.take()


TestJoins = Joins.TestCase
TestJoins.settings = settings(max_examples=300, stateful_step_count=40)
