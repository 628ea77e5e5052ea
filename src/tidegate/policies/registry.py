"""Which connections there are, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["ConnectionRegistry"]

C = TypeVar("C", bound=Hashable)


class ConnectionRegistry(Generic[C]):
    """The open connections, by user; any hashable object can be a connection. Safe from any thread.

    registry = ConnectionRegistry()
    with registry.entered(websocket, user="ann"):
        ...
    for device in registry.of_user("ann"):
        await device.send("hello")
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users: dict[C, str | None] = {}
        # In the order in which they were added; a dict is a set that keeps it.
        self._of_user: dict[str, dict[C, None]] = {}

    def add(self, connection: C, user: str | None = None) -> None:
        """Add a connection, or move one that is here to another user."""
        with self._lock:
            self._forget(connection)
            self._users[connection] = user
            if user is not None:
                self._of_user.setdefault(user, {})[connection] = None

    def remove(self, connection: C) -> bool:
        """Forget a connection; False when it was not here."""
        with self._lock:
            return self._forget(connection)

    def entered(self, connection: C, user: str | None = None) -> _Entered[C]:
        """Add a connection for the length of a `with` block."""
        return _Entered(self, connection, user)

    def user(self, connection: C) -> str | None:
        """Return whose connection it is; None for nobody, or when it is not here."""
        return self._users.get(connection)

    def of_user(self, user: str) -> list[C]:
        """Return the connections of a user, the oldest first; a copy."""
        with self._lock:
            return list(self._of_user.get(user, ()))

    def is_connected(self, user: str) -> bool:
        """Whether this user has a connection."""
        return user in self._of_user

    def users(self) -> list[str]:
        """Return the users that have a connection; a copy."""
        with self._lock:
            return list(self._of_user)

    async def spread(self, seconds: float) -> AsyncIterator[C]:
        """Yield every connection that is still here, evenly over this time: to close them, say.

        Clients that are closed one after the other come back one after the other. Those that are
        added after the call are not yielded.
        """
        loop = asyncio.get_running_loop()
        connections = list(self)
        start = loop.time()
        for number, connection in enumerate(connections):
            due = start + seconds * number / len(connections)
            if (delay := due - loop.time()) > 0:
                await asyncio.sleep(delay)
            if connection in self:
                yield connection

    def __contains__(self, connection: object) -> bool:
        return connection in self._users

    def __iter__(self) -> Iterator[C]:
        """Yield the connections of this moment, the oldest first."""
        with self._lock:
            return iter(list(self._users))

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._users)

    def _forget(self, connection: C) -> bool:
        if connection not in self._users:
            return False
        user = self._users.pop(connection)
        if user is not None:
            devices = self._of_user[user]
            del devices[connection]
            if not devices:
                del self._of_user[user]
        return True


class _Entered(Generic[C]):
    """A connection that is in the registry for the length of a `with` block."""

    __slots__ = ("_connection", "_registry", "_user")

    def __init__(self, registry: ConnectionRegistry[C], connection: C, user: str | None) -> None:
        self._registry = registry
        self._connection = connection
        self._user = user

    def __enter__(self) -> C:
        self._registry.add(self._connection, self._user)
        return self._connection

    def __exit__(self, *exception: object) -> None:
        self._registry.remove(self._connection)
