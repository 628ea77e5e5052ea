"""The connections of a node: which there are, and the end of some of them."""

from __future__ import annotations

import asyncio
import logging
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Set
from itertools import accumulate
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import force_setattr

from tidegate.addresses import UNIX_PEER, counted, matcher, parse, range_of
from tidegate.core.codes import KICKED, REASONS, TOKEN_REVOKED, Close
from tidegate.core.settings.fields import shown
from tidegate.engine.states import Admission
from tidegate.errors import UsageError
from tidegate.node.control.lists import LOOKS, MOST, Scope, fitting

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection
    from tidegate.node.control.parts import Parts

__all__ = [
    "ConnectionRow",
    "ConnectionsPage",
    "ConnectionsQuery",
    "Disconnected",
    "Selector",
    "chosen",
    "counted_ip",
    "disconnect",
    "end_revoked",
    "page",
    "place_of",
    "reason_of",
]

_log = logging.getLogger("tidegate")

_number: Final = attrgetter("number")
_ROW_ROOMS: Final = 16 * 1024  # characters
_ENDS: Final = 256  # connections that are ended before the loop gets its turn
_LARGEST: Final = 2**63 - 1
_PLACE: Final = re.compile(r"(\d{1,19})(?::([!-~]{1,64}))?", re.ASCII)
_BEHIND: Final = "\x7f"  # behind all names of nodes


class ConnectionsQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A page of connections: those to which all that is given applies.

    `ip` is an address, or a network such as "2001:db8::/64".

    Raises:
        UsageError: `ip` is neither an IP address nor a network, or `after` is no place in the list.
    """

    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    """How many there are on a page."""
    after: str = "0"
    """Where the page begins: `next` of the page before."""
    user: str | None = None
    ip: str | None = None
    room: str | None = None
    scope: Scope = "node"

    def __post_init__(self) -> None:
        if self.ip is not None:
            force_setattr(self, "ip", _range_text(self.ip))
        _ = self.place

    @property
    def place(self) -> tuple[int, str]:
        """The number and the node of the connection behind which the page begins."""
        found = _PLACE.fullmatch(self.after)
        if found is None or int(found[1]) > _LARGEST or (found[2] and self.scope == "node"):
            name = "" if self.scope == "node" else ", or `next` of the page before"
            raise UsageError(
                f"after: {shown(self.after)} is not a whole number from 0 to {_LARGEST}{name}"
            )
        return int(found[1]), found[2] or _BEHIND


class ConnectionRow(Struct, frozen=True, rename="camel"):
    """What is known of one connection. Times are in seconds."""

    id: str
    number: int
    user: str | None
    tier: str | None
    address: str
    transport: str
    """`websocket`, or `sse` for one that has taken the fallback."""
    rooms: tuple[str, ...]
    """The first of them, where they have very long names."""
    room_count: int
    age: float
    idle: float
    """Time since its last message."""
    buffered: int
    """Bytes that it has not taken yet."""
    node: str | UnsetType = UNSET
    """The id of its node, where those of all nodes were asked for."""

    @property
    def place(self) -> tuple[int, str]:
        """Where it is in a list: behind lower numbers, and behind nodes with lower names."""
        return self.number, "" if isinstance(self.node, UnsetType) else self.node


class ConnectionsPage(Struct, frozen=True, rename="camel"):
    """Some connections by number, and where the next page begins: None on the last one.

    A page may have fewer than were asked for: it ends at 256 KiB.
    """

    connections: list[ConnectionRow]
    next: int | str | None
    """The number of the last one; where those of all nodes were asked for, with its node."""
    complete: bool | UnsetType = UNSET
    """Whether all nodes have answered, where all were asked."""


class Selector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Some connections: those to which all that is given applies, which is one thing at least.

    `ip` is an address, or a network such as "2001:db8::/64".

    Raises:
        UsageError: nothing is given, or `ip` is neither an IP address nor a network.
    """

    id: str | None = None
    user: str | None = None
    ip: str | None = None
    room: str | None = None

    def __post_init__(self) -> None:
        if self.id is None and self.user is None and self.ip is None and self.room is None:
            raise UsageError("give one of id, user, ip and room at least")
        if self.ip is not None:
            force_setattr(self, "ip", _range_text(self.ip))

    def chooses(self, connection: Connection) -> bool:
        """Whether this is one of the connections."""
        return _is_chosen(connection, self, _comes_from(self.ip)) and (
            self.room is None or self.room in connection.rooms
        )


class Disconnected(Struct, frozen=True, rename="camel"):
    """How many connections were ended."""

    count: int
    complete: bool | UnsetType = UNSET
    """Whether all nodes have said that they did it; left out where there is one node."""


async def page(node: Parts, query: ConnectionsQuery) -> ConnectionsPage:
    """Return one page. Connections that wait to be admitted are not listed."""
    found: list[Connection] = []
    fleet = query.scope == "fleet"
    name, after = node.engine.shared.name if fleet else "", query.place
    async for connections in chosen(node, query):
        found += [
            connection
            for connection in connections
            if (connection.number, name) > after and connection.admission is not Admission.WAITING
        ]
        # In each turn, because sorting all of them at once would take too long for one.
        found.sort(key=_number)
        del found[query.limit + 1 :]
    now = monotonic()
    own = name if fleet else UNSET
    rows = fitting(
        (_row(connection, now, own) for connection in found[: query.limit]), answer=fleet
    )
    more = len(rows) < len(found)
    return ConnectionsPage(rows, place_of(rows[-1]) if more else None, fleet or UNSET)


