"""What is ordered of one node and done by all.

A node does an order itself, asks the others for the same, and merges what they answer. An order is
known by its name; one that a node does not know, as it is of an older version, is counted there and
not done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from msgspec import DecodeError, Struct, msgpack
from msgspec.structs import replace

from tidegate.backplane.base import Revocation
from tidegate.errors import TidegateError
from tidegate.node.control import connections as listing
from tidegate.node.control import merging, moving
from tidegate.node.control.adding import FleetStats, fleet_stats
from tidegate.node.control.connections import (
    ConnectionsPage,
    ConnectionsQuery,
    Disconnected,
    Selector,
)
from tidegate.node.control.moving import Moved
from tidegate.node.control.pinging import Ping, Pinged, ping_user
from tidegate.node.control.reading import UsersPage, UsersQuery, users_page
from tidegate.node.control.revoking import Revoked, learn, revoke
from tidegate.node.control.rooms import RoomsPage, RoomsQuery, named_rooms, rooms_page
from tidegate.node.control.settings import Applied
from tidegate.node.control.snapshot import snapshot
from tidegate.node.fleet_sessions import FleetSessions
from tidegate.node.rebalancing import Rebalanced
from tidegate.node.session_moves import MOVE, Move

if TYPE_CHECKING:
    from tidegate.backplane.base import Orders, Revocations
    from tidegate.node.control.parts import Parts

__all__ = [
    "CONNECTIONS",
    "DISCONNECT",
    "JOIN",
    "LEAVE",
    "PING",
    "REBALANCE",
    "REVOKE",
    "SETTINGS",
    "STATS",
    "USERS",
    "Disconnect",
    "Fleet",
    "Rebalance",
]

_log = logging.getLogger("tidegate")

_SPARE_SECONDS: Final = 1.0


B = TypeVar("B")
R = TypeVar("R", bound=Struct)


class Kind(NamedTuple, Generic[B, R]):
    """One kind of order."""

    name: str
    body: type[B]
    result: type[R]
    do: Callable[[Parts, B], Awaitable[R]]
    """Does it on one node."""
    merge: Callable[[Sequence[R], B], R]
    """Adds up what all nodes have done; the first of them is the one that was asked."""


class Disconnect(Struct, frozen=True):
    """Which connections end, and what their clients are told."""

    selector: Selector
    detail: str
    reason: str
    """The name of a `Close`."""
    code: int | None


class Rebalance(Struct, frozen=True):
    """What is to be done: `begin` with this rate, or nothing but to say how far it is."""

    begin: bool
    rate: float | None = None


class _Join(Struct, frozen=True):
    room: str
    selector: Selector


class _Leave(Struct, frozen=True):
    room: str
    selector: Selector | None


class _Revoke(Struct, frozen=True):
    user: str
    before: float


async def _disconnect(node: Parts, body: Disconnect) -> Disconnected:
    return await listing.disconnect(
        node, body.selector, body.detail, listing.reason_of(body.reason), body.code
    )


async def _join(node: Parts, body: _Join) -> Moved:
    return await moving.join(node, body.selector, body.room)


async def _leave(node: Parts, body: _Leave) -> Moved:
    return await moving.leave(node, body.selector, body.room)


async def _revoke(node: Parts, body: _Revoke) -> Revoked:
    return await revoke(node, body.user, body.before)


async def _rebalance(node: Parts, body: Rebalance) -> Rebalanced:
    rebalancing = node.membership.rebalancing
    return await (rebalancing.begin(body.rate) if body.begin else rebalancing.look())


async def _apply(node: Parts, changes: dict[str, dict[str, Any]]) -> Applied:
    return Applied(*node.apply(changes))


async def _stats(node: Parts, _: None) -> FleetStats:
    return fleet_stats([snapshot(node)])


async def _named_rooms(node: Parts, names: list[str]) -> RoomsPage:
    return named_rooms(node, names, fleet=True)


def _rebalanced(own: Sequence[Rebalanced], _: Rebalance) -> Rebalanced:
    return Rebalanced(
        nodes=len(own),
        members=own[0].members,
        active=sum(one.active for one in own),
        moved=sum(one.moved for one in own),
        left=sum(one.left for one in own),
    )


def _first_answer(own: Sequence[Pinged], _: Ping) -> Pinged:
    latencies = [one.latency for one in own if one.latency is not None]
    count = sum(one.connections for one in own)
    return Pinged(own[0].user, count, min(latencies, default=None))


def _moved(own: Sequence[Moved], _: _Join | _Leave) -> Moved:
    return Moved(own[0].room, sum(one.count for one in own))


DISCONNECT: Final = Kind(
    "disconnect",
    Disconnect,
    Disconnected,
    _disconnect,
    lambda own, _: Disconnected(sum(one.count for one in own)),
)
JOIN: Final = Kind("join", _Join, Moved, _join, _moved)
LEAVE: Final = Kind("leave", _Leave, Moved, _leave, _moved)
REVOKE: Final = Kind(
    "revoke",
    _Revoke,
    Revoked,
    _revoke,
    lambda own, _: Revoked(own[0].user, own[0].before, sum(one.closed for one in own)),
)
PING: Final = Kind("ping", Ping, Pinged, ping_user, _first_answer)
SETTINGS: Final = Kind(
    "settings", dict[str, dict[str, Any]], Applied, _apply, lambda own, _: own[0]
)

STATS: Final = Kind("stats", type(None), FleetStats, _stats, lambda own, _: fleet_stats(own))
REBALANCE: Final = Kind("rebalance", Rebalance, Rebalanced, _rebalance, _rebalanced)
CONNECTIONS: Final = Kind(
    "connections",
    ConnectionsQuery,
    ConnectionsPage,
    listing.page,
    lambda own, query: merging.connections(own, query.limit),
)
USERS: Final = Kind(
    "users", UsersQuery, UsersPage, users_page, lambda own, query: merging.users(own, query.limit)
)
ROOMS: Final = Kind("rooms", RoomsQuery, RoomsPage, rooms_page, merging.rooms)
_NAMED_ROOMS: Final = Kind(
    "named_rooms",
    list[str],
    RoomsPage,
    _named_rooms,
    lambda own, names: merging.rooms(own, RoomsQuery(limit=len(names))),
)

_KINDS: Final[dict[str, Kind[Any, Any]]] = {
    kind.name: kind
    for kind in (
        *(DISCONNECT, JOIN, LEAVE, REVOKE, PING, SETTINGS, STATS, REBALANCE),
        *(CONNECTIONS, USERS, ROOMS, _NAMED_ROOMS),
    )
}


class Fleet:
    """Gives orders to all nodes, and carries out theirs.

    Args:
        node: this one.
        orders: reach the others; None for a node that is alone, or cannot reach them.
        revocations: keeps them for all; None for a node that is alone.
    """

    def __init__(self, node: Parts, orders: Orders | None, revocations: Revocations | None) -> None:
        self._node = node
        self._orders = orders
        self._revocations = revocations
        if orders is not None:
            orders.start(self._ordered)
        if revocations is not None:
            revocations.start(self._known, self._learn)
        self._work: set[asyncio.Task[None]] = set()

    async def everywhere(self, kind: Kind[B, R], body: B, seconds: float | None = None) -> R:
        """Have all nodes do something; `complete` of the result says whether all have.

        Args:
            seconds: for how long the others may take; `backplane.timeout` when None.
        """
        orders = self._orders
        if orders is None:
            done = await kind.do(self._node, body)
            return done if self._node.backplane is None else replace(done, complete=False)
        if seconds is None:
            seconds = self._node.settings.backplane.timeout
        packed = msgpack.encode(body)
        own, answers = await asyncio.gather(
            kind.do(self._node, body),
            orders.ask(kind.name, packed, seconds + _SPARE_SECONDS),
        )
        if not answers.complete:
            _log.warning("an order has not reached all nodes", extra={"order": kind.name})
        all_of_them = [own]
        for one in answers.bodies:
            all_of_them.append(msgpack.decode(one, type=kind.result))
            await asyncio.sleep(0)  # a page of a list takes milliseconds
        return replace(kind.merge(all_of_them, body), complete=answers.complete)

    async def revoke(self, user: str, before: float) -> Revoked:
        """Revoke the tokens of a user on all nodes, for those too that are away now.

        Raises:
            UsageError: too many are revoked.
        """
        node, now = self._node, time()
        until = now + node.settings.auth.revocation_ttl
        node.revocations.revoke(user, before, now, until)
        if self._revocations is not None:
            self._revocations.keep(Revocation(user, before, until))
        return await self.everywhere(REVOKE, _Revoke(user, before))

    async def rooms(self, query: RoomsQuery) -> RoomsPage:
        """Return a page of the rooms of all nodes.

        The largest are chosen among the largest of each node. Then all nodes are asked about these,
        so that members are counted too on nodes where the room is not among the largest. Where a
        node did not answer, that is not waited for again.
        """
        page = await self.everywhere(ROOMS, query)
        by_name = query.after is not None or query.name is not None
        if self._orders is None or by_name or not page.rooms or not page.complete:
            return page
        counted = await self.everywhere(_NAMED_ROOMS, [row.name for row in page.rooms])
        exact = {row.name: row for row in counted.rooms}
        rows = [exact.get(row.name, row) for row in page.rooms]
        rows.sort(key=lambda row: row.members, reverse=True)
        total = min(page.total, counted.total)  # both count some rooms of several nodes twice
        return replace(page, rooms=rows, total=total, complete=counted.complete)

    async def join(self, selector: Selector, room: str) -> Moved:
        """Put connections of all nodes into a room."""
        return await self.everywhere(JOIN, _Join(room, selector))

    async def leave(self, room: str, selector: Selector | None) -> Moved:
        """Take connections of all nodes out of a room."""
        return await self.everywhere(LEAVE, _Leave(room, selector))

    async def _ordered(self, name: str, body: bytes) -> bytes | None:
        """Do what another node has ordered."""
        sessions = self._node.sessions
        if name == MOVE and isinstance(sessions, FleetSessions):
            return msgpack.encode(sessions.give(msgpack.decode(body, type=Move)))
        orders = self._node.stats.orders
        kind = _KINDS.get(name)
        if kind is None:
            orders["unknown"] += 1
            self._node.warn("another node gave an order that this version does not know")
            return None
        try:
            done = await kind.do(self._node, msgpack.decode(body, type=kind.body))
        except (TidegateError, DecodeError) as error:
            orders["failed"] += 1
            _log.warning("an order of another node failed: %s", error, extra={"order": kind.name})
            return None
        orders["done"] += 1
        return msgpack.encode(done)

    def _known(self) -> list[Revocation]:
        return [Revocation(*one) for one in self._node.revocations.known(time())]

    def _learn(self, revocations: Sequence[Revocation]) -> None:
        users = learn(self._node, revocations)
        if users:
            task = asyncio.get_running_loop().create_task(listing.end_revoked(self._node, users))
            self._work.add(task)
            task.add_done_callback(self._work.discard)
