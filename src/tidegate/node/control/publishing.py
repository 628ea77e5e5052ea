"""Messages that a backend sends: to a room, to a user, to everybody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tidegate.core.codes import OVERLOADED, Fault
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.engine.application import Application
from tidegate.errors import UsageError
from tidegate.wire.messages import MAX_ROOM, MAX_USER, is_name

if TYPE_CHECKING:
    from tidegate.node.control.parts import Parts

__all__ = ["Publish", "Published", "Source", "publish"]

Source: TypeAlias = Literal["api", "hook"]

_SECONDS: Final = 10.0


class Publish(Struct, frozen=True, forbid_unknown_fields=True):
    """One message: `data`, any JSON, to one of `room`, `user` and `all`."""

    data: Raw
    room: Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)] | None = None
    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER)] | None = None
    all: bool = False

    def __post_init__(self) -> None:
        if (self.room is not None) + (self.user is not None) + self.all != 1:
            raise ValueError("give one of room, user and all")
        if self.room is not None and not is_name(self.room, MAX_ROOM):
            raise ValueError("control characters are not allowed - at `$.room`")
        if self.user is not None and not is_name(self.user, MAX_USER):
            raise ValueError("control characters are not allowed - at `$.user`")


class Published(Struct, frozen=True):
    """What became of a message."""

    delivered: int | UnsetType = UNSET
    """To how many connections it goes: of a user, or all."""
    members: int | UnsetType = UNSET
    """How many members the room has on this node."""
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    """The position of the message, where the room keeps a history."""


async def publish(node: Parts, message: Publish, source: Source) -> Published | Fault:
    """Carry a message; return what became of it, or why it was not taken.

    Args:
        source: who publishes: the server API, or a function of a `tidegate.App`.

    Raises:
        UsageError: the application of this node has no rooms.
    """
    if type(node.application).frame is Application.frame:
        raise UsageError("the application that runs here has no rooms")
    if message.room is not None:
        done = await _to_room(node, Publication(message.room, message.data))
    elif message.user is not None:
        done = await _to_user(node, Direct(message.user, message.data))
    else:
        done = await _to_all(node, Publication("", message.data))
    if isinstance(done, Published):
        node.stats.published[source] += 1
    return done


async def _to_room(node: Parts, publication: Publication) -> Published | Fault:
    done: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
    node.delivery.publish(publication, lambda fault: _tell(done, fault))
    try:
        fault = await asyncio.wait_for(done, _SECONDS)
    except TimeoutError:
        fault = OVERLOADED
    if fault is not None:
        return fault
    members = node.rooms.count(publication.room)
    if publication.offset:
        return Published(members=members, epoch=publication.epoch, offset=publication.offset)
    return Published(members=members)


async def _to_user(node: Parts, message: Direct) -> Published | Fault:
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.delivery.send(message, lambda delivered: _tell(done, delivered))
    try:
        return Published(delivered=await asyncio.wait_for(done, _SECONDS))
    except TimeoutError:
        return OVERLOADED


async def _to_all(node: Parts, publication: Publication) -> Published | Fault:
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.delivery.to_all(publication, lambda delivered: _tell(done, delivered))
    try:
        return Published(delivered=await asyncio.wait_for(done, _SECONDS))
    except TimeoutError:
        return OVERLOADED


def _tell(done: asyncio.Future[Any], value: object) -> None:
    if not done.done():
        done.set_result(value)
