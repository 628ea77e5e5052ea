"""Refused sockets: how many linger, for how long, and how much looking at them costs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tidegate.core.settings import LimitsSettings
from tidegate.engine.lingering import Lingerers
from tidegate.engine.unfinished import Unfinished

NOW = 100.0
RESTED = NOW + 0.03


class Refused:
    """Our end of a socket that was refused, and the peer's."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.looks = 0
        self._ours = ours

    def shutdown(self, how: int) -> None:
        self._ours.shutdown(how)

    def recv(self, size: int) -> bytes:
        self.looks += 1
        return self._ours.recv(size)

    def close(self) -> None:
        self._ours.close()

    @property
    def closed(self) -> bool:
        return self._ours.fileno() < 0


@pytest.fixture
def line() -> Iterator[list[Refused]]:
    made: list[Refused] = []
    yield made
    for one in made:
        one.close()
        one.peer.close()


def make(most: int = 1024) -> Lingerers:
    return Lingerers(Unfinished(most, LimitsSettings()))


def refuse(
    lingerers: Lingerers, line: list[Refused], count: int, now: float, address: str | None = None
) -> None:
    for _ in range(count):
        one = Refused()
        line.append(one)
        lingerers.add(one, now, address)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ended", "at", "left"),
    [
        (False, RESTED, 1),
        (False, NOW + 1.9, 1),
        (False, NOW + 2.1, 0),  # its time is over
        (True, NOW + 0.01, 1),  # too early to look again
        (True, RESTED, 0),
    ],
)
def test_how_long_one_lingers(line: list[Refused], ended: bool, at: float, left: int) -> None:
    lingerers = make()
    refuse(lingerers, line, 1, NOW)
    line[0].peer.send(b"more of what was refused")
    if ended:
        line[0].peer.shutdown(socket.SHUT_WR)
        line[0].recv(100)
    lingerers.sweep(at)
    assert len(lingerers) == left
    assert line[0].closed == (not left)


def test_a_peer_that_is_gone_already(line: list[Refused]) -> None:
    lingerers = make()
    one = Refused()
    line.append(one)
    one.close()
    lingerers.add(one, NOW, None)  # type: ignore[arg-type]
    assert len(lingerers) == 0


def test_a_storm_clears_up_behind_itself(line: list[Refused]) -> None:
    """Peers that end are closed by the refusals that follow, without a sweep."""
    lingerers = make()
    for number in range(200):
        refuse(lingerers, line, 1, NOW + number / 1000)
        line[-1].peer.close()
        assert len(lingerers) <= 23  # those of the last 20 ms
    assert all(one.looks <= 1 for one in line)


def test_looks_at_those_who_stay_are_spread_out(line: list[Refused]) -> None:
    lingerers = make()
    refuse(lingerers, line, 200, NOW)
    looks = []
    for tick in range(1, 9):
        before = sum(one.looks for one in line)
        lingerers.sweep(NOW + tick / 10)
        looks.append(sum(one.looks for one in line) - before)
    assert looks == [32] * 8
    # Nobody is looked at twice before the others.
    assert max(one.looks for one in line) - min(one.looks for one in line) <= 1
    for tick in range(9, 60):
        lingerers.sweep(NOW + tick / 10)
    assert len(lingerers) == 0


def test_the_one_whose_look_is_longest_ago_makes_room(line: list[Refused]) -> None:
    lingerers = make(most=3)
    refuse(lingerers, line, 5, NOW)
    assert [one.closed for one in line] == [True, True, False, False, False]
    lingerers.close()
    assert all(one.closed for one in line)


def test_one_address_lingers_only_so_often_and_others_beside_it(line: list[Refused]) -> None:
    lingerers = make(most=15)
    refuse(lingerers, line, 20, NOW, "192.0.2.1")
    assert [one.closed for one in line] == [False] * 5 + [True] * 15
    for one in line[5:]:
        assert one.peer.recv(10) == b"", "it is told the end"
    refuse(lingerers, line, 1, NOW, "192.0.2.2")
    assert not line[-1].closed
    assert (len(lingerers), len(lingerers.unfinished)) == (6, 6)
    lingerers.sweep(NOW + 2.1)
    assert (len(lingerers), len(lingerers.unfinished)) == (0, 0)
    refuse(lingerers, line, 1, NOW, "192.0.2.1")
    assert not line[-1].closed
