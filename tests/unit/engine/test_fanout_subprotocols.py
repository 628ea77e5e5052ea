"""Rooms whose members speak several subprotocols."""

from __future__ import annotations

from collections import Counter
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

from tests.support.members import EVER, NOW, FakeConnection, FakePoller, make_fanout
from tidegate.core.stats import Traffic
from tidegate.engine import fanout as module
from tidegate.engine.outbox import RoomFrames


class Encoder:
    """Encodes a text for a subprotocol as the first letter of this and the text."""

    def __init__(self, text: str, fails_for: str = "") -> None:
        self.text = text
        self.calls: list[str | None] = []
        self._fails_for = fails_for

    def __call__(self, subprotocol: str | None) -> bytes:
        self.calls.append(subprotocol)
        if subprotocol is not None and subprotocol in self._fails_for:
            raise ValueError(self.text)
        return f"{subprotocol or ''}{self.text}".encode()


@pytest.fixture
def poller() -> FakePoller:
    return FakePoller()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(header=2)


@pytest.fixture
def fanout(poller: FakePoller, traffic: Traffic) -> Any:
    return make_fanout(poller, traffic)


def test_encode_for_each_subprotocol_is_called_once_on_first_use(fanout: Any) -> None:
    members = [
        FakeConnection("j"),
        FakeConnection("m"),
        FakeConnection(None),
        FakeConnection("j"),
        FakeConnection("m"),
    ]
    one, two = Encoder("1"), Encoder("2")
    fanout.publish("room", members, one, 1, exclude=members[:1])
    fanout.publish("room", members, two, 1)
    assert one.calls == []
    fanout.step(EVER)
    assert [member.got for member in members] == [[b"j2"], [b"m1m2"], [b"12"], [b"j1j2"], [b"m1m2"]]
    assert one.calls == two.calls == ["j", "m", None]
    assert members[1].got[0] is members[4].got[0]
    assert type(members[0].got[0]) is type(members[1].got[0]) is RoomFrames
    assert (members[0].got[0].messages, members[1].got[0].messages) == (1, 2)


