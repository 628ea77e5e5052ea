"""The memory of one process for what waits: one count and one bound for all connections.

It counts what connections hold: messages that have begun to arrive, or wait for a handler or for
their turn, and outboxes. Where that passes the bound, those that hold the most are ended, until
there is some room again.

A frame of a room is kept once for all members that have not taken it, and so it is counted once.
The end of one of these frees little, so a frame of a room weighs a sixteenth when it is asked who
holds the most.

Counting is done where a buffer is made, grows or shrinks, never for what is sent or handled at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nlargest
from itertools import chain, islice
from operator import attrgetter
from time import monotonic
from typing import Any, Final, Protocol

__all__ = ["Buffers", "Holder"]

SHARED_WEIGHT: Final = 1 / 16
"""What a byte of a room's frame weighs, against a byte that only one connection holds."""

_STEP_SECONDS: Final = 0.002
_MOST_COMPARED: Final = 8192  # so that one step stays short, however many hold something
_ENDED_PER_STEP: Final = 64
_ROOM: Final = 16  # after an end there is room for a sixteenth of the bound

_kept_of = attrgetter("kept")


class Holder(Protocol):
    """Who may hold something."""

    @property
    def kept(self) -> float:
        """What it holds, in bytes by weight."""

    def relieve(self) -> None:
        """End it, and free what it holds."""


class Buffers:
    """Counts bytes, and has the largest holders ended when there are too many.

    Args:
        most: the bound, in bytes.
        later: does some work soon, but not at once.
        relieved: told how many holders were ended, each time that some were.
    """

    __slots__ = ("_asked", "_later", "_most", "_others", "_relieved", "bytes", "held")

    def __init__(
        self,
        most: int,
        later: Callable[[Callable[[], None]], None],
        relieved: Callable[[int], None],
        others: Iterable[Iterable[Holder]] = (),
    ) -> None:
        self._later = later
        self._relieved = relieved
        self._others = others
        self._asked = False
        self.bytes = 0
        """Bytes that are kept now."""
        self.held: dict[Any, int] = {}
        """Who has bytes that are not in an `Outbox`, and how many: messages not handled yet."""
        self._most = most

    def apply(self, most: int) -> None:
        """Take over another bound."""
        self._most = most
        self.count(0)

    def count(self, size: int) -> None:
        """Count bytes that are kept from now on; with a minus, that are kept no longer."""
        self.bytes += size
        if self.bytes > self._most and not self._asked:
            self._ask()

    def hold(self, holder: Holder, size: int) -> None:
        """Say how many bytes a holder has that are not in an `Outbox`."""
        before = self.held.get(holder, 0)
        if size:
            self.held[holder] = size
        elif before:
            del self.held[holder]
        if size != before:
            self.count(size - before)

    def _ask(self) -> None:
        self._asked = True
        self._later(self._relieve)

    def _relieve(self) -> None:
        """End some of the largest holders; come back while it is too much."""
        until = monotonic() + _STEP_SECONDS
        self._asked = False
        enough = self._most - self._most // _ROOM
        if self.bytes <= enough:
            return
        holders = set(islice(chain(self.held, *self._others), _MOST_COMPARED))
        ended = 0
        for holder in nlargest(_ENDED_PER_STEP, holders, key=_kept_of):
            if self.bytes <= enough or not holder.kept:
                break
            holder.relieve()
            ended += 1
            if monotonic() >= until:
                break  # after one at least, whatever the look at all of them took
        if ended:
            self._relieved(ended)
            if self.bytes > enough and not self._asked:
                self._ask()
