"""The nodes of a fleet: a hash of their records, and a sorted set of when each was heard last.

The times are those of the server. Every node forgets those that were silent for too long, so
nothing is left of a fleet that has ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from msgspec import DecodeError, json

from tidegate.backplane.nodes import NodeRecord, NodeTimes, Seen
from tidegate.backplane.redis.link import LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.backplane.redis.links import Links

__all__ = ["RedisNodes"]

_log = logging.getLogger("tidegate")

_ANNOUNCE: Final = SCRIPTS["announce"]
_NODES: Final = SCRIPTS["nodes"]

_encode = json.Encoder().encode
_read = json.Decoder(NodeRecord).decode


class RedisNodes:
    """Knows the nodes of the fleet.

    Args:
        links: the connections to the server.
        times: how long nodes may be silent.
    """

    def __init__(self, links: Links, times: NodeTimes) -> None:
        self._links = links
        self._forgotten_ms = round(times.forgotten * 1000)
        # Braces, so that a cluster keeps them beside each other.
        self._keys = (links.name("{nodes}"), links.name("{nodes}", "heard"))
        self._own: bytes | None = None
        links.watch(up=self._again)

    def announce(self, record: NodeRecord, done: Callable[[bool], None], /) -> None:
        """Keep what this node says of itself; `done` is told whether the server has taken it."""
        self._own = _encode(record)

        def answered(answer: Any) -> None:
            failed = isinstance(answer, Exception)
            if failed and not isinstance(answer, LinkDownError):
                _log.warning("the backplane refused the record of this node: %s", answer)
            done(not failed)

        self._announce(self._own, answered)

    async def leave(self) -> None:
        """Forget this node, which ends. Not knowing whether it is done is no error."""
        self._own = None
        done = asyncio.Event()
        commands, name = self._links.commands, self._links.node
        commands.ask("HDEL", self._keys[0], name, answer=lambda _: None)
        commands.ask("ZREM", self._keys[1], name, answer=lambda _: done.set())
        try:
            await asyncio.wait_for(done.wait(), self._links.timeout)
        except TimeoutError:
            _log.debug("the backplane did not answer at the end")

    async def read(self) -> list[Seen] | None:
        """Return all nodes that were heard lately; None when that cannot be known now."""
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(answer: Any) -> None:
            if not found.done():
                found.set_result(answer)

        self._links.run(_NODES, self._keys, self._forgotten_ms, answer=answered)
        try:
            answer = await asyncio.wait_for(found, self._links.timeout)
        except TimeoutError:
            return None
        return None if isinstance(answer, Exception) else list(_seen(answer))

    def _again(self) -> None:
        """There is a connection again, perhaps to a server that knows nothing."""
        if self._own is not None:
            self._announce(self._own, lambda _: None)

    def _announce(self, record: bytes, answer: Callable[[Any], None]) -> None:
        name = self._links.node
        self._links.run(_ANNOUNCE, self._keys, name, record, self._forgotten_ms, answer=answer)


def _seen(answer: list[Any]) -> list[Seen]:
    seen = []
    for at in range(0, len(answer), 2):
        try:
            record = _read(answer[at])
        except DecodeError:
            continue  # of a version that is too different
        seen.append(Seen(record, max(0.0, int(answer[at + 1]) / 1000)))
    return seen
