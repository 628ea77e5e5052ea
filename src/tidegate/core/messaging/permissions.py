"""What clients without a token may do: which rooms they may join and write to, and users.

Clients with a token may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.core.settings import Settings

__all__ = ["Permissions"]


class Permissions:
    """Says what a client may do, by its user: None for an anonymous one."""

    __slots__ = ("_direct", "_join", "_publish")

    def __init__(self, settings: Settings) -> None:
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over the settings of `anonymous`. Clients stay in the rooms they have joined."""
        self._join = _Names(settings.anonymous.join)
        self._publish = _Names(settings.anonymous.publish)
        self._direct = settings.anonymous.direct

    def may_join(self, user: str | None, room: str) -> bool:
        """Whether a client of this user may join a room."""
        return user is not None or room in self._join

    def may_publish(self, user: str | None, room: str) -> bool:
        """Whether a client of this user, a member, may write to a room. HOT."""
        return user is not None or room in self._publish

    def may_send(self, user: str | None) -> bool:
        """Whether a client of this user may write to users. HOT."""
        return user is not None or self._direct


class _Names:
    """Names of rooms, and beginnings of names: those that end with an asterisk."""

    __slots__ = ("_beginnings", "_names")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names = frozenset(name for name in patterns if not name.endswith("*"))
        self._beginnings = tuple(name[:-1] for name in patterns if name.endswith("*"))

    def __contains__(self, room: str) -> bool:
        return room.startswith(self._beginnings) or room in self._names
