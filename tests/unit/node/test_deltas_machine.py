"""A client that applies deltas has what was published, whatever happens on the way.

The rooms, the fan-out, the outboxes and the encoding are the real ones. Clients join with deltas
and without, leave, read slowly, lose their connection and resume it; what was published says itself
which one it is.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.aio import run
from tests.support.members import EVER, FakeConnection, make_fanout
from tidegate.backplane.memory import MemoryBroker
from tidegate.core.messaging.history import History, Page, Position
from tidegate.core.messaging.publication import Publication
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import RoomsSettings
from tidegate.core.settings.rooms import RoomRule
from tidegate.engine.buffers import Buffers
from tidegate.engine.outbox import Outbox, RoomFrames
from tidegate.node import deltas
from tidegate.node.delivery import Delivery
from tidegate.node.native.application import NativeApplication
from tidegate.node.native.deltas import delta_frame
from tidegate.node.presence import RoomPresence
from tidegate.node.recovery import Wanted
from tidegate.node.users import Users
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.deltas import apply
from tidegate.wire.frames import BINARY
from tidegate.wire.packed import MSGPACK_V1
from tidegate.wire.reader import Reader

ROOM = "doc"
LARGEST = 1000
WHO = st.integers(0, 3)
SPOKEN = (JSON_V1, MSGPACK_V1, JSON_V1, MSGPACK_V1)
STATE = {
    "title": "Grüße \U0001f44b",
    "lines": [f"line {number} of a text" for number in range(8)],
}


class Parking:
    """The sink of a connection that was lost: keeps some of what its room is sent."""

    def __init__(self, keeps: int) -> None:
        self.keeps = keeps
        self.kept: list[bytes] = []

    def send(self, data: bytes) -> int:
        if len(self.kept) < self.keeps:
            self.kept.append(data)
        return len(data)


class Socketed(FakeConnection):
    """A connection whose socket may be full; then it has an outbox, like a real one."""

    def __init__(self, name: str, subprotocol: str, policy: str, buffers: Buffers) -> None:
        super().__init__(subprotocol, name=name, user=name)
        self.policy = policy
        self.buffers = buffers
        self.full = False
        self.outbox: Outbox | None = None
        self.drops = 0
        self.wire: list[bytes] = []  # what the socket took, and the client has not read

    def send(self, data: bytes) -> int:
        if self.full:
            raise BlockingIOError
        self.wire.append(data)
        return len(data)

    def transmit(self, frame: bytes) -> None:
        try:
            self.sink.send(frame)
        except BlockingIOError:
            self.hold_back(frame, 0)

    def hold_back(self, frame: bytes, sent: int) -> None:
        self.outbox = Outbox(
            800, self.overflowed, self.policy, Counter(), self.buffers, self.missed
        )
        self.outbox.begin(frame, sent)
        self.sink = self.outbox

    def missed(self, frames: RoomFrames) -> None:
        self.drops += frames.messages
        if frames.chain is not None:
            frames.chain.restart(self)

    def overflowed(self) -> None:
        raise AssertionError("all that it gets may be dropped")

    def flush(self) -> None:
        self.full = False
        if self.outbox is not None:
            assert self.outbox.flush(self)
            self.outbox, self.sink = None, self


class Client:
    """What a client knows: the numbers of the messages that it understood, and its last data."""

    def __init__(self, subprotocol: str) -> None:
        self.packed = subprotocol == MSGPACK_V1
        self.version: int | None = None
        self.data = b""
        self.got: list[int] = []
        self.last = 0
        self.skipped = 0
        self.deltas = 0

    def read(self, frames: bytes) -> None:
        reader = Reader(1 << 30, 1, masked=False)
        reader.feed(frames)
        while (found := reader.next()) is not None:
            opcode, content = found
            assert (opcode == BINARY) is self.packed
            message = msgspec.msgpack.decode(content) if self.packed else json.loads(content)
            if message["type"] == "room_message":
                self.check(message["data"])
                continue
            assert message["type"] == "room_delta"
            delta = message["delta"] if self.packed else message["delta"].encode()
            base = message.get("base")
            if base is None:
                self.data = apply(b"", delta)
            elif base == self.version:
                self.deltas += 1
                self.data = apply(self.data, delta)
            else:
                self.skipped += 1
                continue
            self.version = message["version"]
            decode = msgspec.msgpack.decode if self.packed else json.loads
            self.check(decode(self.data))

    def check(self, data: Any) -> None:
        assert data == state(data["n"], data["large"])
        self.last = data["n"]
        self.got.append(self.last)


def state(number: int, large: bool) -> dict[str, Any]:
    """The data of a publication: nearly that of the one before."""
    lines = [*STATE["lines"]]
    lines[number % 8] = f"line that is new in {number}"
    size = LARGEST if large else 0
    return {**STATE, "lines": lines, "n": number, "large": large, "rest": "x" * size}


class Machine(RuleBasedStateMachine):
    """The model: what each client is to get, and whether it may have missed some."""

    @initialize(history=st.booleans(), policy=st.sampled_from(["drop_oldest", "drop_newest"]))
    def begin(self, history: bool, policy: str) -> None:
        self.history = history
        self.policy = policy
        rules = Rules([RoomRule("*", history_size=50 if history else 0, delta=True)])
        self.rooms: Rooms[Any] = Rooms(9, 9, rules)
        self.fanout: Any = make_fanout()
        presence: Any = RoomPresence(rules, self.fanout, lambda: 0.0)
        users: Users[Any] = Users()
        broker = MemoryBroker(rules, History(RoomsSettings(), "e"))
        self.delivery: Any = Delivery(self.rooms, users, self.fanout, broker, presence)
        frame = NativeApplication.frame
        unused: Any = None
        run(self.delivery.start(lambda *what: frame(unused, *what), delta_frame, unused))
        self.buffers = Buffers(1 << 40, lambda work: None, lambda ended: None)
        self.published = 0
        self.positions: dict[int, Position] = {}
        self.people = [self.connect(who) for who in range(4)]
        self.clients = [Client(subprotocol) for subprotocol in SPOKEN]
        self.expected: list[list[int]] = [[] for _ in SPOKEN]
        self.exact = [True] * 4  # whether nothing may be missing
        for who in range(4):
            self.join(who, delta=True, since=False)
        self.settle()

    def connect(self, who: int) -> Socketed:
        return Socketed(str(who), SPOKEN[who], self.policy, self.buffers)

    @rule(who=WHO, delta=st.booleans(), since=st.booleans())
    def join(self, who: int, delta: bool, since: bool) -> None:
        connection = self.people[who]
        if not connection.open:
            return
        deltas = self.delivery.deltas
        if self.history and since and ROOM in connection.rooms:
            self.catch_up(who)
        else:
            self.delivery.join(connection, ROOM, lambda fault: None)
        (deltas.take if delta else deltas.drop)(connection, ROOM)

    def catch_up(self, who: int) -> None:
        """Join again with the position of the last message: as a client does after a gap."""
        connection, client = self.people[who], self.clients[who]
        self.read(who)
        got = client.last
        position = self.positions.get(got)
        if position is None:
            return
        answers: list[Any] = []
        self.delivery.recover(connection, ROOM, Wanted(position, 0), answers.append)
        (page,) = answers
        assert isinstance(page, Page)
        assert page.recovered
        client.got = []
        self.expected[who] = [*range(got + 1, self.published + 1)]
        self.exact[who] = True

    @rule(who=WHO)
    def leave(self, who: int) -> None:
        connection = self.people[who]
        if connection.open and ROOM in connection.rooms:
            self.fanout.step(EVER)
            self.delivery.leave(connection, ROOM)

    @rule(who=WHO, times=st.integers(1, 9))
    def publish_in_turns(self, who: int, times: int) -> None:
        for _ in range(times):
            self.publish(who, echo=True, large=False)
            self.flush()

    @rule(who=WHO, echo=st.booleans(), large=st.sampled_from([False] * 9 + [True]))
    def publish(self, who: int, echo: bool, large: bool) -> None:
        self.published += 1
        connection = self.people[who]
        value = state(self.published, large)
        data = msgspec.Raw(msgspec.json.encode(value))
        said = Publication(ROOM, data, "ann", connection.id, echo or not connection.open)
        if SPOKEN[who] == MSGPACK_V1:
            said.packed = msgspec.Raw(msgspec.msgpack.encode(value))
        if self.rooms.count(ROOM) or self.history:
            self.delivery.publish(said, lambda fault: None, connection)
        self.positions[self.published] = Position(said.epoch, said.offset)
        for other, person in enumerate(self.people):
            if ROOM in person.rooms and (said.echo or other != who):
                self.expected[other].append(self.published)

    @rule()
    def flush(self) -> None:
        assert self.fanout.step(EVER) is False

    @rule(who=WHO)
    def stall(self, who: int) -> None:
        if self.people[who].open:
            self.people[who].full = True

    @rule(who=WHO)
    def read(self, who: int) -> None:
        """The client takes all that there is."""
        connection, client = self.people[who], self.clients[who]
        if connection.open:
            self.fanout.step(EVER)
            before = client.skipped
            connection.flush()
            client.read(b"".join(connection.wire))
            connection.wire.clear()
            if connection.drops:
                self.exact[who] = False
            else:
                assert client.skipped == before
            connection.drops = 0

    @rule(who=WHO, keeps=st.integers(0, 3))
    def lose(self, who: int, keeps: int) -> None:
        """The connection breaks; what was on its way is lost, and some of what comes is kept."""
        connection = self.people[who]
        if connection.open and connection.rooms:
            self.publish((who + 1) % 4, echo=True, large=False)
            self.fanout.step(EVER)
            connection.open = False
            connection.full = False
            connection.sink = Parking(0 if self.history else keeps)
            self.delivery.park(connection)
            self.exact[who] = False

    @rule(who=WHO)
    def resume(self, who: int) -> None:
        connection = self.people[who]
        if not connection.open:
            new = self.people[who] = self.connect(who)
            self.fanout.step(EVER)
            self.delivery.replace(connection, new)
            for frames in connection.sink.kept:
                new.transmit(frames)
            self.read(who)

    @rule()
    def settle(self) -> None:
        """Everybody takes what there is; what comes then is understood by all."""
        for who in range(4):
            self.read(who)
        self.publish(0, echo=True, large=False)
        for who, connection in enumerate(self.people):
            self.read(who)
            if connection.open and ROOM in connection.rooms:
                assert self.clients[who].last == self.published

    @invariant()
    def what_was_understood_was_to_come(self) -> None:
        for who, client in enumerate(self.clients):
            if self.exact[who]:
                assert client.got == self.expected[who][: len(client.got)]
            else:
                rest = iter(self.expected[who])
                assert all(number in rest for number in client.got)

    @invariant()
    def only_members_have_a_chain(self) -> None:
        chain = self.delivery.deltas.rooms.get(ROOM)
        if chain is not None:
            assert chain.members
            assert set(chain.members) <= set(self.rooms.members(ROOM))

    def teardown(self) -> None:
        self.settle()
        for connection in self.people:
            connection.open = False
            self.delivery.gone(connection)
        assert self.delivery.deltas.rooms == {}


def test_deltas_in_any_order_of_events_make_what_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deltas, "_LARGEST", LARGEST)
    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=30))
