"""Work of connections that have used up their time: it comes behind that of all others.

A turn serves what is ready first. Then one piece of this work is done, or as many as fit into a few
milliseconds. So whatever the messages of some connections cost, the others wait for one of them and
not for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tidegate.engine.poller import Poller

__all__ = ["SERVED_SECONDS", "Later"]

SERVED_SECONDS = 0.0005
"""How long the messages of one connection are handled before it goes behind the others."""

_STEP_SECONDS = 0.002

T = TypeVar("T")


class Later:
    """The work that is left, in the order in which it came."""

    __slots__ = ("_poller", "_work")

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._work: deque[Callable[[], None]] = deque()

    def add(self, work: Callable[[], None]) -> None:
        """Do some work when the others were served."""
        self._work.append(work)
        self._poller.wake()

    def each(self, items: Iterable[T], do: Callable[[T], None]) -> None:
        """Do something with each of many: what takes too long for one go comes behind the others.

        Args:
            items: taken one by one, when each is its turn. It may have changed by then.
        """
        left = iter(items)

        def some() -> None:
            until = monotonic() + _STEP_SECONDS
            for item in left:
                do(item)
                if monotonic() >= until:
                    self.add(some)
                    return

        some()

    def step(self) -> bool:
        """Do one piece, and more while there is time; True when some is left."""
        work = self._work
        if work:
            until = monotonic() + _STEP_SECONDS
            for _ in range(len(work)):
                self._poller.guard(work.popleft())
                if monotonic() >= until:
                    break
        return bool(work)
