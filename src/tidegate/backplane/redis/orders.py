"""Orders to all nodes, and what they answer.

An order is published to all nodes, and the server says how many that are. Each answers to a channel
of the node that asks. That one hears its own order too: its answer is that it has.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidegate.backplane.base import Answers

if TYPE_CHECKING:
    from tidegate.backplane.base import CarryOut
    from tidegate.backplane.redis.links import Links

__all__ = ["RedisOrders"]

_log = logging.getLogger("tidegate")

_MOST: Final = 1000  # orders that are carried out at a time


class _Order(msgspec.Struct, array_like=True, frozen=True):
    """What is published; fields that come new are put at the end, so that older nodes read it."""

    node: str
    number: int
    kind: str
    body: bytes


class _Answer(msgspec.Struct, array_like=True, frozen=True):
    number: int
    body: bytes | None
    """None when it was not carried out."""


class _Asked:
    """An order of this node that is not answered by all."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.failed = 0
        self.heard = 0
        """How many have got it and said so, this node included."""
        self.nodes: int | None = None
        """How many were sent it, once that is known."""
        self.over = asyncio.Event()

    def check(self) -> None:
        if self.nodes is not None and self.heard >= self.nodes:
            self.over.set()


_encode = msgspec.msgpack.Encoder().encode
_read_order = msgspec.msgpack.Decoder(_Order).decode
_read_answer = msgspec.msgpack.Decoder(_Answer).decode


class RedisOrders:
    """Asks the other nodes, and carries out what they ask.

    Args:
        links: the connections to the server.
    """

    _carry_out: CarryOut

    def __init__(self, links: Links) -> None:
        self._links = links
        self._orders = links.name("orders")
        self._own = self._answers(links.node)
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._work: set[asyncio.Task[None]] = set()
        links.hear(self._orders, self._ordered)
        links.hear(self._orders_to(links.node), self._ordered)
        links.hear(self._own, self._answered)

    def start(self, carry_out: CarryOut, /) -> None:
        """Carry out orders by this. It is called before the connections are made."""
        self._carry_out = carry_out

    async def ask(self, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Ask all other nodes; return what they have answered within so many seconds."""
        return await self._ask(self._orders, kind, body, seconds)

    async def ask_one(self, node: str, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Ask one other node."""
        return await self._ask(self._orders_to(node), kind, body, seconds)

    async def _ask(self, channel: bytes, kind: str, body: bytes, seconds: float) -> Answers:
        if not self._links.up:
            return Answers([], complete=False)
        self._number = number = self._number + 1
        asked = self._asked[number] = _Asked()

        def sent(answer: Any) -> None:
            if isinstance(answer, Exception):
                asked.failed += 1
                asked.over.set()
            else:
                asked.nodes = answer
                asked.check()

        order = _encode(_Order(self._links.node, number, kind, body))
        self._links.publish(channel, order, sent)
        complete = True
        try:
            await asyncio.wait_for(asked.over.wait(), seconds)
        except TimeoutError:
            complete = False
        finally:
            del self._asked[number]
        return Answers(asked.answers, complete=complete and not asked.failed)

    def _orders_to(self, node: str) -> bytes:
        return self._links.name("orders", node)

    def _answers(self, node: str) -> bytes:
        return self._links.name("node", node)

    def _answered(self, data: bytes) -> None:
        self._note(_read_answer(data))

    def _note(self, answer: _Answer) -> None:
        asked = self._asked.get(answer.number)
        if asked is None:
            return  # it comes too late
        if answer.body is None:
            asked.failed += 1
        else:
            asked.answers.append(answer.body)
        asked.heard += 1
        asked.check()

    def _ordered(self, data: bytes) -> None:
        order = _read_order(data)
        if order.node == self._links.node:
            asked = self._asked.get(order.number)
            if asked is not None:
                asked.heard += 1
                asked.check()
            return
        if len(self._work) >= _MOST:
            self._answer(order, None)
            return
        task = asyncio.get_running_loop().create_task(self._do(order))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _do(self, order: _Order) -> None:
        answer = None
        try:
            answer = await self._carry_out(order.kind, order.body)
        except Exception:
            _log.exception("an order of another node failed", extra={"order": order.kind[:64]})
        self._answer(order, answer)

    def _answer(self, order: _Order, body: bytes | None) -> None:
        answer = _encode(_Answer(order.number, body))
        self._links.publish(self._answers(order.node), answer, lambda _: None)
