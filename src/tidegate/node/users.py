"""Users and their connections on this node."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["Owned", "Users"]


class Owned(Hashable, Protocol):
    """What may belong to a user."""

    @property
    def user(self) -> str | None:
        """The user, None for an anonymous connection."""


C = TypeVar("C", bound=Owned)


class Users(Generic[C]):
    """The connections of each user. An anonymous connection has no user and is not kept.

    Most users have a single connection, so that one is stored as it is, and a set is made only
    for a second: with it, a user takes four times as much memory.
    """

    def __init__(self) -> None:
        self._users: dict[str, C | set[C]] = {}

    def add(self, connection: C) -> None:
        """Add a connection to its user. Adding it twice changes nothing."""
        user = connection.user
        if user is None:
            return
        present = self._users.setdefault(user, connection)
        if isinstance(present, set):
            present.add(connection)
        elif present is not connection:
            self._users[user] = {present, connection}

    def remove(self, connection: C) -> None:
        """Remove a connection. It is no error if it was not added."""
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

    def of_user(self, user: str) -> tuple[C, ...]:
        """Return the connections of a user: a copy, so the loop over it may add and remove."""
        present = self._users.get(user)
        if present is None:
            return ()
        return tuple(present) if isinstance(present, set) else (present,)

    def __iter__(self) -> Iterator[str]:
        """Yield the users: of a copy, so the loop over it may add and remove."""
        return iter(tuple(self._users))

    def __contains__(self, user: str) -> bool:
        """Whether a user has a connection on this node."""
        return user in self._users

    def __len__(self) -> int:
        """How many users have a connection on this node."""
        return len(self._users)
