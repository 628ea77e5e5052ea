"""Puts connections into rooms and takes them out, for an operator or a backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType

from tidegate.engine.states import Admission
from tidegate.errors import UsageError
from tidegate.node.control.connections import chosen
from tidegate.node.placing import Placing
from tidegate.wire.messages import MAX_ROOM, is_name

if TYPE_CHECKING:
    from tidegate.node.control.connections import Selector
    from tidegate.node.control.parts import Parts

__all__ = ["Moved", "check_room", "join", "leave"]

_MOVES: Final = 64  # before the loop gets its turn


class Moved(Struct, frozen=True, rename="camel"):
    """How many connections were put into a room, or taken out of it."""

    room: str
    count: int
    complete: bool | UnsetType = UNSET
    """Whether all nodes have said that they did it; left out where there is one node."""


async def join(node: Parts, selector: Selector, room: str) -> Moved:
    """Put connections into a room; those that are in it already are not counted."""
    placing = Placing(node.rules, node.delivery, node.application)
    count = tried = 0
    async for connections in chosen(node, selector):
        for connection in connections:
            if (
                not connection.open
                or connection.admission is not Admission.ADMITTED
                or room in connection.rooms
            ):
                continue
            placing.join(connection, room)
            count += room in connection.rooms
            tried += 1
            if tried % _MOVES == 0:
                await asyncio.sleep(0)
    return Moved(room, count)


async def leave(node: Parts, selector: Selector | None, room: str) -> Moved:
    """Take connections out of a room, those too whose clients are away; all without a selector."""
    placing = Placing(node.rules, node.delivery, node.application)
    count = 0
    for number, connection in enumerate(list(node.rooms.members(room)), 1):
        if selector is None or selector.chooses(connection):
            count += placing.leave(connection, room)
        if number % _MOVES == 0:
            await asyncio.sleep(0)
    return Moved(room, count)


def check_room(room: str) -> None:
    """Raise UsageError for what is no name of a room."""
    if not is_name(room, MAX_ROOM):
        raise UsageError(f"room: must have 1 to {MAX_ROOM} characters, none of control")
