"""Sockets that were answered and wait for the peer to have read the answer.

Closing a socket over unread input sends a reset, and a reset can destroy an answer that the peer
has not read yet (RFC 1122 4.2.2.13). So a refused socket is half-closed and stays for a moment:
what still comes is thrown away, and the peer's own end, or the deadline, ends it.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.engine.poller import Poller
    from tidegate.engine.sending import Socket

__all__ = ["Lingerers"]

_SECONDS = 2.0
_MOST = 1024  # more than this and the oldest goes at once: a storm must not eat the descriptors


class _Lingerer:
    __slots__ = ("_poller", "_sock", "until")

    def __init__(self, poller: Poller, sock: Socket, until: float) -> None:
        self._poller = poller
        self._sock: Socket | None = sock
        self.until = until

    @property
    def closed(self) -> bool:
        return self._sock is None

    def on_readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            if sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def on_events(self, events: int) -> None:  # noqa: ARG002 - all end in a read
        self.on_readable()

    def on_crash(self) -> None:
        self.close()

    def close(self) -> None:
        sock = self._sock
        if sock is not None:
            self._sock = None
            self._poller.forget(sock.fileno())
            sock.close()


class Lingerers:
    """All lingering sockets, oldest first; bounded in number and time."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._line: deque[_Lingerer] = deque()

    def add(self, sock: Socket, registered: bool = False) -> None:
        """Half-close ``sock`` and close it when the peer has, or after two seconds."""
        poller = self._poller
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            if registered:
                poller.forget(sock.fileno())
            sock.close()
            return
        lingerer = _Lingerer(poller, sock, poller.now + _SECONDS)
        if registered:
            poller.table[sock.fileno()] = lingerer
        else:
            poller.register(sock.fileno(), lingerer)
        line = self._line
        line.append(lingerer)
        while line[0].closed or len(line) > _MOST:
            line.popleft().close()

    def expire(self, now: float) -> None:
        """Close those whose time is up."""
        line = self._line
        while line and line[0].until <= now:
            line.popleft().close()

    def close(self) -> None:
        """Close them all."""
        while self._line:
            with contextlib.suppress(OSError):
                self._line.popleft().close()
