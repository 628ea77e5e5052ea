"""Which other nodes live: each says so again and again, to all who hear it.

A node that has not been heard for a while is gone, as if it had left by itself. Nobody is gone
while this node does not hear the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.backplane.nodes import NodeTimes

__all__ = ["LivingNodes"]


class LivingNodes:
    """Lets a node say that it lives, and knows which others do.

    Args:
        node: the name of this node.
        times: how often nodes say that they live, and how long they may be silent.
        up: whether this node hears the others.
        say: tells them that it lives.
    """

    def __init__(
        self, node: str, times: NodeTimes, up: Callable[[], bool], say: Callable[[], None]
    ) -> None:
        self._node = node
        self._times = times
        self._up = up
        self._say = say
        self._last: dict[str, float] = {}
        self._gone: list[Callable[[str], None]] = []
        self._back: list[Callable[[str], None]] = []
        self._late: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0

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
        if node != self._node:
            self._last.setdefault(node, monotonic())

    @property
    def known(self) -> Set[str]:
        """The other nodes that are not gone, by what was heard until now."""
        oldest = monotonic() - self._times.gone
        return {node for node, last in self._last.items() if last > oldest}

    def knows(self, node: str) -> bool:
        """Whether another node was heard, and is not gone."""
        return node in self._last

    def heard(self, node: str) -> None:
        """Another node has said that it lives."""
        known = node in self._last
        self._last[node] = monotonic()
        if not known:
            for back in self._back:
                back(node)

    def left(self, node: str) -> None:
        """Another node is gone."""
        if self._last.pop(node, None) is not None:
            for gone in self._gone:
                gone(node)

    def begin(self) -> None:
        """This node hears the others, from now on or again: what it has not heard says nothing."""
        now = monotonic()
        self._last = dict.fromkeys(self._last, now)
        if self._timer is None:
            self._ticked = now
            self._tick()

    def stop(self) -> None:
        """Say nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._times.beat, self._tick)
        now, before = monotonic(), self._ticked
        self._ticked = now
        if not self._up():
            return
        self._say()
        if now - before > self._times.beat + self._times.gone / 2:
            # This one stood still: it has not listened either.
            self._last = dict.fromkeys(self._last, now)
            for late in self._late:
                late()
        oldest = now - self._times.gone
        for node in [one for one, last in self._last.items() if last < oldest]:
            self.left(node)
