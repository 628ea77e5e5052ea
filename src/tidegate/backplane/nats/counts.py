"""To how many connections a message went that was sent to all nodes.

Each node tells the sender how many it was on this node. What a node has to tell another one is
gathered for some milliseconds, so that many messages are counted by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.peers import Peers
    from tidegate.backplane.nats.wire import Message

__all__ = ["Counts"]

_GATHER_SECONDS: Final = 0.003

_encode = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(tuple[str, list[tuple[int, int]]]).decode


class _Sent:
    """A message of this node that is not counted by all."""

    __slots__ = ("count", "done", "ends", "expected")

    def __init__(self, done: Callable[[int], None], expected: set[str], ends: float) -> None:
        self.done = done
        self.expected = expected
        """The nodes that have not told, this one included."""
        self.ends = ends
        self.count = 0


class Counts:
    """Gathers what nodes tell of the messages of this one, and tells them of theirs.

    Args:
        bus: the connection to the server.
        peers: knows which nodes there are; None for a node that counts its own connections only.
    """

    def __init__(self, bus: Bus, peers: Peers | None) -> None:
        self._bus = bus
        self._peers = peers
        self._number = 0
        self._waiting: dict[int, _Sent] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._to_tell: dict[str, list[tuple[int, int]]] = {}
        if peers is not None:
            bus.hear(bus.name("counts", bus.node), self._told)
        bus.watch(down=self._down, stopped=self._stop)

    def begin(self, done: Callable[[int], None]) -> int:
        """Return the number of a message; `done` is told how many got it, in bounded time."""
        self._number = number = self._number + 1
        expected = {self._bus.node}
        if self._peers is not None:
            expected |= self._peers.present
        self._waiting[number] = _Sent(done, expected, monotonic() + self._bus.timeout)
        if self._sweeping is None:
            self._sweep_later()
        return number

    def failed(self, number: int) -> None:
        """The server has not taken a message."""
        if number in self._waiting:
            self._over(number)

    def delivered(self, node: str, number: int, count: int) -> None:
        """A message of a node went to so many connections of this one."""
        if node == self._bus.node:
            self._count(node, number, count)
        elif self._peers is not None:
            if not self._to_tell:
                asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._tell)
            self._to_tell.setdefault(node, []).append((number, count))

    def _down(self) -> None:
        """What others tell does not come: messages count as far as they were counted."""
        for number in tuple(self._waiting):
            self._over(number)

    def _stop(self) -> None:
        """Call nobody any more."""
        self._waiting.clear()
        self._to_tell.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _tell(self) -> None:
        to_tell, self._to_tell = self._to_tell, {}
        for node, counts in to_tell.items():
            self._bus.tell(self._bus.name("counts", node), _encode((self._bus.node, counts)))

    def _told(self, message: Message) -> None:
        node, counts = _read(message.data)
        for number, count in counts:
            self._count(node, number, count)

    def _count(self, node: str, number: int, count: int) -> None:
        sent = self._waiting.get(number)
        if sent is not None:
            sent.count += count
            sent.expected.discard(node)
            if not sent.expected:
                self._over(number)

    def _over(self, number: int) -> None:
        sent = self._waiting.pop(number)
        sent.done(sent.count)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._bus.timeout / 4, self._sweep)

    def _sweep(self) -> None:
        """A node that stands still is not waited for, and not the next time either."""
        now = monotonic()
        for number, sent in tuple(self._waiting.items()):
            if sent.ends > now:
                break
            if self._peers is not None:
                for node in sent.expected:
                    self._peers.doubt(node)
            self._over(number)
        self._sweeping = None
        if self._waiting:
            self._sweep_later()
