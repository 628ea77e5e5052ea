"""Messages of a hub to the members in other processes.

A message goes to the members of its own process at once, and to the other processes over the
backplane. What a process has sent itself it does not take from there.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from tidegate.core.messaging.publication import Direct, Publication
from tidegate.errors import BackplaneError

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker
    from tidegate.core.codes import Fault

__all__ = ["Span"]

_log = logging.getLogger("tidegate")

_AGAIN_SECONDS: Final = 1.0


class Members(Protocol):
    """Who has the members of this process: the hub."""

    def deliver(self, room: str, data: str | bytes, /) -> None:
        """Send to the members of a room."""

    def deliver_to_user(self, user: str, data: str | bytes, /) -> None:
        """Send to every connection of a user."""

    def deliver_to_all(self, data: str | bytes, /) -> None:
        """Send to every member."""


class Span:
    """Carries the messages of one process (`backplane.base.Receiver`).

    Args:
        broker: carries them between processes.
        members: gets what others have sent.
        name: of this process; no other one has it.
    """

    def __init__(self, broker: Broker, members: Members, name: str) -> None:
        self._broker = broker
        self._members = members
        self._name = name
        self._rooms: dict[str, bool] = {}  # those subscribed to, and whether that is confirmed
        self._wanted: set[str] = set()
        self._up = False
        self._beginning: asyncio.Task[None] | None = None

    # The hub.

    def begin(self) -> None:
        """Connect, and try again until that can be done."""
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().create_task(self._begin())

    async def close(self) -> None:
        """End the connection."""
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            beginning.cancel()
            await asyncio.wait([beginning])
        if self._up:
            self._up = False
            await self._broker.stop()

    def follow(self, room: str) -> None:
        """A room has its first member here."""
        self._wanted.add(room)
        if self._up and room not in self._rooms:
            self._rooms[room] = False
            self._broker.subscribe(room, partial(self._subscribed, room))

    def leave(self, room: str) -> None:
        """A room has no member here any more."""
        self._wanted.discard(room)
        if self._rooms.get(room):
            del self._rooms[room]
            self._broker.unsubscribe(room)

    def publish(self, room: str, data: str | bytes) -> None:
        """Send to the members of a room in other processes."""
        if self._up:
            publication = Publication(room, _bytes(data), connection=self._name)
            publication.binary = isinstance(data, bytes)
            self._broker.publish(publication, self._published)

    def tell(self, user: str, data: str | bytes) -> None:
        """Send to the connections of a user in other processes."""
        if self._up:
            binary = isinstance(data, bytes)
            message = Direct(user, _bytes(data), connection=self._name, binary=binary)
            self._broker.send(message, _ignore)

    def tell_all(self, data: str | bytes) -> None:
        """Send to every member in other processes."""
        if self._up:
            publication = Publication("", _bytes(data), connection=self._name)
            publication.binary = isinstance(data, bytes)
            self._broker.to_all(publication, _ignore)

    # The broker.

    def deliver(self, publication: Publication, /) -> Fault | None:
        """Take a message to a room."""
        if publication.connection != self._name:
            self._members.deliver(publication.room, _data(publication))
        return None

    def deliver_to_user(self, message: Direct, /) -> int:
        """Take a message to a user."""
        if message.connection != self._name:
            self._members.deliver_to_user(message.user, _data(message))
        return 0

    def deliver_to_all(self, message: Publication, /) -> int:
        """Take a message to everybody."""
        if message.connection != self._name:
            self._members.deliver_to_all(_data(message))
        return 0

    def missed_directs(self) -> None:
        """Messages to users may be missing; they have no numbers by which that could be told."""

    def missed(self, room: str, /) -> None:
        """Say that messages of other processes may be lost; clients have no word for it."""
        _log.warning("messages of other processes to a room may be lost", extra={"room": room})

    async def _begin(self) -> None:
        warned = False
        while True:
            try:
                await self._broker.start(self)
            except BackplaneError as error:
                if not warned:
                    _log.error("messages go to members of this process only: %s", error)
                warned = True
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._up = True
                break
        for room in tuple(self._wanted):
            self.follow(room)

    def _subscribed(self, room: str, fault: Fault | None) -> None:
        if fault is not None:
            del self._rooms[room]
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._again, room)
        elif room in self._wanted:
            self._rooms[room] = True
        else:
            del self._rooms[room]
            self._broker.unsubscribe(room)

    def _again(self, room: str) -> None:
        if room in self._wanted:
            self.follow(room)

    def _published(self, fault: Fault | None) -> None:
        if fault is not None:
            _log.warning("a message did not reach other processes: %s", fault.message)


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _data(message: Any) -> str | bytes:
    data = bytes(message.data)
    return data if message.binary else data.decode()


def _ignore(_: int) -> None:
    """How many others it reached is not told."""
