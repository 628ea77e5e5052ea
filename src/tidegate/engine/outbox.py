"""The bytes that a slow connection has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["DISCARD", "Outbox", "Sink"]

_JOIN_BYTES = 65536


class Sink(Protocol):
    """Where frames go: a socket, an :class:`Outbox`, or :data:`DISCARD`."""

    def send(self, data: bytes, /) -> int:
        """Take ``data`` and return how many of its bytes were taken."""


class Outbox:
    """Frames waiting for a socket that takes no more, in order and bounded.

    It stands in for the socket while bytes wait: it has the same ``send``, which always takes
    everything. When a frame would make more than ``max_bytes`` wait, ``overflow`` is called once
    and nothing more is kept. The frame that the outbox began with may be larger than that, so that
    a peer is not too slow for taking one large message in parts.
    """

    __slots__ = ("_chunks", "_head", "_head_sent", "_overflow", "_urgent", "max_bytes", "size")

    def __init__(self, max_bytes: int, overflow: Callable[[], None]) -> None:
        # What the socket was offered last and has not taken whole. Nothing may be put before its
        # rest: the peer has the beginning of it, or it is in a TLS record that waits to be sent.
        self._head = b""
        self._head_sent = 0
        self._chunks: deque[bytes] = deque()
        self._urgent: dict[int, bytes] = {}
        self._overflow: Callable[[], None] | None = overflow
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes that wait."""

    def send(self, data: bytes, /) -> int:
        """Keep ``data`` and return its length."""
        size = len(data)
        if self._overflow is None:
            return size
        if self.size + size > self.max_bytes:
            overflow, self._overflow = self._overflow, None
            overflow()
            return size
        self._chunks.append(data)
        self.size += size
        return size

    def begin(self, data: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``data``, the first chunk of this outbox."""
        self._head = data
        self._head_sent = sent
        self.size = len(data) - sent

    def push(self, data: bytes) -> None:
        """Keep ``data`` whatever the bound: for the close frame, the last one."""
        self._chunks.append(data)
        self.size += len(data)

    def urge(self, frame: bytes) -> None:
        """Keep a ping or pong and send it before all that was not offered yet.

        Only the latest of each kind is kept (RFC 6455 5.5.3 asks for no more), so that a full
        outbox still answers pings and a flood of them takes no memory.
        """
        self._urgent[frame[0]] = frame

    def keep_begun_frame(self) -> None:
        """Drop all that waits, except the rest of what the peer may have the beginning of."""
        self._chunks.clear()
        self._urgent.clear()
        self.size = len(self._head) - self._head_sent

    def flush(self, sink: Sink) -> bool:
        """Send what ``sink`` takes; return True when nothing is left.

        Raises:
            OSError: the socket is gone. ``BlockingIOError`` is handled here.
        """
        while self._head or self._next():
            part = self._head[self._head_sent : self._head_sent + _JOIN_BYTES]
            try:
                sent = sink.send(part)
            except BlockingIOError:
                return False
            self.size -= sent
            self._head_sent += sent
            if self._head_sent == len(self._head):
                self._head = b""
                self._head_sent = 0
            if sent < len(part):
                return False
        return True

    def _next(self) -> bool:
        """Take up what comes next, small frames joined into one system call."""
        parts = list(self._urgent.values())
        self._urgent.clear()
        total = sum(map(len, parts))
        self.size += total
        chunks = self._chunks
        while chunks and (not parts or total + len(chunks[0]) <= _JOIN_BYTES):
            parts.append(chunks.popleft())
            total += len(parts[-1])
        self._head = parts[0] if len(parts) == 1 else b"".join(parts)
        return bool(parts)


class _Discard:
    """Takes everything and keeps nothing: the sink of a connection that must not send."""

    __slots__ = ()

    def send(self, data: bytes, /) -> int:
        return len(data)


DISCARD = _Discard()
