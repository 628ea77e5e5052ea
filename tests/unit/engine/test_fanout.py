"""Frames to rooms: who gets what, in which order, in how many system calls."""

from __future__ import annotations

from typing import Any

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

from tidegate.core.stats import Stats
from tidegate.engine import fanout as module
from tidegate.engine.fanout import Fanout
from tidegate.engine.outbox import DISCARD

EVER, NOW = float("inf"), 0.0  # until when a step goes on


class Waker:
    """What Fanout needs of a poller."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class Member:
    """A connection that keeps what it is sent, one entry for each system call."""

    def __init__(self, calls: list[Any] | None = None) -> None:
        self.sink: Any = self
        self.got: list[bytes] = []
        self.held: list[tuple[bytes, int]] = []
        self.losses: list[str] = []
        self.takes = 1 << 30
        self.error: Exception | None = None
        self._calls = calls if calls is not None else []

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        self.got.append(data)
        self._calls.append(self)
        return min(self.takes, len(data))

    def transmit(self, data: bytes) -> None:
        self.sink.send(data)

    def hold_back(self, data: bytes, sent: int) -> None:
        self.held.append((data, sent))

    def lost(self, cause: str) -> None:
        self.losses.append(cause)
        self.sink = DISCARD


@pytest.fixture
def waker() -> Waker:
    return Waker()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def fanout(waker: Waker, stats: Stats) -> Any:
    return Fanout(waker, stats)  # type: ignore[arg-type]


def test_nothing_goes_out_before_the_end_of_the_turn(fanout: Any, waker: Waker) -> None:
    member = Member()
    assert fanout.publish("room", [member], b"one")
    assert member.got == []
    assert waker.wakes == 1
    assert fanout.step(EVER) is False
    assert member.got == [b"one"]
    assert fanout.step(EVER) is False
    assert member.got == [b"one"]


def test_frames_of_one_turn_are_joined(fanout: Any, waker: Waker) -> None:
    members = [Member(), Member()]
    for frame in (b"one", b"two", b"three"):
        fanout.publish("room", members, frame)
    fanout.step(EVER)
    assert [member.got for member in members] == [[b"onetwothree"]] * 2
    assert waker.wakes == 1


def test_two_turns_are_two_calls(fanout: Any) -> None:
    member = Member()
    fanout.publish("room", [member], b"one")
    fanout.step(EVER)
    fanout.publish("room", [member], b"two")
    fanout.step(EVER)
    assert member.got == [b"one", b"two"]


@pytest.mark.parametrize(
    ("exclusions", "got"),
    [
        ([0, 0, 0], [[], [b"012"]]),
        ([0, None, 0], [[b"1"], [b"012"]]),
        ([0, 1, None], [[b"12"], [b"02"]]),
        ([None, 0, 1], [[b"02"], [b"01"]]),
        ([2, 2, 2], [[b"012"], [b"012"]]),  # not a member
    ],
)
def test_exclusion(
    fanout: Any, stats: Stats, exclusions: list[int | None], got: list[list[bytes]]
) -> None:
    everyone = [Member(), Member(), Member()]
    members = everyone[:2]
    for number, excluded in enumerate(exclusions):
        who = None if excluded is None else everyone[excluded]
        fanout.publish("room", members, b"%d" % number, who)
    fanout.step(EVER)
    assert [member.got for member in members] == got
    assert everyone[2].got == []
    assert (
        stats.outgoing.messages
        == stats.outgoing.sizes.count
        == sum(len(b"".join(one)) for one in got)
    )


def test_what_is_sent_is_counted(fanout: Any, stats: Stats) -> None:
    members = [Member() for _ in range(100)]
    fanout.publish("room", members, b"12345")
    fanout.publish("room", members, b"123")
    fanout.step(NOW)
    fanout.on_leave("room", members.pop())
    fanout.step(EVER)
    assert (stats.outgoing.messages, stats.outgoing.bytes) == (2 * 99, 8 * 99)
    assert (stats.outgoing.sizes.count, stats.outgoing.sizes.sum) == (2 * 99, 8 * 99)


# Members that cannot be sent to.


@pytest.mark.parametrize(("takes", "held"), [(0, [(b"abc", 0)]), (2, [(b"abc", 2)]), (3, [])])
def test_a_member_that_takes_only_a_part(
    fanout: Any, takes: int, held: list[tuple[bytes, int]]
) -> None:
    slow, other = Member(), Member()
    slow.takes = takes
    fanout.publish("room", [slow, other], b"abc")
    fanout.step(EVER)
    assert slow.held == held
    assert other.got == [b"abc"]


@pytest.mark.parametrize(
    ("error", "held", "losses"),
    [
        (BlockingIOError(), [(b"abc", 0)], []),
        (ConnectionResetError(), [], ["reset"]),
        (BrokenPipeError(), [], ["reset"]),
    ],
)
def test_a_member_that_takes_nothing(
    fanout: Any, error: Exception, held: list[tuple[bytes, int]], losses: list[str]
) -> None:
    bad, other = Member(), Member()
    bad.error = error
    fanout.publish("room", [bad, other], b"abc")
    fanout.step(EVER)
    assert (bad.held, bad.losses) == (held, losses)
    assert other.got == [b"abc"]


def test_a_member_that_closed_meanwhile(fanout: Any) -> None:
    closed, other = Member(), Member()
    fanout.publish("room", [closed, other], b"abc")
    closed.sink = DISCARD
    fanout.step(EVER)
    assert (closed.got, other.got) == ([], [b"abc"])


# Bounds and fairness.


def test_the_backlog_is_bounded(fanout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKLOG_BYTES", 10)
    member = Member()
    assert fanout.publish("a", [member], b"123456")
    assert not fanout.publish("b", [member], b"12345")
    assert fanout.publish("b", [member], b"1234")
    assert fanout.backlog == 10
    assert not fanout.publish("a", [member], b"1")
    fanout.step(EVER)
    assert member.got == [b"123456", b"1234"]
    assert fanout.backlog == 0
    assert fanout.publish("a", [member], b"1234567890")


def test_a_step_ends_in_time_and_the_next_goes_on(fanout: Any) -> None:
    members = [Member() for _ in range(1000)]
    fanout.publish("room", members, b"x")
    steps = 1
    while fanout.step(NOW):
        assert fanout.backlog == 1
        steps += 1
    assert steps > 10
    assert fanout.backlog == 0
    assert all(member.got == [b"x"] for member in members)


def test_rooms_take_turns(fanout: Any) -> None:
    """A large room that is busy all the time does not hold the others up."""
    calls: list[Any] = []
    crowd = [Member(calls) for _ in range(300)]
    one, two = Member(calls), Member(calls)
    fanout.publish("crowd", crowd, b"x")
    fanout.publish("one", [one], b"x")
    fanout.publish("two", [two], b"x")
    for _ in range(3):
        assert fanout.step(NOW)
        fanout.publish("crowd", crowd, b"x")
    assert one.got == two.got == [b"x"]
    assert len(calls) < len(crowd)
    # What was published while the crowd was served is joined behind it.
    while fanout.step(NOW):
        pass
    assert all(member.got == [b"x", b"xxx"] for member in crowd)


def test_a_room_without_members(fanout: Any) -> None:
    fanout.publish("room", (), b"x")
    assert fanout.step(EVER) is False
    assert fanout.backlog == 0


# Any order of publishing, joining, leaving and sending.

ROOMS = st.sampled_from(["a", "b"])
PEOPLE = st.integers(0, 5)


class Rooms(RuleBasedStateMachine):
    """Each member gets what was published while it was in, in order, and nothing after it left."""

    @initialize()
    def begin(self) -> None:
        self.waker = Waker()
        self.fanout: Any = Fanout(self.waker, Stats())  # type: ignore[arg-type]
        self.people = [Member() for _ in range(6)]
        self.members: dict[str, dict[Any, None]] = {"a": {}, "b": {}}
        self.expected: dict[tuple[str, int], list[int]] = {}
        self.count = 0

    def got(self, room: str, who: int) -> list[int]:
        frames = b"".join(self.people[who].got).decode().split(";")[:-1]
        return [int(frame[1:]) for frame in frames if frame[0] == room]

    @rule(room=ROOMS, excluded=st.none() | PEOPLE)
    def publish(self, room: str, excluded: int | None) -> None:
        self.count += 1
        frame = f"{room}{self.count};".encode()
        exclude = None if excluded is None else self.people[excluded]
        assert self.fanout.publish(room, self.members[room], frame, exclude)
        for who, person in enumerate(self.people):
            if person in self.members[room] and who != excluded:
                self.expected.setdefault((room, who), []).append(self.count)

    @rule(room=ROOMS, who=PEOPLE)
    def join(self, room: str, who: int) -> None:
        if self.people[who] not in self.members[room]:
            self.fanout.before_join(room)
            self.members[room][self.people[who]] = None

    @rule(room=ROOMS, who=PEOPLE)
    def leave(self, room: str, who: int) -> None:
        if self.people[who] in self.members[room]:
            del self.members[room][self.people[who]]
            self.fanout.on_leave(room, self.people[who])
            got = self.got(room, who)
            assert got == self.expected.get((room, who), [])[: len(got)]
            self.expected[room, who] = got
        if not self.members[room]:
            self.members[room] = {}  # an empty room vanishes, and a new one is another object

    @rule()
    def step(self) -> None:
        self.fanout.step(NOW)

    @rule()
    def finish(self) -> None:
        assert self.fanout.step(EVER) is False
        assert self.fanout.backlog == 0
        for room in self.members:
            for who in range(len(self.people)):
                assert self.got(room, who) == self.expected.get((room, who), [])

    @invariant()
    def nobody_gets_more_or_other(self) -> None:
        for room in self.members:
            for who in range(len(self.people)):
                got = self.got(room, who)
                assert got == self.expected.get((room, who), [])[: len(got)]

    def teardown(self) -> None:
        self.finish()


def test_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMBERS_PER_LOOK", 2)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Rooms, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
