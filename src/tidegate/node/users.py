"""Which connections of a user are on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection

__all__ = ["Users"]


class Users:
    """Users to their connections. An anonymous connection has no user and is not in here.

    Most users have a single connection, so that one is stored as it is, and a set is made only
    for a second: with it, a user would cost four times as much memory.
    """

    def __init__(self) -> None:
        self._users: dict[str, Connection | set[Connection]] = {}

    def add(self, connection: Connection) -> None:
        """Enter a connection under its user. Entering it twice changes nothing."""
        user = connection.user
        if user is None:
            return
        present = self._users.setdefault(user, connection)
        if isinstance(present, set):
            present.add(connection)
        elif present is not connection:
            self._users[user] = {present, connection}

    def remove(self, connection: Connection) -> None:
        """Remove a connection. One that is not here is no error."""
        user = connection.user
        if user is None:
            return
        present = self._users.get(user)
        if present is connection:
            del self._users[user]
        elif isinstance(present, set):
            present.discard(connection)
            if len(present) == 1:
                self._users[user] = present.pop()

    def of_user(self, user: str) -> tuple[Connection, ...]:
        """The connections of a user, none if it is not here. The users may change meanwhile."""
        present = self._users.get(user)
        if present is None:
            return ()
        return tuple(present) if isinstance(present, set) else (present,)

    def __contains__(self, user: str) -> bool:
        return user in self._users

    def __len__(self) -> int:
        """How many users are here."""
        return len(self._users)
