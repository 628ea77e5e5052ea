"""Joins, leaves, ends, publications and a late broker, in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.brokers import ToyBroker
from tests.support.delivery import FakeNode
from tests.support.members import EVER
from tidegate.core.codes import NOT_JOINED, OVERLOADED, TOO_MANY_ROOMS, Fault
from tidegate.core.messaging.publication import Direct, Publication

ROOMS = ("a", "b", "c")
ROOM = st.sampled_from(ROOMS)
WHO = st.integers(0, 3)
NUMBERS = st.frozensets(st.integers(1, 20), max_size=8)


class Machine(RuleBasedStateMachine):
    """The model: members and who of them waits for an answer, by what the broker has answered."""

    @initialize(late=st.integers(0, 4), lose=NUMBERS, repeat=NUMBERS)
    def begin(self, late: int, lose: frozenset[int], repeat: frozenset[int]) -> None:
        self.broker = ToyBroker(late, lose.__contains__, repeat.__contains__)
        self.node = FakeNode(self.broker, per_connection=2)
        self.delivery = self.node.delivery
        self.count = 0
        self.replaced: list[Any] = []
        self.people = [self.connect(who) for who in range(4)]
        self.members: dict[str, list[Any]] = {room: [] for room in ROOMS}
        self.subscribing: set[str] = set()
        self.waiting: list[tuple[str, Any, int]] = []  # room, connection, number of the join
        self.expected_answers: list[tuple[int, Fault | None]] = []
        self.answers: list[tuple[int, Fault | None]] = []
        self.queued: list[tuple[Any, str, bytes]] = []  # frames on their way, by connection
        self.seen = 0  # of the broker's log

    def connect(self, who: int) -> Any:
        self.count += 1
        return self.node.connect(f"{who}-{self.count}", user=f"user-{who % 2}")

    # What the model does.

    def take_out(self, connection: Any, room: str) -> None:
        self.members[room].remove(connection)
        self.waiting = [one for one in self.waiting if one[:2] != (room, connection)]
        self.queued = [one for one in self.queued if one[:2] != (connection, room)]

    def follow(self) -> None:
        """Take over what the broker did meanwhile."""
        while self.seen < len(self.broker.log):
            entry = self.broker.log[self.seen]
            self.seen += 1
            if isinstance(entry, Publication):
                for member in self.members[entry.room]:
                    if entry.echo or entry.connection != member.id:
                        self.queued.append((member, entry.room, entry.data))
            else:
                room, fault = entry
                self.subscribing.remove(room)
                told = [one for one in self.waiting if one[0] == room]
                self.expected_answers += [(number, fault) for _, _, number in told]
                if fault is not None:
                    for member in self.members[room].copy():
                        self.take_out(member, room)
                self.waiting = [one for one in self.waiting if one[0] != room]

    # What happens.

    @rule(who=WHO, room=ROOM)
    def join(self, who: int, room: str) -> None:
        self.count += 1
        number, connection = self.count, self.people[who]
        members = self.members[room]
        if connection in members:
            if room not in self.subscribing:
                self.expected_answers.append((number, None))
        elif sum(connection in others for others in self.members.values()) == 2:
            self.expected_answers.append((number, TOO_MANY_ROOMS))
        else:
            members.append(connection)
            if len(members) == 1:
                self.subscribing.add(room)
            if room not in self.subscribing:
                self.expected_answers.append((number, None))
        if connection in members and room in self.subscribing:
            self.waiting.append((room, connection, number))
        self.delivery.join(connection, room, lambda fault: self.answers.append((number, fault)))
        self.follow()

    @rule(who=WHO, room=ROOM)
    def leave(self, who: int, room: str) -> None:
        connection = self.people[who]
        inside = connection in self.members[room]
        if inside:
            told = [
                number for where, who, number in self.waiting if (where, who) == (room, connection)
            ]
            self.expected_answers += [(number, NOT_JOINED) for number in told]
            self.take_out(connection, room)
        assert self.delivery.leave(connection, room) is (None if inside else NOT_JOINED)

    @rule(who=WHO, late_join=st.booleans())
    def end(self, who: int, late_join: bool) -> None:
        connection = self.people[who]
        for room in ROOMS:
            if connection in self.members[room]:
                self.take_out(connection, room)
        connection.open = False
        self.delivery.gone(connection)
        self.replaced.append((connection, list(connection.got)))
        self.people[who] = self.connect(who)
        # A handler that still runs for it.
        if late_join:
            self.delivery.join(connection, "a", self.answers.append)
        self.say(connection, "b", echo=False)

    @rule(who=WHO, room=ROOM, echo=st.booleans())
    def publish(self, who: int, room: str, echo: bool) -> None:
        self.say(self.people[who], room, echo)

    def say(self, origin: Any, room: str, echo: bool) -> None:
        self.count += 1
        said = Publication(room, b"%d" % self.count, connection=origin.id, echo=echo)
        self.delivery.publish(said, lambda fault: None, origin)
        self.follow()

    @rule(who=WHO)
    def send(self, who: int) -> None:
        self.delivery.send(Direct(f"user-{who}", b"hello"), lambda delivered: None)

    @rule(room=ROOM, refuses=st.booleans())
    def refuse(self, room: str, refuses: bool) -> None:
        self.broker.faults.pop(room, None)
        if refuses:
            self.broker.faults[room] = OVERLOADED

    @rule()
    def step(self) -> None:
        self.broker.step()
        self.follow()

    @rule()
    def flush(self) -> None:
        before = {member: len(member.got) for member in self.people}
        assert self.node.fanout.step(EVER) is False
        for member in self.people:
            new = b"".join(member.got[before[member] :])
            got = [one for one in new.replace(b"None:", b"").split(b";") if one]
            for room in ROOMS:
                mine = [data for to, where, data in self.queued if (to, where) == (member, room)]
                assert [data for data in got if data in mine] == mine
            assert len(got) == sum(to is member for to, _, _ in self.queued)
        self.queued = []

    # What always holds.

    @invariant()
    def members_agree(self) -> None:
        for room, members in self.members.items():
            assert list(self.node.rooms.members(room)) == members

    @invariant()
    def answers_agree(self) -> None:
        assert sorted(self.answers, key=lambda one: one[0]) == sorted(
            self.expected_answers, key=lambda one: one[0]
        )

    @invariant()
    def subscriptions_agree(self) -> None:
        used = {room for room, members in self.members.items() if members}
        assert self.broker.wanted == used | self.subscribing
        assert set(self.delivery._subscribing) == self.subscribing

    @invariant()
    def nothing_reaches_those_who_are_gone(self) -> None:
        assert all(connection.got == got for connection, got in self.replaced)

    @invariant()
    def little_is_kept(self) -> None:
        assert set(self.delivery._origins.values()) <= set(self.people)

    def teardown(self) -> None:
        self.flush()
        for connection in self.people:
            connection.open = False
            self.delivery.gone(connection)
        self.broker.settle()
        self.node.fanout.step(EVER)
        assert (self.delivery._subscribing, self.delivery._origins) == ({}, {})
        assert self.broker.wanted == self.broker.subscribed == set()
        assert len(self.node.rooms) == len(self.node.users) == self.node.fanout.backlog == 0


def test_delivery_in_any_order_agrees_with_a_model() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))
