"""Sockets that were answered and wait for the peer to have read the answer.

Closing a socket over unread input sends a reset, and a reset can destroy an answer that the peer
has not read yet (RFC 1122 4.2.2.13). So a refused socket is half-closed and stays for a moment:
what still comes is thrown away, and the peer's own end, or the deadline, ends it.

They are not on the poller. A storm of refusals has thousands of them, nearly all of them ended by
their peers when the next look at them comes; looking costs less than being told of each. Looks are
spread out, so that those who are connected do not wait for a thousand of them: each refusal looks
at two that have rested, and each tick of the engine at a few.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.engine.sockets import Socket
    from tidegate.engine.unfinished import Unfinished

__all__ = ["Lingerers"]

_SECONDS = 2.0
_REST_SECONDS = 0.02  # between two looks at the same: time for the peer to read and to end
_LOOKS_PER_ADD = 2  # more than an add can add, so that the queue does not grow when peers end
_LOOKS_PER_SWEEP = 32


class Lingerers:
    """All lingering sockets, the one that was looked at longest ago first.

    Bounded in number and time: at most `unfinished.most`, for two seconds and as long as the
    looks at the others take. One more closes the oldest at once, so that a storm does not eat the
    descriptors.
    """

    __slots__ = ("_queue", "unfinished")

    def __init__(self, unfinished: Unfinished) -> None:
        self.unfinished = unfinished
        # When each was looked at last, its deadline, the socket, and what it is counted under.
        self._queue: deque[tuple[float, float, Socket, str]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, sock: Socket, now: float, address: str | None) -> None:
        """Half-close ``sock``, which no poller watches, and close it when the peer has. HOT.

        When too many of its address linger already, it is closed at once: its answer may be lost
        if the peer goes on sending.

        Args:
            address: what it is counted under, None for a trusted proxy's.
        """
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._look(now, _LOOKS_PER_ADD)
        key = self.unfinished.enter(address)
        if key is None:
            _ended(sock)  # for what is unread, which would make closing a reset
            sock.close()
            return
        queue = self._queue
        queue.append((now, now + _SECONDS, sock, key))
        if len(queue) > self.unfinished.most:
            _, _, oldest, key = queue.popleft()
            _ended(oldest)
            self._close(oldest, key)

    def sweep(self, now: float) -> None:
        """Close some of those whose peer has ended, or whose time is over. Call it often."""
        self._look(now, _LOOKS_PER_SWEEP)

    def close(self) -> None:
        """Close them all."""
        while self._queue:
            _, _, sock, key = self._queue.popleft()
            self._close(sock, key)

    def _close(self, sock: Socket, key: str) -> None:
        sock.close()
        self.unfinished.leave(key)

    def _look(self, now: float, count: int) -> None:
        queue = self._queue
        rested = now - _REST_SECONDS
        for _ in range(min(count, len(queue))):
            if queue[0][0] > rested:
                return
            _, until, sock, key = queue.popleft()
            if _ended(sock) or until <= now:
                self._close(sock, key)
            else:
                queue.append((now, until, sock, key))


def _ended(sock: Socket) -> bool:
    """Throw away what has come, and return whether the peer has ended or gone."""
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
