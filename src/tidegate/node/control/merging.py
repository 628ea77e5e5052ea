"""Pages of several nodes as one page.

A node's page may end before the others do. What lies behind its end is left for the next page, so
that nothing is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge, nlargest
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from msgspec import UNSET, UnsetType

from tidegate.node.control.adding import add_counts
from tidegate.node.control.connections import ConnectionRow, ConnectionsPage, place_of
from tidegate.node.control.lists import fitting
from tidegate.node.control.reading import UserRow, UsersPage
from tidegate.node.control.rooms import RoomHistory, RoomRow, RoomsPage, RoomsQuery

__all__ = ["connections", "rooms", "users"]

_R = TypeVar("_R")


def connections(pages: Sequence[ConnectionsPage], limit: int) -> ConnectionsPage:
    """Return a page of connections by number.

    Each node counts its connections itself, so several may have one number. Rows that do not say
    their node stay on one page then, which has a few more than `limit`.
    """
    ends = (page.connections[-1].place for page in pages if page.next is not None)
    end = min(ends, default=None)
    rows: list[ConnectionRow] = []
    for row in merge(*(page.connections for page in pages), key=attrgetter("place")):
        if end is not None and row.place > end:
            break
        if len(rows) >= limit and row.place > rows[-1].place:
            end = rows[-1].place
            break
        rows.append(row)
    if rows and not isinstance(rows[0].node, UnsetType):
        there, rows = rows, fitting(rows)
        if len(rows) < len(there):
            end = rows[-1].place
    following = None if end is None else place_of(rows[-1])
    return ConnectionsPage(rows, following, _complete(page.complete for page in pages))


def users(pages: Sequence[UsersPage], limit: int) -> UsersPage:
    """Return a page of users by name, each with its connections on all nodes."""
    rows, following, joined = _by_name(
        [page.users for page in pages],
        [page.next for page in pages],
        limit,
        lambda row: row.user,
        _user,
    )
    total = sum(page.total for page in pages) - joined
    return UsersPage(rows, total, following, _complete(page.complete for page in pages))


def rooms(pages: Sequence[RoomsPage], query: RoomsQuery) -> RoomsPage:
    """Return a page of rooms, each with its members on all nodes: by name, or the largest."""
    lists, total = [page.rooms for page in pages], sum(page.total for page in pages)
    complete = _complete(page.complete for page in pages)
    if query.after is not None:
        rows, following, joined = _by_name(
            lists, [page.next for page in pages], query.limit, lambda row: row.name, _room
        )
        return RoomsPage(rows, total - joined, following, complete)
    members: Counter[str] = Counter()
    for own in lists:
        for row in own:
            members[row.name] += row.members
    names = nlargest(query.limit, members, key=members.__getitem__)
    largest: dict[str, list[RoomRow]] = {name: [] for name in names}
    for own in lists:
        for row in own:
            if row.name in largest:
                largest[row.name].append(row)
    total -= sum(map(len, lists)) - len(members)
    return RoomsPage(fitting(map(_room, largest.values())), total, None, complete)


def _by_name(
    lists: Sequence[Sequence[_R]],
    ends: Iterable[str | None],
    limit: int,
    name: Callable[[_R], str],
    join: Callable[[list[_R]], _R],
) -> tuple[list[_R], str | None, int]:
    """The rows of a page, where the next one begins, and how many rows went into others."""
    end = min((one for one in ends if one is not None), default=None)
    sizes: list[int] = []

    def joined() -> Iterator[_R]:
        for own, rows in groupby(merge(*lists, key=name), name):
            if end is not None and own > end:
                return
            of_one = list(rows)
            sizes.append(len(of_one))
            yield join(of_one)

    found = fitting(joined(), limit)
    following = end if len(sizes) == len(found) else name(found[-1])
    return found, following, sum(sizes[: len(found)]) - len(found)


def _user(rows: list[UserRow]) -> UserRow:
    count = sum(row.connections for row in rows)
    return UserRow(rows[0].user, count, _counts(row.nodes for row in rows))


def _room(rows: list[RoomRow]) -> RoomRow:
    count = sum(row.members for row in rows)
    kept = max((row.history for row in rows), key=_messages)
    return RoomRow(rows[0].name, count, kept, _counts(row.nodes for row in rows))


def _messages(history: RoomHistory | None) -> int:
    return -1 if history is None else history.messages


def _counts(of_rows: Iterable[dict[str, int] | UnsetType]) -> dict[str, int] | UnsetType:
    known = [counts for counts in of_rows if not isinstance(counts, UnsetType)]
    return add_counts(known) if known else UNSET


def _complete(answers: Iterable[bool | UnsetType]) -> bool | UnsetType:
    known = [one for one in answers if not isinstance(one, UnsetType)]
    return all(known) if known else UNSET
