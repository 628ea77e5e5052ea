"""Nodes and refusals of several workers as one list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate.node.control import NodesPage, RefusedReason, RefusedRow

__all__ = ["nodes", "reasons", "refusals"]


def nodes(pages: Sequence[NodesPage]) -> NodesPage:
    """Return one page of nodes that know nothing of each other."""
    rows = [row for page in pages for row in page.nodes]
    return NodesPage(
        sorted(rows, key=lambda row: row.worker or 0),
        sum(page.connections for page in pages),
        sum(page.capacity for page in pages),
        complete=all(page.complete for page in pages),
        backplane=pages[0].backplane,
    )


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
