"""Orders to all nodes, or to one, and what they answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from tidegate.backplane.base import Answers
from tidegate.backplane.nats.calls import Calls

if TYPE_CHECKING:
    from tidegate.backplane.base import CarryOut
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.calls import Answered, Reply
    from tidegate.backplane.nats.peers import Peers

__all__ = ["NatsOrders"]

_log = logging.getLogger("tidegate")

_MOST: Final = 1000  # orders that are carried out at a time


class NatsOrders:
    """Asks the other nodes, and carries out what they ask.

    Args:
        bus: the connection to the server.
        peers: knows which nodes there are.
    """

    _carry_out: CarryOut

    def __init__(self, bus: Bus, peers: Peers) -> None:
        self._calls = Calls(bus, peers, "orders", self._ordered)
        self._work: set[asyncio.Task[None]] = set()

    def start(self, carry_out: CarryOut, /) -> None:
        """Carry out orders by this. It is called before the connection is made."""
        self._carry_out = carry_out

    async def ask(self, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Ask all other nodes; return what they have answered within so many seconds."""
        return await self._ask(kind, body, seconds, None)

    async def ask_one(self, node: str, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Ask one other node."""
        return await self._ask(kind, body, seconds, node)

    async def _ask(self, kind: str, body: bytes, seconds: float, node: str | None) -> Answers:
        over: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

        def answered(found: Answered) -> None:
            if not over.done():
                over.set_result(found)

        self._calls.ask(kind, body, seconds, answered, node)
        parts, missing, failed = await over
        bodies = [body for some in parts.values() for body in some]
        return Answers(bodies, complete=not missing and not failed)

    def _ordered(self, kind: str, body: bytes, reply: Reply) -> None:
        if len(self._work) >= _MOST:
            reply(None, True)
            return
        task = asyncio.get_running_loop().create_task(self._do(kind, body, reply))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _do(self, kind: str, body: bytes, reply: Reply) -> None:
        answer = None
        try:
            answer = await self._carry_out(kind, body)
        except Exception:
            _log.exception("an order of another node failed", extra={"order": kind[:64]})
        reply(answer, True)
