"""How nodes tell to how many connections a message went, over Valkey or Redis.

Publishing says how many nodes get a message, so the sender knows how many will tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.backplane.counting import Counting, Sent

if TYPE_CHECKING:
    from tidegate.backplane.redis.links import Links

__all__ = ["Counts"]

_encode = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


class _Sent(Sent):
    __slots__ = ("heard", "nodes")

    def __init__(self, done: Callable[[int], None], ends: float) -> None:
        super().__init__(done, ends)
        self.heard = 0
        self.nodes: int | None = None
        """How many were sent it, once that is known."""


class Counts(Counting[_Sent]):
    """Counts the messages of a node.

    Args:
        links: the connections to the server.
    """

    def __init__(self, links: Links) -> None:
        super().__init__(links.node, links.timeout)
        self._links = links
        links.hear(self._channel(links.node), lambda data: self.told("", _read(data)))

    def sent(self, number: int, answer: Any) -> None:
        """The server has taken a message: its epoch, its offset, and to how many nodes it went."""
        sent = self._waiting.get(number)
        if sent is None:
            return
        if isinstance(answer, Exception):
            self._over(number)
        else:
            sent.nodes = answer[2]
            self._check(number, sent)

    def _new(self, done: Callable[[int], None], ends: float) -> _Sent:
        return _Sent(done, ends)

    def _counted(self, number: int, sent: _Sent, node: str) -> None:  # noqa: ARG002
        sent.heard += 1
        self._check(number, sent)

    def _check(self, number: int, sent: _Sent) -> None:
        if sent.nodes is not None and sent.heard >= sent.nodes:
            self._over(number)

    def _send(self, node: str, counts: list[tuple[int, int]]) -> None:
        self._links.publish(self._channel(node), _encode(counts), lambda _: None)

    def _channel(self, node: str) -> bytes:
        return self._links.name("counts", node)
