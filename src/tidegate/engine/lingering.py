"""Sockets that were answered and wait for the peer to have read the answer.

Closing a socket over unread input sends a reset, and a reset can destroy an answer that the peer
has not read yet (RFC 1122 4.2.2.13). So a refused socket is half-closed and stays for a moment:
what still comes is thrown away, and the peer's own end, or the deadline, ends it.

They are not on the poller. A storm of refusals has thousands of them, nearly all of them ended by
their peers when the next look at them comes; looking costs less than being told of each.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.engine.sending import Socket

__all__ = ["Lingerers"]

_SECONDS = 2.0
_MOST = 1024  # more than this and the oldest goes at once: a storm must not eat the descriptors


class Lingerers:
    """All lingering sockets, oldest first; bounded in number and time."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line: deque[tuple[float, Socket]] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def add(self, sock: Socket, now: float) -> None:
        """Half-close ``sock``, which no poller watches, and close it when the peer has."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        line = self._line
        line.append((now + _SECONDS, sock))
        if len(line) > _MOST:
            _, oldest = line.popleft()
            _ended(oldest)  # for what is unread, which would make closing a reset
            oldest.close()

    def sweep(self, now: float) -> None:
        """Close those whose peer has ended, or whose two seconds are over. Call it often."""
        line = self._line
        for _ in range(len(line)):
            until, sock = line.popleft()
            if _ended(sock) or until <= now:
                sock.close()
            else:
                line.append((until, sock))

    def close(self) -> None:
        """Close them all."""
        while self._line:
            self._line.popleft()[1].close()


def _ended(sock: Socket) -> bool:
    """Throw away what has come, and return whether the peer has ended or gone."""
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
