"""Rooms and users by their names, as an application uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from tidegate.asgi.member import HubMember

__all__ = ["Room", "Rooms", "User", "users_of"]

Out = TypeVar("Out", contravariant=True)


class Rooms(Protocol):
    """Who has the rooms and users: the hub."""

    def publish(self, room: str, message: Any, exclude: HubMember | None = None, /) -> int:
        """Send a message to the members of a room; how many were reached."""

    def tell(self, user: str, message: Any, /) -> int:
        """Send a message to every connection of a user; how many were reached."""

    def members_of(self, room: str, /) -> tuple[HubMember, ...]:
        """The members of a room, in the order in which they joined."""

    def count(self, room: str, /) -> int:
        """How many members a room has."""

    def devices(self, user: str, /) -> tuple[HubMember, ...]:
        """The members of a user."""


class Room(Generic[Out]):
    """A room of a hub, by its name. Make as many of these as you like; they hold nothing."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Rooms, name: str) -> None:
        self._hub = hub
        self.name = name

    async def send(self, message: Out, *, exclude: HubMember | None = None) -> int:
        """Send a message to all members, encoded once, without waiting for slow ones.

        Args:
            message: a text, bytes, or what JSON can be made of.
            exclude: a member that does not get it, such as the one it came from.

        Returns:
            How many members were reached: all that are connected, without those that were closed
            because they let too much wait.

        Raises:
            TypeError: no message can be made of it.
        """
        return self._hub.publish(self.name, message, exclude)

    @property
    def members(self) -> tuple[HubMember, ...]:
        """The members, in the order in which they joined; a copy."""
        return self._hub.members_of(self.name)

    @property
    def users(self) -> list[str]:
        """The users of the members, each once, in the order in which they joined."""
        return users_of(self._hub.members_of(self.name))

    def __len__(self) -> int:
        """How many members it has."""
        return self._hub.count(self.name)

    def __iter__(self) -> Iterator[HubMember]:
        return iter(self.members)

    def __contains__(self, who: object) -> bool:
        """Whether a member is in it, or a user by name."""
        if isinstance(who, HubMember):
            return self.name in who.rooms
        return isinstance(who, str) and who in self.users

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Room {self.name!r} members={len(self)}>"


class User:
    """A user of a hub, by name, with all connections. It holds nothing."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Rooms, name: str) -> None:
        self._hub = hub
        self.name = name

    async def send(self, message: Any) -> int:
        """Send a message to every connection of the user, without waiting for slow ones.

        Args:
            message: a text, bytes, or what JSON can be made of.

        Returns:
            How many connections were reached.

        Raises:
            TypeError: no message can be made of it.
        """
        return self._hub.tell(self.name, message)

    async def ping(self, timeout: float = 5.0) -> float | None:
        """Return the shortest round trip to a connection of the user, in seconds.

        Args:
            timeout: in seconds.

        Returns:
            None when the user is not connected, or no connection answered in time.
        """
        trips = await asyncio.gather(
            *(member.ping(timeout) for member in self._hub.devices(self.name))
        )
        return min((trip for trip in trips if trip is not None), default=None)

    @property
    def members(self) -> tuple[HubMember, ...]:
        """The connections of the user; a copy."""
        return self._hub.devices(self.name)

    @property
    def connected(self) -> bool:
        """Whether the user has a connection."""
        return bool(self._hub.devices(self.name))

    def __repr__(self) -> str:
        return f"<User {self.name!r} connections={len(self.members)}>"


def users_of(members: Iterable[HubMember]) -> list[str]:
    """The users of some members, each once, in their order."""
    return list(dict.fromkeys(member.user for member in members if member.user is not None))
