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

__all__ = ["Lingerers"]

_SECONDS = 2.0
_REST_SECONDS = 0.02  # between two looks at the same: time for the peer to read and to end
_LOOKS_PER_ADD = 2  # more than an add can add, so that the queue does not grow when peers end
_LOOKS_PER_SWEEP = 32
_MOST = 1024  # more than this and the oldest goes at once: a storm must not eat the descriptors


class Lingerers:
    """All lingering sockets, the one that was looked at longest ago first.

    Bounded in number and time: at most 1,024, for two seconds and as long as the looks at the
    others take.
    """

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        # When each was looked at last, its deadline and the socket.
        self._queue: deque[tuple[float, float, Socket]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, sock: Socket, now: float) -> None:
        """Half-close ``sock``, which no poller watches, and close it when the peer has. HOT."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        queue = self._queue
        queue.append((now, now + _SECONDS, sock))
        self._look(now, _LOOKS_PER_ADD)
        if len(queue) > _MOST:
            _, _, oldest = queue.popleft()
            _ended(oldest)  # for what is unread, which would make closing a reset
            oldest.close()

    def sweep(self, now: float) -> None:
        """Close some of those whose peer has ended, or whose time is over. Call it often."""
        self._look(now, _LOOKS_PER_SWEEP)

    def close(self) -> None:
        """Close them all."""
        while self._queue:
            self._queue.popleft()[2].close()

    def _look(self, now: float, count: int) -> None:
        queue = self._queue
        rested = now - _REST_SECONDS
        for _ in range(min(count, len(queue))):
            if queue[0][0] > rested:
                return
            _, until, sock = queue.popleft()
            if _ended(sock) or until <= now:
                sock.close()
            else:
                queue.append((now, until, sock))


def _ended(sock: Socket) -> bool:
    """Throw away what has come, and return whether the peer has ended or gone."""
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
