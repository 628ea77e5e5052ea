"""What the connections that subscribe tell those who want the channels of rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Covers", "RoomChannels"]

Covers = Callable[[str], bool]
"""Whether a room is heard on a link."""


class RoomChannels(Protocol):
    """Who subscribes to rooms: told what happens on the link that does it."""

    def listening_up(self, covers: Covers, /) -> None:
        """There is a link for some rooms; it is subscribed to none."""

    def listening_down(self, covers: Covers, /) -> None:
        """There is none for these any more."""

    def confirmed(self, channel: bytes, /) -> None:
        """The server has confirmed a subscription."""

    def wants(self, channel: bytes, /) -> bool:
        """Whether a subscription that the server says has ended is still wanted."""

    def published(self, channel: bytes, data: bytes, /) -> None:
        """Something was published. HOT."""
