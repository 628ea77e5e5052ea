"""The rooms of a node, by name."""

from __future__ import annotations

import asyncio
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["RoomHistory", "RoomRow", "RoomsPage", "RoomsQuery", "rooms_page"]

_MOST: Final = 1000
_NAME: Final = 1024  # characters that are shown of a name
_LOOKS: Final = 1000  # rooms that are looked at before the loop gets its turn


class RoomsQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Some rooms: the largest first, or by name behind `after`."""

    limit: Annotated[int, Meta(ge=1, le=_MOST)] = 100
    """How many there are on a page."""
    search: str = ""
    """What a name has to contain."""
    after: str | None = None
    """The name behind which a page by name begins: `next` of the page before."""
    name: str | None = None
    """The one room that is asked for, whether or not it has members."""


class RoomHistory(Struct, frozen=True, rename="camel"):
    """What a room keeps: the offset of its last message, and how many messages and bytes."""

    epoch: str
    offset: int
    messages: int
    bytes: int


class RoomRow(Struct, frozen=True, rename="camel"):
    """One room. A very long name is cut."""

    name: str
    members: int
    history: RoomHistory | None = None
    """None where this node keeps nothing of the room."""


class RoomsPage(Struct, frozen=True, rename="camel"):
    """Some rooms, how many there are in all, and where the next page by name begins."""

    rooms: list[RoomRow]
    total: int
    next: str | None


async def rooms_page(node: Parts, query: RoomsQuery) -> RoomsPage:
    """Return a page of rooms, with a turn of the loop after some."""
    rooms, after = node.rooms, query.after
    if query.name is not None:
        row = _row(node, query.name)
        return RoomsPage([row] if row.members or row.history else [], len(rooms), None)
    wanted = query.limit + (after is not None)  # by name, one more says where the next page begins
    # A copy, because rooms come and go while the loop has its turns.
    everything = list(rooms)
    names: list[str] = []
    for start in range(0, len(everything), _LOOKS):
        names += [
            name
            for name in everything[start : start + _LOOKS]
            if query.search in name and (after is None or name > after)
        ]
        if after is None:
            names = nlargest(wanted, names, key=rooms.count)
        else:
            names = nsmallest(wanted, names)
        await asyncio.sleep(0)
    following: str | None = None
    if len(names) > query.limit:
        names.pop()
        following = names[-1]
    return RoomsPage([_row(node, name) for name in names], len(rooms), following)


def _row(node: Parts, name: str) -> RoomRow:
    kept, history = node.history.extent(name), None
    if kept is not None:
        history = RoomHistory(*kept.position, kept.messages, kept.bytes)
    return RoomRow(name[:_NAME], node.rooms.count(name), history)
