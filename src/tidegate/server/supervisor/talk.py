"""Messages, presence and history of workers that share none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UnsetType
from msgspec.structs import replace

from tidegate.node.control import HistoryRow, PresenceRow, PresentRow

__all__ = ["batch", "history", "presence", "published"]

_ADDED = ("delivered", "members")


def published(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what became of a message that each worker has carried to its own connections.

    It has no position: each worker has its own.
    """
    good = [answer for answer in answers if "error" not in answer]
    if not good:
        return answers[0]
    return {name: sum(one[name] for one in good) for name in _ADDED if name in good[0]}


def batch(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what became of several messages."""
    columns = zip(*(answer["results"] for answer in answers), strict=True)
    return {"results": [published(column) for column in columns]}


def presence(rows: Sequence[PresenceRow]) -> PresenceRow:
    """Return who is in a room in any of the workers. Who is in two of them is counted twice."""
    users: dict[str, PresentRow] = {}
    for row in rows:
        if isinstance(row.users, UnsetType):
            return PresenceRow(rows[0].room, sum(one.count for one in rows))
        for user in row.users:
            before = users.get(user.user)
            if before is not None:
                user = replace(user, devices=user.devices + before.devices)
            users[user.user] = user
    return PresenceRow(rows[0].room, sum(one.count for one in rows), list(users.values()))


def history(rows: Sequence[HistoryRow]) -> HistoryRow:
    """Return the history of the worker that has the most of it."""
    return max(rows, key=lambda row: len(row.messages))
