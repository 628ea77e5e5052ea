"""What the engine needs of a socket, and how it listens."""

from __future__ import annotations

import os
import socket
import sys
from typing import Protocol

from tidegate.engine.outbox import Sink
from tidegate.engine.poller import Source
from tidegate.errors import ConfigError

__all__ = ["DEFERRED_SECONDS", "Socket", "listening_socket"]

DEFERRED_SECONDS = 1 if sys.platform == "linux" else 0
"""How long the kernel may keep a connection whose request is not there yet."""


class Socket(Sink, Source, Protocol):
    """What a connection needs of its socket, plain or TLS."""

    def shutdown(self, how: int, /) -> None:
        """Half-close."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        ConfigError: the address cannot be used; the text says why.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"server.host = {host!r}: {error.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted, which saves a system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # The kernel hands a connection over when its request is there (tcp(7)).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFERRED_SECONDS)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}"
        ) from None
    return sock
