"""The connections of a node: which there are, and the end of some of them."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Set
from itertools import accumulate
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType, json
from msgspec.structs import force_setattr

from tidegate.addresses import UNIX_PEER, counted, matcher, parse, range_of
from tidegate.core.codes import KICKED, REASONS, TOKEN_REVOKED, Close
from tidegate.core.settings.fields import shown
from tidegate.engine.states import Admission
from tidegate.errors import UsageError

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
    "reason_of",
]

_log = logging.getLogger("tidegate")

_PAGE_MOST: Final = 1000
_PAGE_BYTES: Final = 256 * 1024
_number: Final = attrgetter("number")
_ROW_ROOMS: Final = 16 * 1024  # characters
# Connections that are looked at, and that are ended, before the loop gets its turn.
_LOOKS: Final = 1000
_ENDS: Final = 256


class ConnectionsQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A page of connections: those to which all that is given applies.

    `ip` is an address, or a network such as "2001:db8::/64".

    Raises:
        UsageError: `ip` is neither an IP address nor a network.
    """

    limit: Annotated[int, Meta(ge=1, le=_PAGE_MOST)] = 100
    """How many there are on a page."""
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """The number behind which the page begins: `next` of the page before."""
    user: str | None = None
    ip: str | None = None
    room: str | None = None

    def __post_init__(self) -> None:
        if self.ip is not None:
            force_setattr(self, "ip", _range_text(self.ip))


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


class ConnectionsPage(Struct, frozen=True, rename="camel"):
    """Some connections by number, and where the next page begins: None on the last one.

    A page may have fewer than were asked for: it ends at 256 KiB.
    """

    connections: list[ConnectionRow]
    next: int | None


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
    async for connections in chosen(node, query):
        found += [
            connection
            for connection in connections
            if connection.number > query.after and connection.admission is not Admission.WAITING
        ]
        # In each turn, because sorting all of them at once would take too long for one.
        found.sort(key=_number)
        del found[query.limit + 1 :]
    rows: list[ConnectionRow] = []
    size, now = 0, monotonic()
    for connection in found[: query.limit]:
        row = _row(connection, now)
        size += len(json.encode(row))
        if rows and size > _PAGE_BYTES:
            break
        rows.append(row)
    return ConnectionsPage(rows, rows[-1].number if len(rows) < len(found) else None)


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
    for start in range(0, len(everyone), _LOOKS):
        for connection in everyone[start : start + _LOOKS]:
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
    for start in range(0, len(everyone), _LOOKS):
        yield [
            connection
            for connection in everyone[start : start + _LOOKS]
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


def _row(connection: Connection, now: float) -> ConnectionRow:
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
    )
