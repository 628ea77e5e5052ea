"""What the engine needs of a socket."""

from __future__ import annotations

from typing import Any, Protocol

from tidegate.engine.outbox import Sink
from tidegate.engine.poller import Source

__all__ = ["Socket"]


class Socket(Sink, Source, Protocol):
    """What a connection needs of its socket, plain or TLS."""

    def shutdown(self, how: int, /) -> None:
        """Half-close."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def getpeername(self) -> Any:
        """Return the address of the peer."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""
