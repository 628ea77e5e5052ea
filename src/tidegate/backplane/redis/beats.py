"""Which other nodes live: each says so once a second.

A node that has not been heard for a while is gone, as if it had left by itself. Nobody is gone
while this node does not hear the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidegate.backplane.redis.links import Links

__all__ = ["Beats"]

_PERIOD: Final = 1.0


class Beats:
    """Tells the others that this node lives, and knows which of them do.

    Args:
        links: the connections to the server.
        ttl: seconds after which a node is gone that has not been heard.
    """

    def __init__(self, links: Links, ttl: float) -> None:
        self._links = links
        self._ttl = ttl
        self._channel = links.name("beat")
        self._last: dict[str, float] = {}
        self._gone: list[Callable[[str], None]] = []
        self._back: list[Callable[[str], None]] = []
        self._late: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        links.hear(self._channel, self._beat)
        links.watch(heard=self._heard, stopped=self._stop)

    def watch(
        self,
        gone: Callable[[str], None],
        back: Callable[[str], None],
        late: Callable[[], None],
    ) -> None:
        """Be told what happens to nodes.

        Args:
            gone: told of another node that is gone.
            back: told of one that is heard for the first time, or again.
            late: called when this node stood still for so long that it may be gone for others.
        """
        self._gone.append(gone)
        self._back.append(back)
        self._late.append(late)

    def expect(self, node: str) -> None:
        """A node was seen: it is gone if it is not heard from now on."""
        if node != self._links.node:
            self._last.setdefault(node, monotonic())

    def silent(self, node: str) -> float:
        """For how many seconds a node has not been heard; 0 for one that nobody has seen."""
        return monotonic() - self._last.get(node, monotonic())

    def _beat(self, data: bytes) -> None:
        node = data.decode()
        if node == self._links.node:
            return
        known = node in self._last
        self._last[node] = monotonic()
        if not known:
            for back in self._back:
                back(node)

    def _heard(self) -> None:
        """What was not heard says nothing."""
        now = monotonic()
        self._last = dict.fromkeys(self._last, now)
        if self._timer is None:
            self._ticked = now
            self._tick()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._tick)
        now, before = monotonic(), self._ticked
        self._ticked = now
        if not self._links.up:
            return
        self._links.publish(self._channel, self._links.node.encode(), lambda _: None)
        if (
            now - before > _PERIOD + self._ttl / 2
        ):  # this one stood still: it has not listened either
            self._last = dict.fromkeys(self._last, now)
            for late in self._late:
                late()
        oldest = now - self._ttl
        for node in [one for one, last in self._last.items() if last < oldest]:
            del self._last[node]
            for gone in self._gone:
                gone(node)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
