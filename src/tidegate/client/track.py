"""The position in a room's history: what follows, what is old, what is missing."""

from __future__ import annotations

from typing import Any, TypeGuard

from tidegate.client.messages import Position

__all__ = ["Track"]


class Track:
    """Follows a room's history message by message. Knows nothing until it is placed."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._epoch: str | None = None
        self._offset = 0
        # While messages of history come: the position that the room had when it was joined.
        self._replay = 0
        # Offsets of own messages that do not come back.
        self._own: set[int] = set()

    @property
    def position(self) -> Position | None:
        """The last message that was seen, if the room keeps a history."""
        return None if self._epoch is None else Position(self._epoch, self._offset)

    def place(self, epoch: Any, offset: Any, *, history: int, recovered: bool) -> None:
        """Take the position that an answer to `join` has.

        Args:
            epoch: as the server said; anything but a text for none.
            offset: as the server said.
            history: how many messages were asked for.
            recovered: whether what was missed follows, so that the old position goes on.
        """
        self._own.clear()
        if _is_offset(offset) and (self._epoch is None or not recovered):
            # Messages of history may follow, up to `offset`.
            self._replay = offset
            self._offset = max(0, offset - history)
        self._epoch = epoch if isinstance(epoch, str) else None

    def is_at(self, offset: object) -> bool:
        """Whether nothing was missed up to an offset."""
        return self._epoch is None or offset == self._offset

    def take(self, offset: object) -> bool:
        """Go on to a message; false if messages before it are missing, or it is an old one."""
        if self._epoch is None or not _is_offset(offset):
            return True
        old = self._offset < offset <= self._replay + 1
        if offset != self._offset + 1 and not old:
            return False
        self._replay = 0
        self._offset = offset
        self._skip()
        return True

    def publish(self, offset: object) -> None:
        """A message of this client has this offset, and does not come back."""
        if _is_offset(offset) and offset:
            self._own.add(offset)
            self._skip()

    def lost(self) -> None:
        """The connection was lost: own messages come again in a recovery."""
        self._own.clear()

    def forget(self) -> None:
        """The room was left."""
        self._epoch = None

    def _skip(self) -> None:
        while self._offset + 1 in self._own:
            self._offset += 1
            self._own.remove(self._offset)


def _is_offset(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
