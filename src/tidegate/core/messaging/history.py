"""The last messages of rooms, kept for a while: what a client that was away gets when it is back.

Each room with a history is a *stream*. Its messages have offsets from 1 on, without holes, so a
client that has message 17 of an *epoch* and asks for what came after it either gets 18, 19, and so
on to the last one, or is told that this cannot be. An epoch is the life of a stream: when a stream
is lost, for want of memory say, offsets begin anew and so does the epoch. (The scheme is that of
Kafka's leader epochs and of Centrifugo's streams.)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import RoomsSettings

__all__ = ["Extent", "History", "Page", "Position"]

OVERHEAD: Final = 512
"""What a message takes in memory beside its data, in bytes."""
_STREAM_OVERHEAD: Final = 512


class Position(NamedTuple):
    """The position of a message in its room: the offset, in the epoch of its count."""

    epoch: str
    offset: int


class Page(NamedTuple):
    """Some messages of a room, the oldest first."""

    publications: list[Publication]
    position: Position
    """The room's position now: that of its last message, offset 0 before the first."""
    recovered: bool
    """Whether nothing is missing between the position that was asked for and the first message."""


class Extent(NamedTuple):
    """How much is kept of a room: its position, and messages and bytes, with what has expired."""

    position: Position
    messages: int
    bytes: int


@dataclass(slots=True, eq=False)
class _Kept:
    publication: Publication
    size: int
    ends: float


class _Stream:
    __slots__ = ("epoch", "messages", "size", "top")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.top = 0
        """The offset of the last message."""
        self.messages: deque[_Kept] = deque()
        self.size = _STREAM_OVERHEAD

    def drop_first(self) -> int:
        """Drop the oldest message; return its size."""
        size = self.messages.popleft().size
        self.size -= size
        return size


class History:
    """The streams of all rooms, within a number of bytes and of rooms.

    Beyond these, the streams that were published to longest ago are lost, as a whole: a stream
    that has lost messages in its middle would lie. All times are in seconds of one clock.

    Args:
        settings: how many bytes of messages, their overhead included, and how many rooms.
        name: makes epochs unique: no other process, before or after, has the same.
    """

    def __init__(self, settings: RoomsSettings, name: str) -> None:
        self._max_bytes = settings.history_bytes
        self._max_rooms = settings.history_rooms
        self._name = name
        self._streams: OrderedDict[str, _Stream] = OrderedDict()  # published to longest ago first
        self.size = 0
        """Bytes that are kept."""
        self.lost = 0
        """Streams that were lost for want of memory. Each begins a new generation of epochs."""

    def __len__(self) -> int:
        """How many rooms have a history."""
        return len(self._streams)

    def apply(self, settings: RoomsSettings) -> None:
        """Take over other bounds."""
        self._max_bytes = settings.history_bytes
        self._max_rooms = settings.history_rooms
        self._make_room()

    def next(self, room: str) -> Position:
        """Return the position that the next message to a room gets, which `add` then keeps."""
        stream = self._streams.get(room)
        return (
            Position(self._epoch, 1) if stream is None else Position(stream.epoch, stream.top + 1)
        )

    def add(self, publication: Publication, size: int, ttl: float, now: float) -> None:
        """Keep a publication, which has the position that `next` returned.

        Args:
            publication: nobody changes it from now on.
            size: how many messages this room keeps.
            ttl: seconds for which this one is kept.
            now: the time.
        """
        room = publication.room
        stream = self._streams.get(room)
        if stream is None:
            stream = self._streams[room] = _Stream(publication.epoch)
            self.size += stream.size
        else:
            self._streams.move_to_end(room)
        stream.top = publication.offset
        taken = OVERHEAD + len(publication.data) + len(publication.packed or b"")
        stream.messages.append(_Kept(publication, taken, now + ttl))
        stream.size += taken
        self.size += taken
        while len(stream.messages) > size:
            self.size -= stream.drop_first()
        self._expire(stream, now)
        self._make_room()

    def position(self, room: str) -> Position:
        """Return a room's position: that of its last message, or where its first would begin."""
        stream = self._streams.get(room)
        return Position(self._epoch, 0) if stream is None else Position(stream.epoch, stream.top)

    def extent(self, room: str) -> Extent | None:
        """Return how much is kept of a room; None where there is nothing."""
        stream = self._streams.get(room)
        if stream is None:
            return None
        return Extent(Position(stream.epoch, stream.top), len(stream.messages), stream.size)

    def since(self, room: str, position: Position, limit: int, now: float) -> Page:
        """Return the messages after a position, the first `limit` of them.

        `recovered` is False, and there are none, when the next one is gone, or when the position
        is of another epoch or of the future.
        """
        here = self.position(room)
        missed = here.offset - position.offset
        if position.epoch != here.epoch or missed < 0:
            return Page([], here, recovered=False)
        kept = self._kept(room, now)
        if missed > len(kept):
            return Page([], here, recovered=False)
        first = len(kept) - missed
        some = islice(kept, first, first + limit)
        return Page([one.publication for one in some], here, recovered=True)

    def last(self, room: str, limit: int, now: float) -> Page:
        """Return the last messages, at most `limit`."""
        kept = self._kept(room, now)
        some = islice(kept, max(0, len(kept) - limit), None)
        return Page([one.publication for one in some], self.position(room), recovered=False)

    @property
    def _epoch(self) -> str:
        """The epoch of streams that begin now. A room's stream that was lost was of another."""
        return f"{self._name}-{self.lost:x}"

    def _kept(self, room: str, now: float) -> deque[_Kept]:
        stream = self._streams.get(room)
        if stream is None:
            return deque()
        self._expire(stream, now)
        return stream.messages

    def _expire(self, stream: _Stream, now: float) -> None:
        while stream.messages and stream.messages[0].ends <= now:
            self.size -= stream.drop_first()

    def _make_room(self) -> None:
        while len(self._streams) > self._max_rooms or (
            self.size > self._max_bytes and len(self._streams) > 1
        ):
            _, stream = self._streams.popitem(last=False)
            self.size -= stream.size
            self.lost += 1
        if self.size > self._max_bytes and self._streams:
            only = next(iter(self._streams.values()))
            while self.size > self._max_bytes and len(only.messages) > 1:
                self.size -= only.drop_first()
