"""What is dropped for a slow member of a room, what never is, and what waits for too long."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.buffers import Buffers
from tidegate.engine.outbox import LOOKS, Outbox, RoomFrames

POLICIES = ["disconnect", "drop_oldest", "drop_newest"]


class Peer:
    """A socket that takes so many bytes and no more."""

    def __init__(self) -> None:
        self.takes = 0
        self.got = b""

    def send(self, data: bytes, /) -> int:
        if not self.takes:
            raise BlockingIOError
        sent = min(self.takes, len(data))
        self.takes -= sent
        self.got += data[:sent]
        return sent


class Box(Outbox):
    """An outbox that begins with the frame `00`, of which one byte was taken."""

    def __init__(self, policy: str, max_bytes: int = 11) -> None:
        self.overflows = 0
        self.dropped: Counter[str] = Counter()
        self.counted = Buffers(1 << 40, lambda work: None, lambda ended: None)
        super().__init__(
            max_bytes, self.overflowed, policy, self.dropped, self.counted, lambda _: None
        )
        self.begin(b"00", 1)

    def overflowed(self) -> None:
        self.overflows += 1

    def give(self, said: str) -> None:
        """Send what is listed: capital letters are of a room, small ones are not."""
        for letter in said:
            frame = letter.encode() * 2
            self.send(RoomFrames.of([frame]) if letter.isupper() else frame)

    def rest(self) -> str:
        """Take all that waits, as it was given."""
        peer = Peer()
        peer.takes = 1 << 20
        assert self.flush(peer)
        assert self.counted.bytes == self.own == 0
        return peer.got[::2].decode()


def looks(box: Outbox, count: int = LOOKS) -> list[bool]:
    return [box.look() for _ in range(count)]


# Too much.


@pytest.mark.parametrize(
    ("policy", "said", "kept", "dropped", "overflows"),
    [
        # There is room for five frames behind the first.
        ("disconnect", "ABCDE", "ABCDE", 0, 0),
        ("disconnect", "ABCDEF", "ABCDE", 0, 1),
        ("disconnect", "abcdef", "abcde", 0, 1),
        ("drop_newest", "ABCDE", "ABCDE", 0, 0),
        ("drop_newest", "ABCDEFG", "ABCDE", 2, 0),
        ("drop_newest", "ABCDEf", "ABCDE", 0, 1),
        ("drop_newest", "abcdeF", "abcde", 1, 0),
        ("drop_oldest", "ABCDE", "ABCDE", 0, 0),
        ("drop_oldest", "ABCDEFG", "CDEFG", 2, 0),
        ("drop_oldest", "ABCDEf", "BCDEf", 1, 0),
        ("drop_oldest", "abCdeFG", "abdeG", 2, 0),
        ("drop_oldest", "aBcDefg", "acefg", 2, 0),
        ("drop_oldest", "abcdeF", "abcde", 1, 0),
        ("drop_oldest", "abcdef", "abcde", 0, 1),
        ("drop_oldest", "abCdefgH", "abdef", 1, 1),
    ],
)
def test_too_much(policy: str, said: str, kept: str, dropped: int, overflows: int) -> None:
    box = Box(policy)
    box.give(said)
    assert box.size <= box.max_bytes
    assert (box.dropped.total(), box.overflows) == (dropped, overflows)
    assert set(box.dropped) <= {policy}
    assert box.rest() == "0" + kept
    assert box.size == 0


def test_every_message_of_what_is_dropped_is_counted() -> None:
    box = Box("drop_newest", max_bytes=5)
    box.send(RoomFrames.of([b"aa", b"bb", b"cc"]))
    assert box.dropped["drop_newest"] == 3


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_the_rooms_of_what_is_dropped_are_known(policy: str) -> None:
    box = Box(policy, max_bytes=7)
    box.send(RoomFrames.of([b"xxx"], "a"))
    box.send(RoomFrames.of([b"xxx"], "b"))
    assert box.gaps is None
    box.send(RoomFrames.of([b"xxx"], "c"))
    assert box.gaps == ({"a"} if policy == "drop_oldest" else {"c"})


def test_what_was_taken_makes_room_for_a_room() -> None:
    box = Box("drop_oldest")
    box.give("abCDE")
    peer = Peer()
    peer.takes = 4  # and all five are offered to it by that
    box.flush(peer)
    box.give("FGHij")
    assert box.dropped["drop_oldest"] == 3
    assert (peer.got, box.rest()) == (b"0aab", "bCDEij")


def test_members_share_what_waits_for_them() -> None:
    frames = RoomFrames.of([b"one", b"two"])
    assert (frames, frames.messages) == (b"onetwo", 2)
    boxes = [Box("disconnect", 100) for _ in range(2)]
    for box in boxes:
        box.send(frames)
    assert all(box._chunks[0] is frames for box in boxes)


def test_small_frames_that_nobody_shares_are_kept_as_one() -> None:
    box = Box("disconnect", 1 << 20)
    for _ in range(10_000):
        box.send(b"ab")
    assert len(box._chunks) < 50
    assert box.rest() == "0" + "b" * 10_000


# Too long.


def test_what_waits_for_too_long_closes() -> None:
    box = Box("disconnect")
    box.give("a")
    assert looks(box) == [False] * LOOKS
    assert looks(box, 1) == [True]


def test_what_came_later_is_not_too_old_yet() -> None:
    box = Box("disconnect", 100)
    peer = Peer()
    for letter in "abcdefgh":
        # Of the frame before, one byte at least is taken between two looks.
        peer.takes = 2
        box.flush(peer)
        box.give(letter)
        assert looks(box, 1) == [False]


def test_a_peer_that_reads_but_stays_behind_is_closed() -> None:
    box = Box("disconnect", 1 << 20)
    box.send(bytes(70_000))  # too large to be joined with what comes later
    box.send(bytes(70_000))
    peer = Peer()
    said = []
    for _ in range(LOOKS + 1):
        peer.takes = 100
        box.flush(peer)
        said += looks(box, 1)
    assert said == [False] * LOOKS + [True]


def test_one_large_frame_may_take_its_time() -> None:
    box = Box("disconnect", 10)
    box.begin(bytes(1000), 0)
    peer = Peer()
    for _ in range(20):
        peer.takes = 1
        box.flush(peer)
        assert not box.look()
    assert looks(box, LOOKS + 1)[-1]


def test_old_messages_of_rooms_are_dropped() -> None:
    box = Box("drop_oldest", 100)
    box.give("aBcD")
    assert not any(looks(box, 2))
    box.give("EfG")
    assert not any(looks(box, LOOKS - 1))
    assert box.dropped["drop_oldest"] == 2
    box.give("H")
    assert not any(looks(box, 2))
    assert box.dropped["drop_oldest"] == 4
    assert box.rest() == "0acfH"


def test_new_messages_of_rooms_are_dropped_while_old_ones_wait() -> None:
    box = Box("drop_newest", 100)
    box.give("aB")
    assert not any(looks(box, LOOKS))
    box.give("C")
    assert not any(looks(box, 1))
    box.give("Dd")
    assert box.dropped["drop_newest"] == 1
    peer = Peer()
    peer.takes = 3
    box.flush(peer)  # offers all that waited
    box.give("E")
    assert box.dropped["drop_newest"] == 1
    assert (peer.got, box.rest()) == (b"0aa", "BCdE")


# Anything, in any order.


@given(
    st.sampled_from(POLICIES),
    st.lists(st.sampled_from(["room", "own", "look", "flush"]), max_size=80),
    st.integers(8, 60),
)
@settings(max_examples=200)
def test_bounded_in_order_and_only_rooms_have_gaps(
    policy: str, steps: list[str], max_bytes: int
) -> None:
    box = Box(policy, max_bytes)
    peer = Peer()
    said: list[bytes] = []
    own: list[bytes] = []
    for number, step in enumerate(steps):
        frame = b"%c%03d" % (b"R" if step == "room" else b"O", number)
        if step == "look":
            assert policy == "disconnect" or not box.look()
        elif step == "flush":
            peer.takes = number % 7
            box.flush(peer)
        elif not box.overflows:
            said.append(frame)
            box.send(RoomFrames.of([frame]) if step == "room" else frame)
            if step == "own" and not box.overflows:
                own.append(frame)
        assert box.size <= max_bytes
    peer.takes = 1 << 20
    assert box.flush(peer)
    data = peer.got[1:]
    got = [data[place : place + 4] for place in range(0, len(data), 4)]
    assert got == [frame for frame in said if frame in got]
    assert [frame for frame in got if frame[:1] == b"O"] == own
    lost = len(said) - len(got) - box.overflows
    assert box.dropped.total() == lost
    if policy == "disconnect":
        assert lost == 0
