"""The connections of a node: which there are, and the end of some of them."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import accumulate
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct, json
from msgspec.structs import force_setattr

from tidegate.addresses import UNIX_PEER, counted, matcher, parse, range_of
from tidegate.core.codes import KICKED
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
    "counted_ip",
    "disconnect",
    "page",
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


class Disconnected(Struct, frozen=True, rename="camel"):
    """How many connections were ended."""

    count: int


async def page(node: Parts, query: ConnectionsQuery) -> ConnectionsPage:
    """Return one page. Connections that wait to be admitted are not listed."""
    found: list[Connection] = []
    async for connections in _find(node, query):
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


async def disconnect(node: Parts, selector: Selector, detail: str = "") -> Disconnected:
    """End connections for `KICKED`, those that wait to be admitted too.

    Args:
        detail: what the clients are told beside the reason.
    """
    count = 0
    async for connections in _find(node, selector):
        for connection in connections:
            if not connection.open:
                continue
            connection.end(KICKED, detail=detail)
            count += 1
            if count % _ENDS == 0:
                await asyncio.sleep(0)
    _log.info("disconnected by the operator", extra={"connections": count})
    return Disconnected(count)


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


async def _find(
    node: Parts, wanted: ConnectionsQuery | Selector
) -> AsyncIterator[list[Connection]]:
    """Yield the connections that are wanted, with a turn of the loop after some."""
    source: Iterable[Connection] = node.engine.connections()
    if wanted.room is not None:
        source = node.rooms.members(wanted.room)
    comes_from: Callable[[str], bool] | None = None
    if wanted.ip == UNIX_PEER:
        comes_from = UNIX_PEER.__eq__
    elif wanted.ip is not None:
        network = range_of(wanted.ip)
        assert network is not None
        comes_from = matcher(network)
    # A copy, because connections come and go while the loop has its turns.
    everyone = list(source)
    for start in range(0, len(everyone), _LOOKS):
        yield [
            connection
            for connection in everyone[start : start + _LOOKS]
            if _fits(connection, wanted, comes_from)
        ]
        await asyncio.sleep(0)


def _fits(
    connection: Connection,
    wanted: ConnectionsQuery | Selector,
    comes_from: Callable[[str], bool] | None,
) -> bool:
    return (
        not connection.closed
        and (wanted.user is None or connection.user == wanted.user)
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
        rooms=rooms[:fitting],
        room_count=len(rooms),
        age=round(now - connection.opened_at, 3),
        idle=round(now - connection.last_active, 3),
        buffered=connection.buffered,
    )
