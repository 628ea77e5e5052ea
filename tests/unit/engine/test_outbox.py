"""What waits for a slow peer: in order, bounded, and cut between frames only."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.buffers import Buffers
from tidegate.engine.outbox import DISCARD, Outbox
from tidegate.wire.frames import BINARY, CLOSE, PING, PONG, encode, encode_close
from tidegate.wire.reader import Reader

BIG = 1 << 20


class Peer:
    """A socket that takes what the list says, one number for each call: None is "would block"."""

    def __init__(self, *takes: int | None) -> None:
        self.takes = list(takes)
        self.calls: list[bytes] = []
        self.got = b""

    def send(self, data: bytes, /) -> int:
        take = self.takes.pop(0) if self.takes else BIG
        if take is None:
            raise BlockingIOError
        self.calls.append(data)
        self.got += data[:take]
        return min(take, len(data))


def never() -> None:
    raise AssertionError("overflow without need")


def unbounded() -> Buffers:
    return Buffers(1 << 40, lambda work: None, lambda ended: None)


def outbox(first: bytes, sent: int = 0, max_bytes: int = BIG) -> Outbox:
    box = Outbox(max_bytes, never, "disconnect", Counter(), unbounded(), lambda _: None)
    box.begin(first, sent)
    return box


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Parse what a peer got, which must be whole frames."""
    reader = Reader(BIG, 1, masked=False)
    reader.feed(data)
    found = list(iter(reader.next, None))
    assert reader.idle, "a part of a frame is left"
    return found


@pytest.mark.parametrize(
    ("takes", "left", "got"),
    [
        ([], 0, b"defghi"),
        ([None], 6, b""),
        ([0], 6, b""),
        ([2], 4, b"de"),
        ([3, None], 3, b"def"),
        ([3, 2], 1, b"defgh"),
        ([3, 3], 0, b"defghi"),
    ],
)
def test_one_flush(takes: list[int | None], left: int, got: bytes) -> None:
    box = outbox(b"abcdef", sent=3)
    assert box.send(b"ghi") == 3
    assert box.size == 6
    peer = Peer(*takes)
    assert box.flush(peer) == (left == 0)
    assert (box.size, peer.got) == (left, got)
    assert box.flush(peer)
    assert (box.size, peer.got) == (0, b"defghi")


def test_small_frames_are_joined_and_large_ones_are_cut() -> None:
    box = outbox(b"a" * 100_000, 1)
    for _ in range(99):
        box.send(b"b" * 10)
    box.send(b"c" * 140_000)
    peer = Peer()
    assert box.flush(peer)
    assert peer.got == b"a" * 99_999 + b"b" * 990 + b"c" * 140_000
    assert list(map(len, peer.calls)) == [65_536, 34_463, 990, 65_536, 65_536, 8928]


def test_an_error_of_the_socket_comes_out() -> None:
    class Gone:
        def send(self, data: bytes, /) -> int:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        outbox(b"a").flush(Gone())


# The bound.


@pytest.mark.parametrize(
    ("first", "sizes", "over"),
    [
        (b"12345678", [2], False),
        (b"12345678", [3], True),
        (b"1", [4, 5], False),
        (b"1", [4, 6], True),
        (b"123456789012", [], False),  # the frame that it begins with may be larger
        (b"123456789012", [1], True),
    ],
)
def test_the_bound(first: bytes, sizes: list[int], over: bool) -> None:
    calls: list[int] = []
    box = Outbox(
        10, lambda: calls.append(box.size), "disconnect", Counter(), unbounded(), lambda _: None
    )
    box.begin(first, 0)
    for size in sizes:
        assert box.send(bytes(size)) == size
    assert len(calls) == over


def test_it_overflows_once_and_keeps_nothing_from_then_on() -> None:
    calls: list[None] = []
    box = Outbox(
        10, lambda: calls.append(None), "disconnect", Counter(), unbounded(), lambda _: None
    )
    box.begin(b"12345678", 0)
    for size in (3, 3, 1):
        assert box.send(bytes(size)) == size
    assert (len(calls), box.size) == (1, 8)
    peer = Peer()
    assert box.flush(peer)
    assert peer.got == b"12345678"
    box.send(b"later")
    assert box.size == 0


def test_what_is_taken_makes_room() -> None:
    box = outbox(b"12345678", max_bytes=10)
    box.flush(Peer(6, None))
    box.send(b"12345678")
    assert box.size == 10


def test_the_last_frame_is_kept_whatever_the_bound() -> None:
    box = outbox(b"12345678", max_bytes=8)
    box.push(b"close")
    peer = Peer()
    assert box.flush(peer)
    assert peer.got == b"12345678close"


# Pings and pongs.

FIRST, SECOND, PINGED = encode(BINARY, b"first"), encode(BINARY, b"second"), encode(PING, b"ping")


@pytest.mark.parametrize(
    ("sent", "takes", "order"),
    [
        (0, [None], ["first", "ping", "second"]),
        (2, [], ["first", "ping", "second"]),
        (2, [3, None], ["first", "ping", "second"]),
        # What was offered is sent next: it may be in a TLS record.
        (2, [5, None], ["first", "second", "ping"]),
        (2, [5, 1], ["first", "second", "ping"]),
        (2, [5, 7, None], ["first", "second", "ping"]),
    ],
)
def test_a_ping_goes_ahead_of_all_that_was_not_offered(
    sent: int, takes: list[int | None], order: list[str]
) -> None:
    box = outbox(FIRST, sent)
    box.send(SECOND)
    peer = Peer(*takes)
    peer.got = FIRST[:sent]
    while peer.takes:
        box.flush(peer)
    box.urge(PINGED)
    assert box.flush(peer)
    assert [payload.decode() for _, payload in frames(peer.got)] == order
    assert box.size == 0


