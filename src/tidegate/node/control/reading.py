"""What is known of rooms and users: who is there, and what was said."""

from __future__ import annotations

import asyncio
from heapq import nsmallest
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from tidegate.backplane.base import HistoryQuery
from tidegate.core.codes import OVERLOADED, Fault
from tidegate.core.messaging.history import Page, Position
from tidegate.errors import UsageError
from tidegate.node.control.lists import LOOKS, MOST, Scope, fitting
from tidegate.node.presence import State

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = [
    "HistoryRow",
    "Kept",
    "PresenceQuery",
    "PresenceRow",
    "PresentRow",
    "RoomHistoryQuery",
    "UserRow",
    "UsersPage",
    "UsersQuery",
    "history",
    "presence",
    "users_page",
]

_SECONDS: Final = 10.0
_PAGE_BYTES: Final = 1 << 20


class PresenceQuery(Struct, frozen=True, rename="camel"):
    """A room."""

    room: str


class PresentRow(Struct, frozen=True):
    """A user in a room, with how many connections, and the `info` of its token."""

    user: str
    devices: int
    info: Raw | UnsetType = UNSET


class PresenceRow(Struct, frozen=True):
    """Who is in a room. `users` is left out where they are more than the room's rule shows."""

    room: str
    count: int
    users: list[PresentRow] | UnsetType = UNSET


class RoomHistoryQuery(Struct, frozen=True, rename="camel"):
    """Messages of a room: the last ones, or those after a position (`epoch` and `offset`)."""

    room: str
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    epoch: str | None = None
    offset: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Kept(Struct, frozen=True, rename="camel"):
    """One message of a room's history."""

    offset: int
    data: Raw
    sender: str | None = field(name="from")
    connection_id: str | None
    timestamp: float | UnsetType = UNSET


class HistoryRow(Struct, frozen=True):
    """Messages of a room, the oldest first, and the room's position.

    `recovered` is whether nothing is missing between the position that was asked for and the first.
    """

    room: str
    messages: list[Kept]
    epoch: str
    offset: int
    recovered: bool


class UsersQuery(Struct, frozen=True, rename="camel"):
    """Some users, by name behind `after`."""

    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    search: str = ""
    after: str = ""
    scope: Scope = "node"


class UserRow(Struct, frozen=True):
    """A user, and how many connections it has."""

    user: str
    connections: int
    nodes: dict[str, int] | UnsetType = UNSET
    """How many it has on each node, by id, where those of all nodes were asked for."""


class UsersPage(Struct, frozen=True):
    """Some users, how many there are in all, and where the next page begins.

    Of all nodes, `total` adds up theirs: a user of several counts once if it is on this page.
    A page may have fewer than were asked for: it ends at 256 KiB.
    """

    users: list[UserRow]
    total: int
    next: str | None
    complete: bool | UnsetType = UNSET
    """Whether all nodes have answered, where all were asked."""


async def presence(node: Parts, query: PresenceQuery) -> PresenceRow | Fault:
    """Return who is in a room, on all nodes."""
    done: asyncio.Future[State | Fault] = asyncio.get_running_loop().create_future()

    def told(answer: State | Fault) -> None:
        if not done.done():
            done.set_result(answer)

    node.presence.read(query.room, told)
    try:
        state = await asyncio.wait_for(done, _SECONDS)
    except TimeoutError:
        return OVERLOADED
    if not isinstance(state, State):
        return state
    if state.users is None:
        return PresenceRow(query.room, state.total)
    users = [
        PresentRow(one.user, one.devices, UNSET if one.info is None else Raw(one.info))
        for one in state.users
    ]
    return PresenceRow(query.room, state.total, users)


async def history(node: Parts, query: RoomHistoryQuery) -> HistoryRow | Fault:
    """Return messages of a room.

    Raises:
        UsageError: of epoch and offset, one is missing.
    """
    since = None
    if query.epoch is not None and query.offset is not None:
        since = Position(query.epoch, query.offset)
    elif query.epoch is not None or query.offset is not None:
        missing, given = ("offset", "epoch") if query.offset is None else ("epoch", "offset")
        raise UsageError(f"{missing}: is missing; {given} alone is no position")
    done: asyncio.Future[Page | Fault] = asyncio.get_running_loop().create_future()

    def told(answer: Page | Fault) -> None:
        if not done.done():
            done.set_result(answer)

    node.delivery.history(query.room, HistoryQuery(since, query.limit), told)
    try:
        answer = await asyncio.wait_for(done, _SECONDS)
    except TimeoutError:
        return OVERLOADED
    if not isinstance(answer, Page):
        return answer
    epoch, offset = answer.position
    kept: list[Kept] = []
    size = 0
    for one in answer.publications if since is not None else reversed(answer.publications):
        size += len(one.data)
        if kept and size > _PAGE_BYTES:
            break
        timestamp = UNSET if one.timestamp is None else one.timestamp
        kept.append(Kept(one.offset, _json(one.data), one.sender, one.connection, timestamp))
    if since is None:
        kept.reverse()
    return HistoryRow(query.room, kept, epoch, offset, answer.recovered)


async def users_page(node: Parts, query: UsersQuery) -> UsersPage:
    """Return a page of users, with a turn of the loop after some."""
    everybody = list(node.users)
    names: list[str] = []
    for start in range(0, len(everybody), LOOKS):
        names += [
            name
            for name in everybody[start : start + LOOKS]
            if name > query.after and query.search in name
        ]
        names = nsmallest(query.limit + 1, names)
        await asyncio.sleep(0)
    fleet = query.scope == "fleet"
    rows = fitting(
        (_user_row(node, name, fleet=fleet) for name in names[: query.limit]), answer=fleet
    )
    following = rows[-1].user if len(rows) < len(names) else None
    return UsersPage(rows, len(everybody), following, fleet or UNSET)


def _user_row(node: Parts, name: str, *, fleet: bool) -> UserRow:
    count = len(node.users.of_user(name))
    return UserRow(name, count, {node.engine.shared.name: count} if fleet else UNSET)


def _json(data: Any) -> Raw:
    return data if isinstance(data, Raw) else Raw(bytes(data))