def test_encode_for_a_subprotocol_that_comes_late_is_not_called_before(
    fanout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMBERS_PER_LOOK", 2)
    members = [FakeConnection("j"), FakeConnection("j"), FakeConnection("m")]
    encode = Encoder("1")
    fanout.publish("room", members, encode, 1)
    assert fanout.step(NOW)
    assert encode.calls == ["j"]
    assert not fanout.step(NOW)
    assert encode.calls == ["j", "m"]


def test_encode_of_equal_names_that_are_two_objects_is_called_once(fanout: Any) -> None:
    encode = Encoder("1")
    members = [FakeConnection("".join(("ab", "c"))) for _ in range(3)]
    fanout.publish("room", members, encode, 1)
    fanout.step(EVER)
    assert encode.calls == ["abc"]
    assert [member.got for member in members] == [[b"abc1"]] * 3


@pytest.mark.parametrize("until", [NOW, EVER])
@pytest.mark.parametrize("subprotocols", ["j", "j mmm", "j j j mmm", "j mmm x"])
@pytest.mark.parametrize("excluded", [None, 0, 5])
@pytest.mark.parametrize("left", [None, 0, 6])
def test_step_with_several_subprotocols_counts_exactly(
    fanout: Any,
    traffic: Traffic,
    monkeypatch: pytest.MonkeyPatch,
    until: float,
    subprotocols: str,
    excluded: int | None,
    left: int | None,
) -> None:
    monkeypatch.setattr(module, "_MEMBERS_PER_LOOK", 3)
    members = [FakeConnection(name) for name in subprotocols.split() * 5]
    texts = [";", "a" * 20 + ";", "b" * 200 + ";"]
    for text in texts:
        exclude: Any = ()
        if excluded is not None and text != ";":
            exclude = (members[excluded % len(members)],)
        fanout.publish("room", members, Encoder(text, fails_for="x"), 1, exclude)
    if left is not None:
        fanout.on_leave("room", members[left % len(members)])
    while fanout.step(until):
        pass
    sent = b"".join(data for member in members for data in member.got)
    frames = sent.split(b";")[:-1]
    sizes = Traffic(header=2)
    for size, times in Counter(map(len, frames)).items():
        sizes.others.observe_many(size + len(";"), times)
    assert traffic.sizes.counts == sizes.others.counts
    assert traffic.sizes.sum == sizes.others.sum
    # What `transmit` sends, a connection counts itself.
    alone = members[excluded % len(members)] if excluded is not None else None
    together = [data for member in members if member is not alone for data in member.got]
    assert traffic.bytes == len(b"".join(together))


def test_encode_that_raises_leaves_that_publication_out_and_is_reported_once(
    fanout: Any, poller: FakePoller, traffic: Traffic
) -> None:
    members = [FakeConnection("j"), FakeConnection("m"), FakeConnection("j"), FakeConnection("j")]
    fanout.publish("room", members, Encoder("1"), 1)
    fanout.publish("room", members, Encoder("2", fails_for="j"), 1)
    fanout.publish("room", members, Encoder("3"), 1, exclude=members[3:4])
    fanout.step(EVER)
    assert [member.got for member in members] == [[b"j1j3"], [b"m1m2m3"], [b"j1j3"], [b"j1"]]
    assert [str(error) for error in poller.errors] == ["2"]
    assert traffic.messages == 2 + 3 + 2 + 1
    (first,) = members[0].got
    assert isinstance(first, RoomFrames)
    assert first.messages == 2
    assert fanout.backlog == 0


def test_encode_that_always_raises_sends_nothing_to_those_members(
    fanout: Any, poller: FakePoller, traffic: Traffic
) -> None:
    members = [
        FakeConnection("j"),
        FakeConnection("m"),
        FakeConnection("j"),
        FakeConnection("j"),
        FakeConnection("m"),
    ]
    done: list[str] = []
    fanout.publish("room", members, Encoder("1", fails_for="j"), 1, exclude=members[3:4])
    fanout.publish("room", members, Encoder("2", fails_for="j"), 1)
    fanout.when_sent(("room",), lambda: done.append("sent"))
    fanout.step(EVER)
    assert [member.got for member in members] == [[], [b"m1m2"], [], [], [b"m1m2"]]
    assert [str(error) for error in poller.errors] == ["1", "2"]
    assert traffic.messages == 4
    assert done == ["sent"]


def test_encode_that_publishes_is_not_joined_to_its_own_batch(fanout: Any) -> None:
    member = FakeConnection()

    def encode(subprotocol: str | None) -> bytes:
        fanout.publish("room", [member], Encoder("2"), 1)
        return b"1"

    fanout.publish("room", [member], encode, 1)
    fanout.step(EVER)
    assert member.got == [b"1", b"2"]


# Any order of publishing, joining, leaving and sending.

ROOMS = st.sampled_from(["a", "b"])
WHO = st.integers(0, 5)


class Rooms(RuleBasedStateMachine):
    """Each member gets what was published while it was in, in order, and nothing after it left."""

    @initialize()
    def begin(self) -> None:
        self.poller = FakePoller()
        self.traffic = Traffic(header=2)
        self.fanout: Any = make_fanout(self.poller, self.traffic)
        self.everyone = [FakeConnection("jmx"[who % 3]) for who in range(6)]
        self.members: dict[str, dict[Any, None]] = {"a": {}, "b": {}}
        self.expected: dict[tuple[str, int], list[int]] = {}
        self.count = 0

    def got(self, room: str, who: int) -> list[int]:
        member = self.everyone[who]
        frames = b"".join(member.got).decode().split(";")[:-1]
        assert all(frame[0] == member.subprotocol for frame in frames)
        return [int(frame[2:]) for frame in frames if frame[1] == room]

    @rule(room=ROOMS, excluded=st.none() | WHO, fails=st.sampled_from(["", "", "x", "jmx"]))
    def publish(self, room: str, excluded: int | None, fails: str) -> None:
        self.count += 1
        encode = Encoder(f"{room}{self.count};", fails)
        exclude = () if excluded is None else (self.everyone[excluded],)
        assert self.fanout.publish(room, self.members[room], encode, 1, exclude)
        for who, member in enumerate(self.everyone):
            if (
                member in self.members[room]
                and who != excluded
                and str(member.subprotocol) not in fails
            ):
                self.expected.setdefault((room, who), []).append(self.count)

    @rule(room=ROOMS, who=WHO)
    def join(self, room: str, who: int) -> None:
        if self.everyone[who] not in self.members[room]:
            self.fanout.before_join(room)
            self.members[room][self.everyone[who]] = None

    @rule(room=ROOMS, who=WHO)
    def leave(self, room: str, who: int) -> None:
        if self.everyone[who] in self.members[room]:
            del self.members[room][self.everyone[who]]
            self.fanout.on_leave(room, self.everyone[who])
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
            for who in range(len(self.everyone)):
                assert self.got(room, who) == self.expected.get((room, who), [])

    @invariant()
    def nobody_gets_more_or_other(self) -> None:
        for room in self.members:
            for who in range(len(self.everyone)):
                got = self.got(room, who)
                assert got == self.expected.get((room, who), [])[: len(got)]

    @invariant()
    def what_is_sent_is_counted(self) -> None:
        sent = b"".join(data for member in self.everyone for data in member.got)
        assert self.traffic.messages == sent.count(b";")
        assert self.traffic.sizes.sum == len(sent)

    def teardown(self) -> None:
        self.finish()
        for error in self.poller.errors:
            assert isinstance(error, ValueError)


def test_fanout_in_any_order_keeps_members_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMBERS_PER_LOOK", 2)
    monkeypatch.setattr(module, "_PUBLICATIONS_PER_BATCH", 4)
    run_state_machine_as_test(Rooms, settings=settings(max_examples=60, stateful_step_count=25))
