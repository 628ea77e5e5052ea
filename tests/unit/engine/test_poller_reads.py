"""What the poller reads itself: for a lot of entries, before it is handled."""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.engine.polling import Clock, Errors, Pair
from tidegate.core.codes import RESET, Close
from tidegate.engine import poller as module
from tidegate.engine.poller import BATCH, READ, TURN_SECONDS, WRITE, Entry, Poller, Source


class Reading(Entry):
    def __init__(self, sock: Source) -> None:
        self.sock = sock
        self.reasons: list[Any] = []
        self.events: list[int] = []

    def on_events(self, events: int) -> bool:
        self.events.append(events)
        return True

    def on_crash(self) -> None:
        raise AssertionError

    def lost(self, reason: Close) -> None:
        self.reasons.append(reason)


class Handled:
    """Handles what was read, and notes it, with how much had been read then."""

    def __init__(self, poller: Poller) -> None:
        self.all: list[tuple[Entry, bytes]] = []
        self.batches: list[int] = []
        self._poller = poller
        poller._handle = self

    def __call__(self, until: float) -> bool:
        read = self._poller.read
        clock: Callable[[], float] = vars(module)["monotonic"]  # a test may have replaced it
        if read:
            self.batches.append(len(read))
        while read:
            self.all.append(read.popleft())
            if clock() >= until:
                return True
        return clock() >= until


class Script:
    """A socket whose reads give what is in the list."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    def recv(self, size: int, /) -> bytes:
        self.asked.append(size)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def reading(poller: Poller, sock: socket.socket, source: Source | None = None) -> Reading:
    entry = Reading(source or sock)
    poller.register(sock.fileno(), entry)
    return entry


def test_a_lot_is_read_before_it_is_handled(poller: Poller, pairs: Pair) -> None:
    handled = Handled(poller)
    entries = []
    for number in range(2 * BATCH + 3):
        mine, peer = pairs()
        entries.append(reading(poller, mine))
        peer.send(b"%d" % number)
    poller.turn()
    assert sorted(handled.batches) == [3, BATCH, BATCH]
    assert dict(handled.all) == {entry: b"%d" % number for number, entry in enumerate(entries)}


def test_what_time_was_too_short_for_comes_first(poller: Poller, pairs: Pair, clock: Clock) -> None:
    handled = Handled(poller)
    peers = []
    for _ in range(10):
        mine, peer = pairs()
        reading(poller, mine)
        peers.append(peer)
        peer.send(b"1")
    clock.tick = TURN_SECONDS / 4
    poller.turn()
    before = len(handled.all)
    assert 0 < before < 10
    for peer in peers:
        peer.send(b"2")
    clock.tick = 0.0
    poller.turn()
    data = [data for _, data in handled.all]
    assert data[:10] == [b"1"] * 10
    assert sorted(data[10:]) == [b"2"] * 10


def test_another_turn_is_asked_for_what_was_read_and_not_handled(
    poller: Poller, pairs: Pair, loop: AbstractEventLoop, clock: Clock
) -> None:
    """The selector does not tell of it any more."""
    handled = Handled(poller)
    for _ in range(5):
        mine, peer = pairs()
        reading(poller, mine)
        peer.send(b"x")
    clock.tick = TURN_SECONDS
    poller.turn()
    assert len(poller.read) == 4
    assert poller.others_wait(-1)
    clock.tick = 0.0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not poller.read
    assert not poller.others_wait(-1)
    assert len(handled.all) == 5


@pytest.mark.parametrize("size", [0, 1, 447, 448, 449, 4000, 65536, 65984, 65985])
def test_sizes(poller: Poller, pairs: Pair, size: int) -> None:
    """All of what a message needs is read at once, and the end is nothing."""
    handled = Handled(poller)
    mine, peer = pairs()
    for sock in (mine, peer):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 19)
    entry = reading(poller, mine)
    sent = bytes(number % 251 for number in range(size))
    assert peer.send(sent) == size
    peer.close()
    poller.turn()
    assert handled.all.pop(0) == (entry, sent[: 448 + 65536])
    for _ in range(2):
        poller.turn()
    rest = [data for _, data in handled.all]
    assert b"".join(rest) == sent[448 + 65536 :]
    assert not size or rest[-1] == b""


def test_room_for_large_ones(poller: Poller, pairs: Pair) -> None:
    """The first large one costs a second read, the others behind it do not."""
    Handled(poller)
    sources = []
    for _ in range(3):
        mine, peer = pairs()
        sources.append(Script(b"x" * 448, b"y" * 1000))
        reading(poller, mine, sources[-1])
        peer.send(b"x")
    poller.turn()
    assert sorted(source.asked for source in sources) == [[448, 65536], [65536], [65536]]


class Case:
    def __init__(
        self, *answers: bytes | OSError, data: list[bytes] | None = None, lost: bool = False
    ) -> None:
        self.answers, self.data, self.lost = answers, data or [], lost


@pytest.mark.parametrize(
    "case",
    [
        Case(BlockingIOError()),
        Case(ConnectionResetError(), lost=True),
        Case(TimeoutError(), lost=True),
        Case(b"", data=[b""]),
        Case(b"x" * 448, BlockingIOError(), data=[b"x" * 448]),
        Case(b"x" * 448, ConnectionResetError(), data=[b"x" * 448]),
        Case(b"x" * 448, b"", data=[b"x" * 448]),
    ],
)
def test_how_a_read_ends(poller: Poller, pairs: Pair, case: Case) -> None:
    handled = Handled(poller)
    mine, peer = pairs()
    entry = reading(poller, mine, Script(*case.answers))
    peer.send(b"x")
    poller.turn()
    assert [data for _, data in handled.all] == case.data
    assert entry.reasons == [RESET] * case.lost


def test_other_events_may_ask_for_a_read(poller: Poller, pairs: Pair) -> None:
    handled = Handled(poller)
    mine, peer = pairs()
    entry = reading(poller, mine)
    poller.modify(mine.fileno(), READ | WRITE)
    peer.send(b"x")
    poller.turn()
    assert entry.events == [READ | WRITE]
    assert handled.all == [(entry, b"x")]


def test_an_error_while_reading_loses_nothing_that_was_read(
    poller: Poller, pairs: Pair, loop: AbstractEventLoop, errors: Errors
) -> None:
    class Broken(Reading):
        def lost(self, reason: Close) -> None:
            poller.forget(bad.fileno())
            raise RuntimeError("ours")

        def on_crash(self) -> None:
            self.reasons.append("crash")

    handled = Handled(poller)
    good: list[Any] = []
    for _ in range(2):
        mine, peer = pairs()
        good.append(reading(poller, mine))
        peer.send(b"x")
    bad, peer = pairs()
    broken = Broken(Script(ConnectionResetError()))
    poller.register(bad.fileno(), broken)
    peer.send(b"x")
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert sorted(handled.all, key=str) == sorted(((entry, b"x") for entry in good), key=str)
    assert broken.reasons == ["crash"]
    assert [str(error) for error in errors] == ["ours"]
    errors.clear()