def place_of(row: ConnectionRow) -> int | str:
    """Return `next` of a page that ends with this row."""
    return row.number if isinstance(row.node, UnsetType) else f"{row.number}:{row.node}"


async def disconnect(
    node: Parts,
    selector: Selector,
    detail: str = "",
    reason: Close = KICKED,
    code: int | None = None,
) -> Disconnected:
    """End connections, those that wait to be admitted too.

    Args:
        detail: what the clients are told beside the reason.
        reason: why they end.
        code: is sent in place of the reason's, and `detail` alone with it.
    """
    count = 0
    async for connections in chosen(node, selector):
        for connection in connections:
            if not connection.open:
                continue
            if code is None:
                connection.end(reason, detail=detail)
            else:
                connection.close(code, detail, reason)
            count += 1
            if count % _ENDS == 0:
                await asyncio.sleep(0)
    if node.sessions is not None:  # clients that are away must not come back to theirs either
        comes_from = _comes_from(selector.ip)
        count += node.sessions.end(lambda connection: _is_chosen(connection, selector, comes_from))
    _log.info("disconnected by the operator", extra={"connections": count})
    return Disconnected(count)


async def end_revoked(node: Parts, users: Set[str]) -> None:
    """End the connections of users, those that wait too, because their tokens are revoked."""
    everyone = list(node.engine.connections())
    for start in range(0, len(everyone), LOOKS):
        for connection in everyone[start : start + LOOKS]:
            if connection.user in users and connection.open:
                connection.end(TOKEN_REVOKED)
        await asyncio.sleep(0)
    if node.sessions is not None:
        node.sessions.end(lambda connection: connection.user in users)


def reason_of(name: str) -> Close:
    """Return why connections end, by its name in the table.

    Raises:
        UsageError: it has none of this name.
    """
    reason = REASONS.get(name)
    if not isinstance(reason, Close):
        raise UsageError(f"{shown(name)} is no reason for which connections end")
    return reason


def counted_ip(text: str) -> str:
    """Return an IP address in the form in which connections are counted.

    Raises:
        UsageError: it is no IP address.
    """
    if parse(text) is None and text != UNIX_PEER:
        raise UsageError(f"ip: {shown(text)} is not an IP address")
    return counted(text)


def _range_text(text: str) -> str:
    """Return an address as connections show it, or a network."""
    if text == UNIX_PEER:
        return text
    found = range_of(text)
    if found is None:
        raise UsageError(f"ip: {shown(text)} is neither an IP address nor a network")
    return str(found) if "/" in text else counted(text)


async def chosen(
    node: Parts, wanted: ConnectionsQuery | Selector
) -> AsyncIterator[list[Connection]]:
    """Yield the connections that are wanted, with a turn of the loop after some."""
    source: Iterable[Connection] = node.engine.connections()
    if wanted.room is not None:
        source = node.rooms.members(wanted.room)
    comes_from = _comes_from(wanted.ip)
    # A copy, because connections come and go while the loop has its turns.
    everyone = list(source)
    for start in range(0, len(everyone), LOOKS):
        yield [
            connection
            for connection in everyone[start : start + LOOKS]
            if _fits(connection, wanted, comes_from)
        ]
        await asyncio.sleep(0)


def _comes_from(ip: str | None) -> Callable[[str], bool] | None:
    """Return what says whether an address is of a network; None for any."""
    if ip is None:
        return None
    if ip == UNIX_PEER:
        return UNIX_PEER.__eq__
    network = range_of(ip)
    assert network is not None
    return matcher(network)


def _fits(
    connection: Connection,
    wanted: ConnectionsQuery | Selector,
    comes_from: Callable[[str], bool] | None,
) -> bool:
    return not connection.closed and _is_chosen(connection, wanted, comes_from)


def _is_chosen(
    connection: Connection,
    wanted: ConnectionsQuery | Selector,
    comes_from: Callable[[str], bool] | None,
) -> bool:
    return (
        (wanted.user is None or connection.user == wanted.user)
        and (comes_from is None or comes_from(connection.address))
        and (isinstance(wanted, ConnectionsQuery) or wanted.id in (None, connection.id))
    )


def _row(connection: Connection, now: float, node: str | UnsetType) -> ConnectionRow:
    rooms = connection.rooms
    fitting = bisect_right(list(accumulate(map(len, rooms))), _ROW_ROOMS)
    return ConnectionRow(
        id=connection.id,
        number=connection.number,
        user=connection.user,
        tier=connection.tier,
        address=connection.address,
        transport=connection.transport,
        rooms=rooms[:fitting],
        room_count=len(rooms),
        age=round(now - connection.opened_at, 3),
        idle=round(now - connection.last_active, 3),
        buffered=connection.buffered,
        node=node,
    )
