"""To how many connections a message went that was sent to all nodes, whatever carries it.

Each node tells the sender how many it was on this node. What a node has to tell another one is
gathered for some milliseconds, so that many messages are counted by one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Final, Generic, TypeVar

__all__ = ["Counting", "Sent"]

_GATHER_SECONDS: Final = 0.003


class Sent:
    """A message of this node that is not counted by all."""

    __slots__ = ("count", "done", "ends")

    def __init__(self, done: Callable[[int], None], ends: float) -> None:
        self.done = done
        self.ends = ends
        self.count = 0


S = TypeVar("S", bound=Sent)


class Counting(ABC, Generic[S]):
    """Gathers what nodes tell of the messages of this one, and tells them of theirs.

    Args:
        node: the name of this node.
        timeout: seconds for which a node is waited for that does not tell.
    """

    def __init__(self, node: str, timeout: float) -> None:
        self._node = node
        self._timeout = timeout
        self._number = 0
        self._waiting: dict[int, S] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._to_tell: dict[str, list[tuple[int, int]]] = {}

    @abstractmethod
    def _new(self, done: Callable[[int], None], ends: float) -> S:
        """Return a message that nobody has counted."""

    @abstractmethod
    def _counted(self, number: int, sent: S, node: str) -> None:
        """A node has told; call `_over` when it was the last one."""

    @abstractmethod
    def _send(self, node: str, counts: list[tuple[int, int]]) -> None:
        """Tell another node."""

    def _late(self, sent: S) -> None:
        """A message is not waited for any longer."""

    def begin(self, done: Callable[[int], None]) -> int:
        """Return the number of a message; `done` is told how many got it, in bounded time."""
        self._number = number = self._number + 1
        self._waiting[number] = self._new(done, monotonic() + self._timeout)
        if self._sweeping is None:
            self._sweep_later()
        return number

    def delivered(self, node: str, number: int, count: int) -> None:
        """A message of a node went to so many connections of this one."""
        if node == self._node:
            self.told(node, [(number, count)])
            return
        if not self._to_tell:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._tell)
        self._to_tell.setdefault(node, []).append((number, count))

    def told(self, node: str, counts: list[tuple[int, int]]) -> None:
        """A node tells of messages of this one."""
        for number, count in counts:
            sent = self._waiting.get(number)
            if sent is not None:
                sent.count += count
                self._counted(number, sent, node)

    def lost(self) -> None:
        """What others tell does not come: messages count as far as they were counted."""
        for number in tuple(self._waiting):
            self._over(number)

    def stop(self) -> None:
        """Call nobody any more."""
        self._waiting.clear()
        self._to_tell.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _over(self, number: int) -> None:
        sent = self._waiting.pop(number)
        sent.done(sent.count)

    def _tell(self) -> None:
        to_tell, self._to_tell = self._to_tell, {}
        for node, counts in to_tell.items():
            self._send(node, counts)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._timeout / 4, self._sweep)

    def _sweep(self) -> None:
        """A node that stands still is not waited for."""
        now = monotonic()
        for number, sent in tuple(self._waiting.items()):
            if sent.ends > now:
                break
            self._late(sent)
            self._over(number)
        self._sweeping = None
        if self._waiting:
            self._sweep_later()
