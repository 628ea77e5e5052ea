"""Rooms and users of a `Server`, by name, and what was sent to them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from tidegate.core.codes import NORMAL
from tidegate.gate.refused import refused

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.engine.sending import Message
    from tidegate.library.connection import Connection
    from tidegate.library.hub import Hub

__all__ = ["Membership", "Room", "Sent", "User"]


class Sent:
    """What was sent to several. It is on its way already; await it to wait until it is out.

    A publisher that awaits what it sends cannot get ahead of its members:

        reached = await room.send("hello")

    Attributes:
        reached: to how many connections it goes.

    Raises:
        Refused: when it is awaited: it was not taken, because too much waits already.
    """

    __slots__ = ("_fault", "_hub", "_room", "reached")

    def __init__(self, hub: Hub, room: str | None, reached: int, fault: Fault | None) -> None:
        self._hub = hub
        self._room = room
        self._fault = fault
        self.reached = reached

    def __await__(self) -> Generator[Any, None, int]:
        return self._out().__await__()

    async def _out(self) -> int:
        if self._fault is not None:
            raise refused(self._fault)
        if self._room is not None:
            await self._hub.sent(self._room)
        return self.reached

    def __repr__(self) -> str:
        return f"<Sent reached={self.reached}>"


class Room:
    """A room by its name. It holds nothing: make as many as you like, and keep none."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self.name = name

    def send(self, message: Message, *, exclude: Connection | None = None) -> Sent:
        """Send a text (`str`) or binary (bytes-like) message to all members.

        It is encoded once, and goes out at the end of this turn of the event loop, joined with
        others. Members that do not read are dealt with by `outbox.policy`; nobody waits for them.

        Args:
            exclude: a connection that does not get it, such as the one that it came from.

        Raises:
            TypeError: it is of another type.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.publish(self.name, message, exclude)

    def send_json(self, value: Any, *, exclude: Connection | None = None) -> Sent:
        """Send what msgspec makes JSON of: mappings, dataclasses, `msgspec.Struct` and more.

        Raises:
            TypeError: no JSON can be made of it.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.publish_json(self.name, value, exclude)

    @property
    def members(self) -> list[Connection]:
        """The members, in the order in which they joined; a copy."""
        return self._hub.members(self.name)

    @property
    def users(self) -> list[str]:
        """The users of the members, each once, in the order in which they joined."""
        names = (member.user for member in self.members)
        return list(dict.fromkeys(name for name in names if name is not None))

    def __len__(self) -> int:
        """How many members it has."""
        return self._hub.count(self.name)

    def __bool__(self) -> bool:
        """Whether it has members."""
        return len(self) > 0

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.members)

    def __contains__(self, who: object) -> bool:
        """Whether a connection, or a user by name, is in it."""
        return who in self.users if isinstance(who, str) else who in self.members

    def __repr__(self) -> str:
        return f"<Room {self.name!r} members={len(self)}>"


class Membership:
    """A connection in a room, until the block ends or it leaves.

    async with connection.join("lobby") as lobby:
        lobby.send("hello")

    Without a block the connection stays in the room until it leaves or ends.
    """

    __slots__ = ("_connection", "room")

    def __init__(self, connection: Connection, room: Room) -> None:
        self._connection = connection
        self.room = room
        """The room."""

    async def __aenter__(self) -> Room:
        return self.room

    async def __aexit__(self, *exception: object) -> None:
        self._connection.leave(self.room.name)


class User:
    """A user by name, with all connections. It holds nothing; the user need not be connected."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self.name = name

    def send(self, message: Message) -> Sent:
        """Send a text (`str`) or binary (bytes-like) message to every connection.

        Raises:
            TypeError: it is of another type.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.tell(self.name, message)

    def send_json(self, value: Any) -> Sent:
        """Send what msgspec makes JSON of.

        Raises:
            TypeError: no JSON can be made of it.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.tell_json(self.name, value)

    async def ping(self, timeout: float = 2.0) -> float | None:
        """Measure the way to the client that answers first.

        Args:
            timeout: seconds.

        Returns:
            Seconds; None when none answers in time, or none is connected.
        """
        pings = [asyncio.ensure_future(one.ping(timeout)) for one in self.connections]
        try:
            for answered in asyncio.as_completed(pings):
                if (latency := await answered) is not None:
                    return latency
        finally:
            for ping in pings:
                ping.cancel()
        return None

    def close(self, code: int = NORMAL.code, text: str = "") -> int:
        """Close every connection, as `Connection.close` does; how many there were."""
        connections = self.connections
        for connection in connections:
            connection.close(code, text)
        return len(connections)

    @property
    def connections(self) -> list[Connection]:
        """The connections; a copy."""
        return self._hub.of_user(self.name)

    @property
    def rooms(self) -> list[str]:
        """The rooms that the connections are in, each once."""
        return list(dict.fromkeys(room for one in self.connections for room in one.rooms))

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self.connections)

    def __bool__(self) -> bool:
        """Whether the user is connected."""
        return len(self) > 0

    def __repr__(self) -> str:
        return f"<User {self.name!r} connections={len(self)}>"
