"""The lists of the server API, and how to go through all of their pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from tidegate.api.results import (
    ConnectionsPage,
    OneConnection,
    OneRoom,
    OneUser,
    RoomsPage,
    UsersPage,
)
from tidegate.api.values import Call, Pages, get, scope

__all__ = ["connections", "each_connection", "each_room", "each_user", "rooms", "users"]

_PAGE: Final = 1000  # the most rows of one page


def rooms(
    *,
    limit: int = 100,
    search: str = "",
    after: str | None = None,
    name: str | None = None,
    fleet: bool = False,
) -> Call[RoomsPage]:
    """List rooms that have members: the largest first, or by name behind `after`.

    Args:
        limit: 1 to 1,000.
        search: what the name contains.
        after: a name; "" for the first page by name, `next` of a page for the one that follows.
        name: only this room; there is none when it has neither members nor a history.
        fleet: list those of all nodes, and how many members are on each.
    """
    return get(
        "/rooms",
        RoomsPage,
        limit=limit,
        search=search or None,
        after=after,
        name=name,
        scope=scope(fleet),
    )


def each_room(*, search: str = "", fleet: bool = False) -> Pages[RoomsPage, OneRoom]:
    """Go through all rooms, by name; with `fleet` through those of all nodes."""
    page_of = partial(rooms, limit=_PAGE, search=search, fleet=fleet)
    return _pages(page_of, lambda page: page.rooms)


def users(
    *, limit: int = 100, search: str = "", after: str = "", fleet: bool = False
) -> Call[UsersPage]:
    """List users by name, behind `after`; `limit`, `search` and `fleet` are as for `rooms`."""
    return get(
        "/users",
        UsersPage,
        limit=limit,
        search=search or None,
        after=after or None,
        scope=scope(fleet),
    )


def each_user(*, search: str = "", fleet: bool = False) -> Pages[UsersPage, OneUser]:
    """Go through all users, by name; with `fleet` through those of all nodes."""
    page_of = partial(users, limit=_PAGE, search=search, fleet=fleet)
    return _pages(page_of, lambda page: page.users)


def connections(
    *,
    limit: int = 100,
    after: int | str = 0,
    user: str | None = None,
    ip: str | None = None,
    room: str | None = None,
    fleet: bool = False,
) -> Call[ConnectionsPage]:
    """List connections: those to which all that is given applies.

    Args:
        limit: 1 to 1,000.
        after: `next` of the page before.
        user: whose they are.
        ip: where they come from: an address, or a network such as "2001:db8::/64".
        room: of which they are members.
        fleet: list those of all nodes, and the node of each.
    """
    return get(
        "/connections",
        ConnectionsPage,
        limit=limit,
        after=after or None,
        user=user,
        ip=ip,
        room=room,
        scope=scope(fleet),
    )


def each_connection(
    *,
    user: str | None = None,
    ip: str | None = None,
    room: str | None = None,
    fleet: bool = False,
) -> Pages[ConnectionsPage, OneConnection]:
    """Go through all connections to which what is given applies, as for `connections`."""
    page_of = partial(connections, limit=_PAGE, user=user, ip=ip, room=room, fleet=fleet)
    return _pages(page_of, lambda page: page.connections, first=0)


class _Followed(Protocol):
    """A page that says where the one after it begins."""

    @property
    def next(self) -> int | str | None:
        """None for the last one."""


_P = TypeVar("_P", bound=_Followed)
_R = TypeVar("_R")


def _pages(
    page_of: Callable[..., Call[_P]], rows: Callable[[_P], list[_R]], first: int | str = ""
) -> Pages[_P, _R]:
    return Pages(
        page_of(after=first),
        rows,
        lambda page: None if page.next is None else page_of(after=page.next),
    )
