"""What requests to the admin API ask for, beside the values of `Control`."""

from __future__ import annotations

from msgspec import Struct

from tidegate.node.control import Scope

__all__ = [
    "Disconnect",
    "DrainQuery",
    "RebalanceQuery",
    "Revoke",
    "RoomJoin",
    "RoomLeave",
    "SettingsQuery",
    "StatsQuery",
    "TimelineQuery",
]


class TimelineQuery(Struct):
    """From when on, in Unix seconds."""

    since: float = 0.0


class DrainQuery(Struct):
    """The window in seconds; `drain.window` without it."""

    window: float | None = None


class RebalanceQuery(Struct):
    """Connections a second of each node, 0 to end it; `rebalance.rate`, or 10, without it."""

    rate: float | None = None


class StatsQuery(Struct):
    """Whose counters: those of this server, its workers included, or of the whole `fleet`."""

    scope: Scope = "node"


class SettingsQuery(Struct):
    """Which nodes are to change: this `node`, or the whole `fleet`."""

    scope: Scope = "node"


class Disconnect(Struct, rename="camel", forbid_unknown_fields=True):
    """The fields of a `Selector`, what the clients are told, and whether they may come back.

    `code` is a close code of the caller's own, 1000 or 3000 to 4999, and says that itself.
    """

    id: str | None = None
    user: str | None = None
    ip: str | None = None
    room: str | None = None
    detail: str = ""
    may_return: bool = False
    code: int | None = None


class RoomJoin(Struct, forbid_unknown_fields=True):
    """A room, and who is to be there: one connection, or all of a user."""

    room: str
    id: str | None = None
    user: str | None = None


class RoomLeave(Struct, forbid_unknown_fields=True):
    """A room, and who is to leave it: one connection, all of a user, or all members."""

    room: str
    id: str | None = None
    user: str | None = None


class Revoke(Struct, forbid_unknown_fields=True):
    """A user, and the time in Unix seconds before which its tokens were issued."""

    user: str
    before: float | None = None
