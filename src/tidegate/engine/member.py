"""What the fan-out needs of those that it sends to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.codes import Close
    from tidegate.engine.outbox import Sink

__all__ = ["Encode", "Member"]

Encode: TypeAlias = Callable[[str | None], bytes]
"""Encodes one publication as a frame for members of a subprotocol."""


class Member(Hashable, Protocol):
    """What fan-out needs of a connection."""

    @property
    def subprotocol(self) -> str | None:
        """Which frames it gets; it never changes."""

    @property
    def sink(self) -> Sink:
        """Where its frames go."""

    def hold_back(self, frame: bytes, sent: int, /) -> None:
        """The sink took only the first `sent` bytes of `frame`."""

    def lost(self, reason: Close, /) -> None:
        """The sink failed."""

    def transmit(self, frame: bytes, /) -> None:
        """Send a frame (or several, joined), whatever the sink does."""
