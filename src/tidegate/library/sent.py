"""What was sent to several connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from tidegate.gate.refused import refused

if TYPE_CHECKING:
    from tidegate.core.codes import Fault

__all__ = ["Sent"]


class Sent:
    """What was sent to several. It is on its way already; await it to wait until it is out.

    A publisher that awaits what it sends cannot get ahead of its members:

        reached = await room.send("hello")

    Attributes:
        reached: to how many connections it goes.

    Raises:
        Refused: when it is awaited: it was not taken, because too much waits already.
    """

    __slots__ = ("_fault", "_out", "reached")

    def __init__(
        self,
        reached: int,
        fault: Fault | None = None,
        out: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._fault = fault
        self._out = out
        self.reached = reached

    def __await__(self) -> Generator[Any, None, int]:
        return self._wait().__await__()

    async def _wait(self) -> int:
        if self._fault is not None:
            raise refused(self._fault)
        if self._out is not None:
            await self._out()
        return self.reached

    def __repr__(self) -> str:
        return f"<Sent reached={self.reached}>"
