"""What JetStream keeps of a room: messages with their offsets, some together.

A batch is MessagePack, `[epoch, offset of its first message, [envelope, ...]]`. One without
messages says only at which offset the room is: the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from tidegate.backplane.envelopes import open_publication
from tidegate.core.messaging.history import Position
from tidegate.core.messaging.publication import Publication

__all__ = ["Batch", "Head", "pack_batch"]

_MARK_EVERY: Final = 16
_MOST_MARKS: Final = 64


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """Messages of a room that were published together."""

    epoch: str
    first: int
    envelopes: list[bytes]

    @property
    def last(self) -> int:
        """The offset at which the room is with it."""
        return self.first + len(self.envelopes) - 1

    @classmethod
    def of(cls, data: bytes) -> Batch:
        """Decode a batch.

        Raises:
            msgspec.DecodeError: it is none.
        """
        return _decode(data)

    def publications(self, room: str) -> list[Publication]:
        """Decode its messages.

        Raises:
            msgspec.DecodeError: one is none.
        """
        return [
            open_publication(room, self.epoch, self.first + number, envelope)
            for number, envelope in enumerate(self.envelopes)
        ]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def pack_batch(epoch: str, first: int, envelopes: Sequence[bytes]) -> bytes:
    """Encode a batch. HOT."""
    return _encode((epoch, first, envelopes))


class Mark(NamedTuple):
    """Where in the stream an offset is."""

    offset: int
    sequence: int


class Head:
    """What a node knows of a room's last batch."""

    __slots__ = ("epoch", "marks", "offset", "sequence")

    def __init__(self, epoch: str, offset: int, sequence: int) -> None:
        self.epoch = epoch
        self.offset = offset
        """The offset at which the room is."""
        self.sequence = sequence
        """The batch's number in the stream, in which all rooms are."""
        self.marks: list[Mark] = [Mark(offset + 1, sequence + 1)]

    @property
    def position(self) -> Position:
        """The room's position."""
        return Position(self.epoch, self.offset)

    def copy(self) -> Head:
        """Return one that stays as this is now."""
        return Head(self.epoch, self.offset, self.sequence)

    def advance(self, offset: int, sequence: int) -> None:
        """The room has another last batch."""
        self.offset = offset
        self.sequence = sequence
        if offset >= self.marks[-1].offset + _MARK_EVERY:
            self.marks.append(Mark(offset + 1, sequence + 1))
            if len(self.marks) > _MOST_MARKS:
                del self.marks[0]

    def start(self, offset: int) -> int:
        """Return where in the stream to begin, to find all that came after an offset."""
        found = 1
        for mark in self.marks:
            if mark.offset > offset + 1:
                break
            found = mark.sequence
        return found
