"""A connection in a room, from when that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import ROOM_FULL, ROOM_LIMIT
from tidegate.gate.refused import refused
from tidegate.library.connection import engine_of

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.errors import Refused
    from tidegate.library.connection import Connection, Room

__all__ = ["Joined", "Membership", "not_joined"]


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

    async def wait(self, connection: Connection) -> None:
        """Wait until it is known, or the connection has ended."""
        self.awaited = True
        if not self.known:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda: None if known.done() else known.set_result(None))
            ended = engine_of(connection).ended()
            await asyncio.wait((known, ended), return_when=asyncio.FIRST_COMPLETED)


class Membership:
    """A connection in a room, until the block ends or it leaves.

        async with connection.join("lobby") as lobby:
            lobby.send("hello")

    Without a block the connection stays in the room until it leaves or ends. Where the limits of
    rooms hold over several nodes, the answer of the others comes later: the block begins with it,
    and `lobby = await connection.join("lobby")` waits for it too.

    Raises:
        Refused: by the block, or when it is awaited: the room is full on all nodes together.
    """

    __slots__ = ("_connection", "_joined", "_leaves", "room")

    def __init__(self, connection: Connection, room: Room, joined: Joined, *, leaves: bool) -> None:
        self._connection = connection
        self._joined = joined
        self._leaves = leaves
        self.room = room
        """The room."""

    def __await__(self) -> Generator[Any, None, Room]:
        return self._wait().__await__()

    async def _wait(self) -> Room:
        await self._joined.wait(self._connection)
        if self._joined.fault is not None:
            raise not_joined(self._joined.fault)
        return self.room

    async def __aenter__(self) -> Room:
        return await self._wait()

    async def __aexit__(self, *exception: object) -> None:
        if self._leaves:
            self._connection.leave(self.room.name)


def not_joined(fault: Fault) -> Refused:
    """Return what to raise where a connection cannot join a room."""
    return refused(ROOM_FULL if fault is ROOM_LIMIT else fault)
