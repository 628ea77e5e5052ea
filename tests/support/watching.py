"""What a client knows of who is in its rooms, by docs/protocol.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Known", "View"]


@dataclass
class Known:
    """What is known of one room."""

    count: int
    users: set[str] | None
    """None where only the count is told."""


@dataclass
class View:
    """What a client was told. A change that does not go with what it knew is an AssertionError."""

    rooms: dict[str, Known] = field(default_factory=dict)

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take a message of the server; those that are not of presence have no effect."""
        match message:
            case {"type": "presence_state", "room": room, "count": count, **rest}:
                users = rest.get("users")
                told = None if users is None else {one["user"] for one in users}
                assert users is None or len(users) == len(told or ()) == count, message
                # A look without having asked for changes: these do not come.
                if room in self.rooms or "id" not in rest:
                    self.rooms[room] = Known(count, told)
            case {"type": "user_joined", "room": room, "users": users, "count": count}:
                known = self.rooms[room]
                assert known.users is not None, message
                names = [one["user"] for one in users]
                assert known.users.isdisjoint(names), f"{message} after {known}"
                known.users.update(names)
                known.count = count
                assert count == len(known.users), f"{message}: {known}"
            case {"type": "user_left", "room": room, "users": names, "count": count}:
                known = self.rooms[room]
                assert known.users is not None, message
                assert known.users.issuperset(names), f"{message} after {known}"
                known.users.difference_update(names)
                known.count = count
            case {"type": "presence_count", "room": room, "count": count}:
                self.rooms[room] = Known(count, None)
