"""To how many connections a message went that was sent to all nodes.

Each node tells the sender how many it was on this node. What a node has to tell another one is
gathered for some milliseconds, so that many messages are counted by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from tidegate.backplane.redis.links import Links

__all__ = ["Counts"]

_GATHER_SECONDS: Final = 0.003

_encode = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


class _Sent:
    """A message of this node that is not counted by all."""

    __slots__ = ("count", "done", "ends", "heard", "nodes")

    def __init__(self, done: Callable[[int], None], ends: float) -> None:
        self.done = done
        self.ends = ends
        self.count = 0
        self.heard = 0
        self.nodes: int | None = None
        """How many were sent it, once that is known."""


class Counts:
    """Gathers what nodes tell of the messages of this one, and tells them of theirs.

    Args:
        links: the connections to the server.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._number = 0
        self._waiting: dict[int, _Sent] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._to_tell: dict[str, list[tuple[int, int]]] = {}
        links.hear(self._channel(links.node), self._told)

    def begin(self, done: Callable[[int], None]) -> int:
        """Return the number of a message; `done` is told how many got it, in bounded time."""
        self._number = number = self._number + 1
        self._waiting[number] = _Sent(done, monotonic() + self._links.timeout)
        if self._sweeping is None:
            self._sweep_later()
        return number

    def sent(self, number: int, answer: Any) -> None:
        """The server has taken a message: its epoch, its offset, and to how many nodes it went."""
        sent = self._waiting.get(number)
        if sent is None:
            return
        if isinstance(answer, Exception):
            self._over(number, sent)
        else:
            sent.nodes = answer[2]
            self._check(number, sent)

    def delivered(self, node: str, number: int, count: int) -> None:
        """A message of a node went to so many connections of this one."""
        if node == self._links.node:
            self._count(number, count)
            return
        if not self._to_tell:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._tell)
        self._to_tell.setdefault(node, []).append((number, count))

    def lost(self) -> None:
        """What others tell does not come: messages count as far as they were counted."""
        for number, sent in tuple(self._waiting.items()):
            self._over(number, sent)

    def stop(self) -> None:
        """Call nobody any more."""
        self._waiting.clear()
        self._to_tell.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _channel(self, node: str) -> bytes:
        return self._links.name("counts", node)

    def _tell(self) -> None:
        to_tell, self._to_tell = self._to_tell, {}
        for node, counts in to_tell.items():
            self._links.publish(self._channel(node), _encode(counts), lambda _: None)

    def _told(self, data: bytes) -> None:
        for number, count in _read(data):
            self._count(number, count)

    def _count(self, number: int, count: int) -> None:
        sent = self._waiting.get(number)
        if sent is not None:
            sent.count += count
            sent.heard += 1
            self._check(number, sent)

    def _check(self, number: int, sent: _Sent) -> None:
        if sent.nodes is not None and sent.heard >= sent.nodes:
            self._over(number, sent)

    def _over(self, number: int, sent: _Sent) -> None:
        del self._waiting[number]
        sent.done(sent.count)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._links.timeout / 4, self._sweep)

    def _sweep(self) -> None:
        """A node that stands still is not waited for."""
        now = monotonic()
        for number, sent in tuple(self._waiting.items()):
            if sent.ends > now:
                break
            self._over(number, sent)
        self._sweeping = None
        if self._waiting:
            self._sweep_later()
