"""The rooms of a node, by name."""

from __future__ import annotations

from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["RoomRow", "RoomsPage", "RoomsQuery", "rooms_page"]

_MOST: Final = 1000
_NAME: Final = 1024  # characters that are shown of a name


class RoomsQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Some rooms: the largest first, or by name behind `after`."""

    limit: Annotated[int, Meta(ge=1, le=_MOST)] = 100
    """How many there are on a page."""
    search: str = ""
    """What a name has to contain."""
    after: str | None = None
    """The name behind which a page by name begins: `next` of the page before."""


class RoomRow(Struct, frozen=True, rename="camel"):
    """One room. A very long name is cut."""

    name: str
    members: int


class RoomsPage(Struct, frozen=True, rename="camel"):
    """Some rooms, how many there are in all, and where the next page by name begins."""

    rooms: list[RoomRow]
    total: int
    next: str | None


def rooms_page(node: Parts, query: RoomsQuery) -> RoomsPage:
    """Return a page of rooms."""
    rooms = node.rooms
    found = (name for name in rooms if query.search in name)
    following: str | None = None
    if query.after is None:
        names = nlargest(query.limit, found, key=rooms.count)
    else:
        after = query.after
        names = nsmallest(query.limit + 1, (name for name in found if name > after))
        if len(names) > query.limit:
            names.pop()
            following = names[-1]
    rows = [RoomRow(name[:_NAME], rooms.count(name)) for name in names]
    return RoomsPage(rows, len(rooms), following)
