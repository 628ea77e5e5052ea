"""How nodes tell to how many connections a message went, over NATS.

Nobody says how many nodes get a message, so the sender waits for those that it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tidegate.backplane.counting import Counting, Sent

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.peers import Peers
    from tidegate.backplane.nats.wire import Message

__all__ = ["Counts"]

_encode = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(tuple[str, list[tuple[int, int]]]).decode


class _Sent(Sent):
    __slots__ = ("expected",)

    def __init__(self, done: Callable[[int], None], ends: float, expected: set[str]) -> None:
        super().__init__(done, ends)
        self.expected = expected
        """The nodes that have not told, this one included."""


class Counts(Counting[_Sent]):
    """Counts the messages of a node.

    Args:
        bus: the connection to the server.
        peers: knows which nodes there are; None for a node that counts its own connections only.
    """

    def __init__(self, bus: Bus, peers: Peers | None) -> None:
        super().__init__(bus.node, bus.timeout)
        self._bus = bus
        self._peers = peers
        if peers is not None:
            bus.hear(bus.name("counts", bus.node), self._message)
        bus.watch(down=self.lost, stopped=self.stop)

    def failed(self, number: int) -> None:
        """The server has not taken a message."""
        if number in self._waiting:
            self._over(number)

    def _message(self, message: Message) -> None:
        self.told(*_read(message.data))

    def _new(self, done: Callable[[int], None], ends: float) -> _Sent:
        expected = {self._node}
        if self._peers is not None:
            expected |= self._peers.present
        return _Sent(done, ends, expected)

    def _counted(self, number: int, sent: _Sent, node: str) -> None:
        sent.expected.discard(node)
        if not sent.expected:
            self._over(number)

    def _late(self, sent: _Sent) -> None:
        """A node that stands still is not waited for the next time either."""
        if self._peers is not None:
            for node in sent.expected:
                self._peers.doubt(node)

    def _send(self, node: str, counts: list[tuple[int, int]]) -> None:
        if self._peers is not None:
            self._bus.tell(self._bus.name("counts", node), _encode((self._node, counts)))
