"""The bytes that a slow connection has not taken yet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidegate.engine.buffers import Buffers

__all__ = ["DISCARD", "LOOKS", "Outbox", "RoomFrames", "Sink"]

LOOKS = 4
"""How many looks the greatest age has: it is exact to a quarter."""

_JOIN_BYTES = 65536
_SMALL_BYTES = 512


class Restarts(Protocol):
    """What is told that a member did not get what came before."""

    def restart(self, member: Hashable, /) -> None:
        """Send it what comes next as a whole."""


class RoomFrames(bytes):
    """Frames of a room, joined: what may be dropped for a slow member.

    All members get the same object, so that what waits for thousands of them is kept once.
    """

    messages: int
    room: str
    chain: Restarts | None = None
    """Of which they are; what comes next must not build on them if they are dropped."""
    _buffers: Buffers | None = None  # that count it, once some outbox keeps it

    def keep_in(self, buffers: Buffers) -> None:
        """Count it as long as it exists, which is as long as some outbox keeps it."""
        if self._buffers is None:
            self._buffers = buffers
            buffers.count(len(self))

    def __del__(self) -> None:
        if self._buffers is not None:
            self._buffers.count(-len(self))

    @classmethod
    def of(cls, frames: Iterable[bytes], room: str = "") -> RoomFrames:
        """Make one of several frames of a room."""
        parts = list(frames)
        joined = cls(b"".join(parts))
        joined.messages = len(parts)
        joined.room = room
        return joined


class Sink(Protocol):
    """Where frames go: a socket, an :class:`Outbox`, or :data:`DISCARD`."""

    def send(self, data: bytes, /) -> int:
        """Take ``data`` and return how many of its bytes were taken."""


class Outbox:
    """Frames waiting for a socket that takes no more, in order and bounded.

    It stands in for the socket while bytes wait: it has the same ``send``, which always takes
    everything. When a frame would make more than ``max_bytes`` wait, it is up to ``policy``:

    - ``disconnect``: ``overflow`` is called once and nothing more is kept.
    - ``drop_oldest``: the oldest frames of rooms that wait are dropped for it.
    - ``drop_newest``: it is dropped if it is of a room.

    What is dropped is counted in ``dropped``, by policy, given to ``missed``, and its room is in
    ``gaps``. What is not
    of a room is never dropped; ``overflow`` is called when it does not fit in. The frame that the
    outbox began with may be larger than ``max_bytes``, so that a peer is not too slow for taking
    one large message in parts.

    What it keeps is counted in ``buffers``; call ``discard`` before it is thrown away.
    """

    __slots__ = (
        "_buffers",
        "_chunks",
        "_dropped",
        "_fixed",
        "_head",
        "_head_sent",
        "_idle_looks",
        "_missed",
        "_old",
        "_overflow",
        "_policy",
        "_taken",
        "_taken_at_looks",
        "_urgent",
        "gaps",
        "max_bytes",
        "own",
        "size",
    )

    def __init__(
        self,
        max_bytes: int,
        overflow: Callable[[], None],
        policy: str,
        dropped: Counter[str],
        buffers: Buffers,
        missed: Callable[[RoomFrames], None],
    ) -> None:
        # What the socket was offered last and has not taken whole. Nothing may be put before its
        # rest: the peer has the beginning of it, or it is in a TLS record that waits to be sent.
        self._head = b""
        self._head_sent = 0
        self._chunks: deque[bytes] = deque()
        self._fixed = 0  # so many of the first chunks are known to be of no room
        self._urgent: dict[int, bytes] = {}
        self._overflow: Callable[[], None] | None = overflow
        self._policy = policy
        self._dropped = dropped
        self._buffers = buffers
        self._missed = missed
        # Chunks are numbered as they come. At each look the count is noted, so that the count of
        # some looks ago says which chunks are older than that, and no chunk needs a time.
        self._taken = 0
        self._taken_at_looks = (0,) * LOOKS
        self._old = 0  # chunks below this number are too old
        self._idle_looks = 0  # looks since the socket last took something
        self.gaps: set[str] | None = None
        """The rooms of which something was dropped."""
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes that wait."""
        self.own = 0
        """How many of them no other outbox keeps as well: all but the frames of rooms."""

    def send(self, data: bytes, /) -> int:
        """Keep ``data`` and return its length."""
        size = len(data)
        if self._overflow is None:
            return size
        full = self.size + size > self.max_bytes
        if full and self._policy == "drop_oldest":
            while full and self._find_room_frames():
                self._drop_found()
                full = self.size + size > self.max_bytes
        if type(data) is RoomFrames:
            late = self._policy == "drop_newest" and self._late()
            if late or (full and self._policy != "disconnect"):
                self._drop(data)
                return size
        if full:
            overflow, self._overflow = self._overflow, None
            overflow()
            return size
        self._keep(data)
        return size

    def begin(self, data: bytes, sent: int) -> None:
        """Keep what the socket did not take of ``data``, the first chunk of this outbox."""
        self._head = data
        self._head_sent = sent
        self.size = len(data) - sent
        if type(data) is RoomFrames:
            data.keep_in(self._buffers)
        else:
            self._count(self.size)

    def push(self, data: bytes) -> None:
        """Keep ``data`` whatever the bound: for the close frame, the last one."""
        self._keep(data)

    def urge(self, frame: bytes) -> None:
        """Keep a ping or pong and send it before all that was not offered yet.

        Only the latest of each kind is kept (RFC 6455 5.5.3 asks for no more), so that a full
        outbox still answers pings and a flood of them takes no memory.
        """
        self._urgent[frame[0]] = frame

    def keep_begun_frame(self) -> None:
        """Drop all that waits, except the rest of what the peer may have the beginning of."""
        self._chunks.clear()
        self._fixed = 0
        self._urgent.clear()
        self.size = len(self._head) - self._head_sent
        self._count((0 if type(self._head) is RoomFrames else self.size) - self.own)

    def discard(self) -> None:
        """Drop all that waits."""
        self._head = b""
        self._head_sent = 0
        self.keep_begun_frame()

    def look(self) -> bool:
        """Call :data:`LOOKS` times in the greatest age; True when the peer is to be closed.

        That is when something has waited for longer than that, or the socket has taken nothing
        for so long. With ``drop_oldest``, frames of rooms that are too old are dropped here; with
        ``drop_newest`` no new ones are kept until the old ones are gone.
        """
        self._old, *later = self._taken_at_looks
        self._taken_at_looks = (*later, self._taken)
        self._idle_looks += 1
        if self._policy == "drop_oldest":
            while self._find_room_frames() and self._number_of(self._fixed) < self._old:
                self._drop_found()
        return self._policy == "disconnect" and self._late()

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
            if sent:
                if type(self._head) is not RoomFrames:
                    self._count(-sent)
                self._idle_looks = 0
            self._head_sent += sent
            if self._head_sent == len(self._head):
                self._head = b""
                self._head_sent = 0
            if sent < len(part):
                return False
        return True

    def _keep(self, data: bytes) -> None:
        chunks = self._chunks
        self.size += len(data)
        if type(data) is RoomFrames:
            data.keep_in(self._buffers)
            chunks.append(data)
            self._taken += 1
            return
        self._count(len(data))
        # A chunk costs more than a few bytes are worth, and what waits is to be bounded.
        if chunks and type(chunks[-1]) is bytes and len(chunks[-1]) + len(data) <= _SMALL_BYTES:
            chunks[-1] += data
        else:
            chunks.append(data)
            self._taken += 1

    def _count(self, size: int) -> None:
        self.own += size
        self._buffers.count(size)

    def _next(self) -> bool:
        """Take up what comes next, small frames joined into one system call."""
        parts = list(self._urgent.values())
        self._urgent.clear()
        total = sum(map(len, parts))
        self.size += total
        copied = total
        chunks = self._chunks
        while chunks and (not parts or total + len(chunks[0]) <= _JOIN_BYTES):
            part = chunks.popleft()
            parts.append(part)
            total += len(part)
            if type(part) is RoomFrames:
                copied += len(part)
            if self._fixed:
                self._fixed -= 1
        if len(parts) == 1:
            self._head = parts[0]
            if type(self._head) is RoomFrames:
                copied = 0
        else:
            self._head = b"".join(parts)
        if copied:
            self._count(copied)
        return bool(parts)

    def _number_of(self, place: int) -> int:
        # Exact from the place where chunks were last dropped.
        return self._taken - len(self._chunks) + place

    def _late(self) -> bool:
        """Whether something has waited for too long."""
        if self._idle_looks > LOOKS:
            return True
        return bool(self._chunks) and self._number_of(0) < self._old

    def _find_room_frames(self) -> bool:
        """Move ``_fixed`` to the oldest frames of a room that wait; False when there are none."""
        chunks = self._chunks
        while self._fixed < len(chunks):
            if type(chunks[self._fixed]) is RoomFrames:
                return True
            self._fixed += 1
        return False

    def _drop_found(self) -> None:
        found = self._chunks[self._fixed]
        assert isinstance(found, RoomFrames)
        del self._chunks[self._fixed]
        self.size -= len(found)
        self._drop(found)

    def _drop(self, frames: RoomFrames) -> None:
        self._dropped[self._policy] += frames.messages
        if frames.room:
            if self.gaps is None:
                self.gaps = set()
            self.gaps.add(frames.room)
        self._missed(frames)


class _Discard:
    """Takes everything and keeps nothing: the sink of a connection that must not send."""

    __slots__ = ()

    def send(self, data: bytes, /) -> int:
        return len(data)


DISCARD = _Discard()
