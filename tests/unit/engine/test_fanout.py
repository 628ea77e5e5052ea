"""Publications to rooms: who gets what, in which order, in how many system calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.members import EVER, NOW, FakeConnection, FakePoller, make_fanout
from tidegate.core.codes import RESET, Close
from tidegate.core.stats import Traffic
from tidegate.engine import fanout as module
from tidegate.engine.fanout import Fanout
from tidegate.engine.outbox import DISCARD


def publish(fanout: Fanout, room: str, members: Any, frame: bytes, exclude: Any = ()) -> bool:
    """Publish what is the same frame for everybody."""
    return fanout.publish(room, members, lambda _: frame, len(frame), exclude)


def finish(fanout: Fanout) -> None:
    while fanout.step(NOW):
        pass


@pytest.fixture
def poller() -> FakePoller:
    return FakePoller()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(header=2)


@pytest.fixture
def fanout(poller: FakePoller, traffic: Traffic) -> Any:
    return make_fanout(poller, traffic)


def test_publish_before_the_end_of_the_turn_sends_nothing(fanout: Any, poller: FakePoller) -> None:
    member = FakeConnection()
    assert publish(fanout, "room", [member], b"one")
    assert member.got == []
    assert poller.wakes == 1
    assert fanout.step(EVER) is False
    assert member.got == [b"one"]
    assert fanout.step(EVER) is False
    assert member.got == [b"one"]


def test_publish_several_in_one_turn_joins_them(fanout: Any, poller: FakePoller) -> None:
    members = [FakeConnection(), FakeConnection()]
    for frame in (b"one", b"two", b"three"):
        publish(fanout, "room", members, frame)
    fanout.step(EVER)
    assert [member.got for member in members] == [[b"onetwothree"]] * 2
    assert poller.wakes == 1


def test_publish_to_other_members_under_the_same_name_keeps_them_apart(fanout: Any) -> None:
    one, two = FakeConnection(), FakeConnection()
    publish(fanout, "room", [one], b"one")
    publish(fanout, "room", [one, two], b"both")
    publish(fanout, "room", [one, two], b"again", exclude=(one,))
    while fanout.step(EVER):
        pass
    assert one.got == [b"one", b"both"]
    assert two.got == [b"bothagain"]


def test_publish_in_two_turns_makes_two_calls(fanout: Any) -> None:
    member = FakeConnection()
    publish(fanout, "room", [member], b"one")
    fanout.step(EVER)
    publish(fanout, "room", [member], b"two")
    fanout.step(EVER)
    assert member.got == [b"one", b"two"]


def test_publish_to_a_room_without_members_leaves_nothing(fanout: Any) -> None:
    encoded: list[Any] = []
    fanout.publish("room", (), encoded.append, 1)
    assert fanout.step(EVER) is False
    assert fanout.backlog == 0
    assert encoded == []


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
def test_publish_with_an_excluded_member_leaves_it_out(
    fanout: Any, traffic: Traffic, exclusions: list[int | None], got: list[list[bytes]]
) -> None:
    everyone = [FakeConnection(), FakeConnection(), FakeConnection()]
    members = everyone[:2]
    for number, excluded in enumerate(exclusions):
        exclude = () if excluded is None else (everyone[excluded],)
        publish(fanout, "room", members, b"%d" % number, exclude)
    fanout.step(EVER)
    assert [member.got for member in members] == got
    assert everyone[2].got == []
    assert traffic.messages == traffic.sizes.count == sum(len(b"".join(one)) for one in got)


def test_step_in_parts_counts_what_is_sent(fanout: Any, traffic: Traffic) -> None:
    members = [FakeConnection() for _ in range(100)]
    publish(fanout, "room", members, b"12345")
    publish(fanout, "room", members, b"123")
    fanout.step(NOW)
    assert (traffic.messages, traffic.bytes) == (2 * 64, 8 * 64)
    fanout.on_leave("room", members.pop())
    fanout.step(EVER)
    assert (traffic.messages, traffic.bytes) == (2 * 99, 8 * 99)
    assert (traffic.sizes.count, traffic.sizes.sum) == (2 * 99, 8 * 99)


# Members that cannot be sent to.


@pytest.mark.parametrize(("takes", "held"), [(0, [(b"abc", 0)]), (2, [(b"abc", 2)]), (3, [])])
def test_step_with_a_member_that_takes_a_part_holds_the_rest_back(
    fanout: Any, takes: int, held: list[tuple[bytes, int]]
) -> None:
    slow, other = FakeConnection(), FakeConnection()
    slow.takes = takes
    publish(fanout, "room", [slow, other], b"abc")
    fanout.step(EVER)
    assert slow.held == held
    assert other.got == [b"abc"]


@pytest.mark.parametrize(
    ("error", "held", "losses"),
    [
        (BlockingIOError(), [(b"abc", 0)], []),
        (ConnectionResetError(), [], [RESET]),
        (BrokenPipeError(), [], [RESET]),
    ],
)
def test_step_with_a_member_that_takes_nothing_serves_the_others(
    fanout: Any, error: Exception, held: list[tuple[bytes, int]], losses: list[Close]
) -> None:
    bad, other = FakeConnection(), FakeConnection()
    bad.error = error
    publish(fanout, "room", [bad, other], b"abc")
    fanout.step(EVER)
    assert (bad.held, bad.losses) == (held, losses)
    assert other.got == [b"abc"]


def test_step_with_a_member_that_closed_meanwhile_sends_it_nothing(fanout: Any) -> None:
    closed, other = FakeConnection(), FakeConnection()
    publish(fanout, "room", [closed, other], b"abc")
    closed.sink = DISCARD
    fanout.step(EVER)
    assert (closed.got, other.got) == ([], [b"abc"])


def test_step_after_an_error_of_ours_goes_on_with_the_room(fanout: Any) -> None:
    members = [FakeConnection() for _ in range(200)]
    members[0].error = ValueError("a bug")
    publish(fanout, "room", members, b"1")
    with pytest.raises(ValueError, match="a bug"):
        fanout.step(EVER)
    publish(fanout, "room", members[100:], b"2")
    assert fanout.step(EVER) is False
    assert members[-1].got == [b"1", b"2"]
    assert fanout.backlog == 0


# Bounds and fairness.


def test_publish_beyond_the_bound_is_refused(fanout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKLOG_BYTES", 10)
    member = FakeConnection()
    encode = lambda _: b"frame"  # noqa: E731
    assert fanout.publish("a", [member], encode, 6)
    assert not fanout.publish("b", [member], encode, 5)
    assert fanout.publish("b", [member], encode, 4)
    assert fanout.backlog == 10
    assert not fanout.publish("a", [member], encode, 1)
    fanout.step(EVER)
    assert member.got == [b"frame"] * 2
    assert fanout.backlog == 0
    assert fanout.publish("a", [member], encode, 10)


def test_publish_of_very_many_makes_several_batches(
    fanout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PUBLICATIONS_PER_BATCH", 3)
    member, late = FakeConnection(), FakeConnection()
    room: dict[Any, None] = {member: None}
    sent: list[str] = []
    for number in range(7):
        publish(fanout, "room", room, b"%d" % number)
    fanout.when_sent(("room",), lambda: sent.append("now"))
    fanout.before_join("room")
    room[late] = None
    assert fanout.step(NOW)
    assert member.got == [b"012"]
    finish(fanout)
    assert member.got == [b"012", b"345", b"6"]
    assert late.got == []
    assert sent == ["now"]
    assert fanout.backlog == 0


def test_step_out_of_time_is_continued_by_the_next(fanout: Any) -> None:
    members = [FakeConnection() for _ in range(1000)]
    publish(fanout, "room", members, b"x")
    steps = 1
    while fanout.step(NOW):
        assert fanout.backlog == 1
        steps += 1
    assert steps > 10
    assert fanout.backlog == 0
    assert all(member.got == [b"x"] for member in members)


def test_step_with_a_busy_large_room_serves_the_others(fanout: Any) -> None:
    calls: list[Any] = []
    crowd = [FakeConnection(calls=calls) for _ in range(300)]
    one, two = FakeConnection(calls=calls), FakeConnection(calls=calls)
    publish(fanout, "crowd", crowd, b"x")
    publish(fanout, "one", [one], b"x")
    publish(fanout, "two", [two], b"x")
    for _ in range(3):
        assert fanout.step(NOW)
        publish(fanout, "crowd", crowd, b"x")
    assert one.got == two.got == [b"x"]
    assert len(calls) < len(crowd)
    # What was published while the crowd was served is joined behind it.
    finish(fanout)
    assert all(member.got == [b"x", b"xxx"] for member in crowd)