def test_nothing_goes_behind_the_close_frame() -> None:
    box = outbox(FIRST, 1)
    box.urge(PINGED)
    box.push(encode_close(4000))
    peer = Peer()
    peer.got = FIRST[:1]
    assert box.flush(peer)
    assert [opcode for opcode, _ in frames(peer.got)] == [BINARY, PING, CLOSE]


def test_only_the_latest_ping_and_the_latest_pong_are_kept() -> None:
    box = outbox(FIRST, max_bytes=len(FIRST))
    for number in range(10):
        box.urge(encode(PING, b"%d" % number))
        box.urge(encode(PONG, b"%d" % number))
    peer = Peer()
    assert box.flush(peer)
    assert frames(peer.got) == [(BINARY, b"first"), (PING, b"9"), (PONG, b"9")]


# Giving up.


@pytest.mark.parametrize(
    ("sent", "takes", "kept"),
    [
        (0, [], ["first"]),  # it was offered, so a part of it may be in a TLS record
        (1, [], ["first"]),
        (1, [len(FIRST) - 2], ["first"]),
        (1, [len(FIRST) - 1, None], ["first", "second"]),
        (1, [len(FIRST) - 1, 1], ["first", "second"]),
        (1, [len(FIRST) - 1, len(SECOND) - 1], ["first", "second"]),
    ],
)
def test_only_what_was_begun_is_kept(sent: int, takes: list[int | None], kept: list[str]) -> None:
    box = outbox(FIRST, sent)
    peer = Peer(*takes)
    peer.got = FIRST[:sent]
    if takes:
        box.send(SECOND)
        box.flush(peer)
    box.send(encode(BINARY, b"third"))
    box.urge(PINGED)
    box.keep_begun_frame()
    box.push(encode_close(4008))
    waiting = box.size
    before = len(peer.got)
    assert box.flush(peer)
    assert len(peer.got) - before == waiting
    *data, last = frames(peer.got)
    assert [payload.decode() for _, payload in data] == kept
    assert last[0] == CLOSE


# Any peer, any order.

TAKES = st.one_of(st.none(), st.integers(0, 40), st.just(BIG))
SIZES = st.one_of(st.integers(0, 20), st.sampled_from([124, 126, 30_000, 65_536, 140_000]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIZES),
        st.tuples(st.just("urge"), st.sampled_from([PING, PONG])),
        st.tuples(st.just("flush"), st.lists(TAKES, max_size=3)),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 6), st.booleans())
@settings(max_examples=80)
def test_everything_arrives_once_in_order_and_whole(
    steps: list[tuple[str, object]], sent: int, gives_up: bool
) -> None:
    """Frames carry numbers; pings and pongs may be anywhere between them, the latest of each."""
    box = outbox(FIRST, sent, max_bytes=10 * BIG)
    peer = Peer()
    peer.got = FIRST[:sent]
    said = [(BINARY, b"first")]
    urged: list[tuple[int, bytes]] = []
    for number, (step, value) in enumerate(steps):
        if step == "send":
            assert isinstance(value, int)
            payload = b"%d" % number + bytes(value)
            said.append((BINARY, payload))
            box.send(encode(BINARY, payload))
        elif step == "urge":
            assert isinstance(value, int)
            urged.append((value, b"%d" % number))
            box.urge(encode(value, b"%d" % number))
        else:
            assert isinstance(value, list)
            peer.takes = [*value, None]
            size, had = box.size, len(peer.got)
            done = box.flush(peer)
            peer.takes = []
            if not done:
                assert box.size > 0
            assert box.size >= size - (len(peer.got) - had)
    if gives_up:
        box.keep_begun_frame()
    box.push(encode_close(4008))
    assert box.flush(peer)
    assert box.size == 0

    *got, last = frames(peer.got)
    assert last[0] == CLOSE
    data = [frame for frame in got if frame[0] == BINARY]
    assert data == (said[: len(data)] if gives_up else said)
    control = [frame for frame in got if frame[0] != BINARY]
    assert len(set(control)) == len(control)
    for opcode in (PING, PONG):
        mine = [frame for frame in urged if frame[0] == opcode]
        found = [frame for frame in control if frame[0] == opcode]
        assert found == [frame for frame in mine if frame in found]  # in order
        if mine and not gives_up:
            assert found[-1] == mine[-1]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 40))
@settings(max_examples=60)
def test_never_more_waits_than_the_bound(sizes: list[int], bound: int) -> None:
    overflows: list[int] = []
    box = Outbox(
        bound,
        lambda: overflows.append(len(kept)),
        "disconnect",
        Counter(),
        unbounded(),
        lambda _: None,
    )
    kept: list[bytes] = []
    for number, size in enumerate(sizes):
        data = bytes([number]) * size
        box.send(data)
        if not overflows:
            kept.append(data)
        assert box.size <= bound
    assert len(overflows) <= 1
    assert bool(overflows) == (sum(sizes) > bound)
    peer = Peer()
    box.flush(peer)
    assert peer.got == b"".join(kept)


def test_the_sink_of_a_connection_that_must_not_send() -> None:
    assert DISCARD.send(b"whatever") == 8
