"""A user of a `Server`, with all connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.core.codes import NORMAL

if TYPE_CHECKING:
    from tidegate.engine.sending import Message
    from tidegate.library.connection import Connection
    from tidegate.library.sent import Sent

__all__ = ["Home", "User"]


class Home(Protocol):
    """What has the users."""

    def tell(self, user: str, message: Message, /) -> Sent:
        """Send a message to every connection of a user."""

    def tell_json(self, user: str, value: Any, /) -> Sent:
        """Send JSON to every connection of a user."""

    def of_user(self, user: str, /) -> list[Connection]:
        """The connections of a user."""


class User:
    """A user by name, with all connections. It holds nothing; the user need not be connected."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Home, name: str) -> None:
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
