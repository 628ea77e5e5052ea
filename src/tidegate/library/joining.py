"""Whether a connection is in a room, which may be known later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.core.codes import Fault

__all__ = ["Joined"]


class Joined:
    """Whether a connection is in a room. Call it when that is known."""

    __slots__ = ("_told", "awaited", "fault", "known")

    def __init__(self) -> None:
        self.known = False
        self.fault: Fault | None = None
        self.awaited = False
        """Whether somebody waits for it."""
        self._told: list[Callable[[], object]] = []

    def __call__(self, fault: Fault | None) -> None:
        """It is, or it is not, for this reason."""
        self.known, self.fault = True, fault
        told, self._told = self._told, []
        for tell in told:
            tell()

    def then(self, tell: Callable[[], object]) -> None:
        """Call `tell` when it is known."""
        if self.known:
            tell()
        else:
            self._told.append(tell)

    async def wait(self, ended: asyncio.Future[None]) -> None:
        """Wait until it is known, or the connection has ended."""
        self.awaited = True
        if not self.known:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda: None if known.done() else known.set_result(None))
            await asyncio.wait((known, ended), return_when=asyncio.FIRST_COMPLETED)
