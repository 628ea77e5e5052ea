"""What the engine needs of a socket."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from tidegate.addresses import counted
from tidegate.engine.outbox import Sink
from tidegate.engine.poller import Source

__all__ = ["Socket", "peer_port"]


class Socket(Sink, Source, Protocol):
    """What a connection needs of its socket, plain or TLS."""

    def shutdown(self, how: int, /) -> None:
        """Half-close."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        """Return an option of so many bytes."""

    def getpeername(self) -> Any:
        """Return the address of the peer."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


def peer_port(sock: Socket, peer: str) -> int:
    """Return the port of a peer; 0 behind a PROXY header, whose address is not the connection's."""
    with contextlib.suppress(OSError):
        own = sock.getpeername()
        if isinstance(own, tuple) and counted(own[0]) == peer:
            return int(own[1])
    return 0
