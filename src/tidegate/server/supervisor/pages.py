"""Pages of several workers as one page.

A worker's page may end before the others do. What lies behind its end is left for the next page,
so that nothing is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tidegate.node.control import (
    ConnectionRow,
    ConnectionsPage,
    NodesPage,
    RefusedReason,
    RefusedRow,
    RoomRow,
    RoomsPage,
    UserRow,
    UsersPage,
)

__all__ = ["connections", "nodes", "reasons", "refusals", "rooms_by_name", "rooms_by_size", "users"]


def connections(pages: Sequence[ConnectionsPage], limit: int) -> ConnectionsPage:
    """Return a page of connections by number.

    Each worker counts its connections itself, so several may have one number. They stay on one
    page, which then has a few more than `limit`.
    """
    end = min((page.next for page in pages if page.next is not None), default=None)
    rows: list[ConnectionRow] = sorted(
        (row for page in pages for row in page.connections if end is None or row.number <= end),
        key=lambda row: row.number,
    )
    if len(rows) > limit:
        last = rows[limit - 1].number
        kept = [row for row in rows if row.number <= last]
        if len(kept) < len(rows):
            return ConnectionsPage(kept, last)
    return ConnectionsPage(rows, end)


def nodes(pages: Sequence[NodesPage]) -> NodesPage:
    """Return one page of nodes that know nothing of each other."""
    rows = [row for page in pages for row in page.nodes]
    return NodesPage(
        sorted(rows, key=lambda row: row.worker or 0),
        sum(page.connections for page in pages),
        sum(page.capacity for page in pages),
        complete=True,
    )


def users(pages: Sequence[UsersPage], limit: int) -> UsersPage:
    """Return a page of users by name, each with its connections in all workers."""
    counts, end = (
        _by_name(((row.user, row.connections) for row in page.users) for page in pages),
        _first_end(page.next for page in pages),
    )
    names, following = _cut(counts, end, limit)
    rows = [UserRow(name, counts[name]) for name in names]
    return UsersPage(rows, _total(pages, counts), following)


def rooms_by_name(pages: Sequence[RoomsPage], limit: int) -> RoomsPage:
    """Return a page of rooms by name, each with its members in all workers."""
    counts, end = (
        _by_name(((row.name, row.members) for row in page.rooms) for page in pages),
        _first_end(page.next for page in pages),
    )
    names, following = _cut(counts, end, limit)
    rows = [RoomRow(name, counts[name]) for name in names]
    return RoomsPage(rows, _total(pages, counts), following)


def rooms_by_size(pages: Sequence[RoomsPage], limit: int) -> RoomsPage:
    """Return the largest rooms, of those that the workers name."""
    counts = _by_name(((row.name, row.members) for row in page.rooms) for page in pages)
    rows = [RoomRow(name, members) for name, members in counts.most_common(limit)]
    return RoomsPage(rows, _total(pages, counts), None)


def refusals(all_of_them: Iterable[Sequence[RefusedRow]], most: int) -> list[RefusedRow]:
    """Return the last refused attempts, the newest first."""
    rows = [row for rows in all_of_them for row in rows]
    return sorted(rows, key=lambda row: row.at, reverse=True)[:most]


def reasons(all_of_them: Iterable[dict[str, RefusedReason]]) -> dict[str, RefusedReason]:
    """Return how many attempts were refused for each reason, and the last of them."""
    found: dict[str, RefusedReason] = {}
    for own in all_of_them:
        for name, reason in own.items():
            before = found.get(name)
            if before is not None:
                last = max(before.last, reason.last, key=lambda row: row.at)
                found[name] = RefusedReason(before.count + reason.count, last)
            else:
                found[name] = reason
    return found


def _by_name(pages: Iterable[Iterable[tuple[str, int]]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for page in pages:
        for name, count in page:
            counts[name] += count
    return counts


def _first_end(ends: Iterable[str | None]) -> str | None:
    return min((end for end in ends if end is not None), default=None)


def _cut(counts: Counter[str], end: str | None, limit: int) -> tuple[list[str], str | None]:
    """The names of a page, and where the next one begins."""
    names = sorted(name for name in counts if end is None or name <= end)
    if len(names) > limit:
        return names[:limit], names[limit - 1]
    return names, end


def _total(pages: Sequence[UsersPage] | Sequence[RoomsPage], counts: Counter[str]) -> int:
    """How many there are; those of several workers are known to be the same where all are named."""
    totals = [page.total for page in pages]
    named = sum(len(page.users if isinstance(page, UsersPage) else page.rooms) for page in pages)
    return sum(totals) - (named - len(counts))
