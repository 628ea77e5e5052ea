"""Messages that wait for the answer to a question: their order, their bounds, and their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidegate.node.native import asking as module
from tidegate.node.native.asking import Asking


class Connection:
    """A connection that keeps what it is sent."""

    closed = False
    subprotocol = None

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, text: str) -> None:
        self.sent.append(text)


class Message:
    def __init__(self, number: int) -> None:
        self.id = number


class World:
    """One that carries out messages: an even number asks a question, an odd one does not."""

    def __init__(self) -> None:
        self.asking = Asking()
        self.done: list[int] = []
        self.open: list[Callable[[], None]] = []

    def receive(self, connection: Any, number: int) -> None:
        message = Message(number)
        if not self.asking.holds(connection, self.carry_out, message):
            self.carry_out(connection, message)

    def carry_out(self, connection: Any, message: Any) -> None:
        if message.id % 2:
            self.done.append(message.id)
            return
        there = self.asking.begin(connection)

        def answered() -> None:
            if there():
                self.done.append(message.id)
                self.asking.go_on(connection)

        self.open.append(answered)


def test_messages_behind_a_question_wait_for_its_answer_in_their_order() -> None:
    world, connection, other = World(), Connection(), Connection()
    for number in (1, 2, 3, 4, 5):
        world.receive(connection, number)
    world.receive(other, 7)
    assert world.done == [1, 7]
    world.open[0]()
    assert world.done == [1, 7, 2, 3]
    world.receive(connection, 9)
    world.open[1]()
    assert world.done == [1, 7, 2, 3, 4, 5, 9]
    world.open[1]()  # an answer that comes twice
    world.receive(connection, 11)
    assert world.done[-1] == 11
    assert len(world.done) == 8


def test_connection_that_is_gone_is_asked_about_in_vain() -> None:
    world, connection = World(), Connection()
    for number in (2, 3):
        world.receive(connection, number)
    world.asking.gone(connection)  # type: ignore[arg-type]
    world.open[0]()
    assert world.done == []


def test_messages_beyond_the_bounds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EACH", 2)
    monkeypatch.setattr(module, "_ALL", 3)
    world, one, two = World(), Connection(), Connection()
    for connection in (one, two):
        for number in (2, 3, 5, 7):
            world.receive(connection, number)
    assert ["overloaded" in text for text in one.sent] == [True]
    assert len(two.sent) == 2
    for answered in world.open:
        answered()
    assert world.done == [2, 3, 5, 2, 3]
    world.open.clear()
    for number in (2, 3, 5):
        world.receive(one, number)
    assert len(one.sent) == 1  # what was carried out counts no more


def test_question_that_is_answered_at_once_holds_nothing() -> None:
    asking = Asking()
    connection: Any = Connection()
    there = asking.begin(connection)
    assert there()
    asking.go_on(connection)
    assert not there()
    assert not asking.holds(connection, lambda *_: None, Message(1))
