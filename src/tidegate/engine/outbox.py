"""The bytes that a slow connection has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
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

    __slots__ = ("_begun", "_chunks", "_head_sent", "_overflow", "_urgent", "max_bytes", "size")

    def __init__(self, max_bytes: int, overflow: Callable[[], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._head_sent = 0
        # The head was offered to the socket, so nothing may be put before it: a part of it is
        # out, or is in a TLS record that waits to be.
        self._begun = False
        self._urgent: dict[int, bytes] = {}
        self._overflow: Callable[[], None] | None = overflow
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes that wait."""

    def send(self, data: bytes, /) -> int:
        """Keep ``data`` and return its length."""
        size = len(data)
        if self.size + size > self.max_bytes:
            overflow, self._overflow = self._overflow, None
            if overflow is not None:
                overflow()
            return size
        self._chunks.append(data)
        self.size += size
        return size

    def begin(self, data: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``data``, the first chunk of this outbox."""
        self._chunks.append(data)
        self._head_sent = sent
        self._begun = True
        self.size = len(data) - sent

    def push(self, data: bytes) -> None:
        """Keep ``data`` whatever the bound: for the close frame, the last one."""
        self._chunks.append(data)
        self.size += len(data)

    def urge(self, frame: bytes) -> None:
        """Keep a ping or pong and send it before all that has not begun.

        Only the latest of each kind is kept (RFC 6455 5.5.3 asks for no more), so that a full
        outbox still answers pings and a flood of them takes no memory.
        """
        self._urgent[frame[0]] = frame

    def keep_begun_frame(self) -> None:
        """Drop all that waits, except the rest of a chunk that the peer has the beginning of."""
        chunks = self._chunks
        begun = chunks[0] if chunks and self._begun else None
        chunks.clear()
        self._urgent.clear()
        self.size = 0
        if begun is not None:
            chunks.append(begun)
            self.size = len(begun) - self._head_sent

    def flush(self, sink: Sink) -> bool:
        """Send what ``sink`` takes; return True when nothing is left.

        Raises:
            OSError: the socket is gone. ``BlockingIOError`` is handled here.
        """
        chunks = self._chunks
        while True:
            if self._urgent and not self._begun:
                for frame in self._urgent.values():
                    chunks.appendleft(frame)
                    self.size += len(frame)
                self._urgent.clear()
            if not chunks:
                return True
            data = self._joined()
            try:
                sent = sink.send(data)
            except BlockingIOError:
                self._begun = True
                return False
            self._drop(sent)
            if sent < len(data):
                return False

    def _joined(self) -> bytes:
        """Return what to send: the head, joined with small followers into one system call."""
        head = self._chunks[0]
        start = self._head_sent
        if start or len(head) > _JOIN_BYTES:
            head = head[start : start + _JOIN_BYTES]
        total = len(head)
        if total >= _JOIN_BYTES or len(self._chunks) == 1:
            return head
        parts = [head]
        for chunk in islice(self._chunks, 1, None):
            total += len(chunk)
            if total > _JOIN_BYTES:
                break
            parts.append(chunk)
        return b"".join(parts)

    def _drop(self, sent: int) -> None:
        self.size -= sent
        sent += self._head_sent
        chunks = self._chunks
        while chunks and sent >= len(chunks[0]):
            sent -= len(chunks[0])
            chunks.popleft()
        self._head_sent = sent
        self._begun = sent > 0


class _Discard:
    """Takes everything and keeps nothing: the sink of a connection that must not send."""

    __slots__ = ()

    def send(self, data: bytes, /) -> int:
        return len(data)


DISCARD = _Discard()
