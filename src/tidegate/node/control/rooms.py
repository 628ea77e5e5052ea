"""The rooms of a node, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.node.control.lists import LOOKS, MOST, Scope, fitting

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["RoomHistory", "RoomRow", "RoomsPage", "RoomsQuery", "named_rooms", "rooms_page"]

_NAME: Final = 1024  # characters that are shown of a name


class RoomsQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Some rooms: the largest first, or by name behind `after`."""

    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    """How many there are on a page."""
    search: str = ""
    """What a name has to contain."""
    after: str | None = None
    """The name behind which a page by name begins: `next` of the page before."""
    name: str | None = None
    """The one room that is asked for, whether or not it has members."""
    scope: Scope = "node"


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
    nodes: dict[str, int] | UnsetType = UNSET
    """How many members are on each node, by id, where those of all nodes were asked for."""


class RoomsPage(Struct, frozen=True, rename="camel"):
    """Some rooms, how many there are in all, and where the next page by name begins.

    Of all nodes, `total` adds up theirs: a room of several counts once if it is on this page.
    A page may have fewer than were asked for: it ends at 256 KiB.
    """

    rooms: list[RoomRow]
    total: int
    next: str | None
    complete: bool | UnsetType = UNSET
    """Whether all nodes have answered, where all were asked."""


async def rooms_page(node: Parts, query: RoomsQuery) -> RoomsPage:
    """Return a page of rooms, with a turn of the loop after some."""
    rooms, after, fleet = node.rooms, query.after, query.scope == "fleet"
    if query.name is not None:
        return named_rooms(node, [query.name], fleet=fleet)
    wanted = query.limit + (after is not None)  # by name, one more says where the next page begins
    # A copy, because rooms come and go while the loop has its turns.
    everything = list(rooms)
    names: list[str] = []
    for start in range(0, len(everything), LOOKS):
        names += [
            name
            for name in everything[start : start + LOOKS]
            if query.search in name and (after is None or name > after)
        ]
        if after is None:
            names = nlargest(wanted, names, key=rooms.count)
        else:
            names = nsmallest(wanted, names)
        await asyncio.sleep(0)
    rows = fitting((_row(node, name, fleet=fleet) for name in names[: query.limit]), answer=fleet)
    more = after is not None and len(rows) < len(names)
    following = names[len(rows) - 1] if more else None
    return RoomsPage(rows, len(rooms), following, fleet or UNSET)


def named_rooms(node: Parts, names: Iterable[str], *, fleet: bool) -> RoomsPage:
    """Return those of these rooms that have members or a history."""
    rows = (_row(node, name, fleet=fleet) for name in names)
    there = fitting(row for row in rows if row.members or row.history)
    return RoomsPage(there, len(node.rooms), None, fleet or UNSET)


def _row(node: Parts, name: str, *, fleet: bool) -> RoomRow:
    kept, history = node.history.extent(name), None
    if kept is not None:
        history = RoomHistory(*kept.position, kept.messages, kept.bytes)
    members = node.rooms.count(name)
    nodes = {node.engine.shared.name: members} if members else {}
    return RoomRow(name[:_NAME], members, history, nodes if fleet else UNSET)
