"""Pages of several nodes as one page.

A node's page may end before the others do. What lies behind its end is left for the next page, so
that nothing is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
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
    found: dict[str, RoomRow] = {}
    for own in lists:
        for row in own:
            before = found.get(row.name)
            found[row.name] = row if before is None else _room(before, row)
    total -= sum(map(len, lists)) - len(found)
    rows = fitting(nlargest(query.limit, found.values(), key=attrgetter("members")))
    return RoomsPage(rows, total, None, complete)


def _by_name(
    lists: Sequence[Sequence[_R]],
    ends: Iterable[str | None],
    limit: int,
    name: Callable[[_R], str],
    add: Callable[[_R, _R], _R],
) -> tuple[list[_R], str | None, int]:
    """The rows of a page, where the next one begins, and how many rows went into others."""
    end = min((one for one in ends if one is not None), default=None)
    found: list[_R] = []
    sizes: list[int] = []
    for own, rows in groupby(merge(*lists, key=name), name):
        if end is not None and own > end:
            break
        if len(found) == limit:
            end = name(found[-1])
            break
        of_one = list(rows)
        found.append(reduce(add, of_one))
        sizes.append(len(of_one))
    there = fitting(found)
    if len(there) < len(found):
        end = name(there[-1])
    return there, end, sum(sizes[: len(there)]) - len(there)


def _user(one: UserRow, other: UserRow) -> UserRow:
    count = one.connections + other.connections
    return UserRow(one.user, count, _counts(one.nodes, other.nodes))


def _room(one: RoomRow, other: RoomRow) -> RoomRow:
    kept = max(one.history, other.history, key=_messages)
    return RoomRow(one.name, one.members + other.members, kept, _counts(one.nodes, other.nodes))


def _messages(history: RoomHistory | None) -> int:
    return -1 if history is None else history.messages


def _counts(
    one: dict[str, int] | UnsetType, other: dict[str, int] | UnsetType
) -> dict[str, int] | UnsetType:
    known = [counts for counts in (one, other) if not isinstance(counts, UnsetType)]
    return add_counts(known) if known else UNSET


def _complete(answers: Iterable[bool | UnsetType]) -> bool | UnsetType:
    known = [one for one in answers if not isinstance(one, UnsetType)]
    return all(known) if known else UNSET
