"""Publications as the difference to the one before: `room_delta`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Raw
from msgspec.msgpack import encode as pack

from tidegate.engine.chain import DeltaFrame
from tidegate.node.native.answers import frame_of
from tidegate.wire import deltas
from tidegate.wire.messages import RoomDelta
from tidegate.wire.packed import MSGPACK_V1, pack_data

if TYPE_CHECKING:
    from tidegate.core.messaging.publication import Publication
    from tidegate.node.deltas import Step

__all__ = ["FOSSIL", "delta_frame"]

FOSSIL: Final = "fossil"
"""The format of deltas, as clients ask for it."""


def delta_frame(step: Step, subprotocol: str | None) -> DeltaFrame:
    """Encode `room_delta`. One that has no base makes the data from nothing.

    It has none either where a delta would be no smaller.
    """
    packed = subprotocol == MSGPACK_V1
    said = step.publication
    new = _data(said, packed)
    saved, delta = 0, b""
    if step.base is not None:
        delta = deltas.create(_data(step.base, packed), new, text=not packed)
        saved = max(0, len(new) - len(delta))
    if not saved:
        delta = deltas.create(b"", new)
    base = step.number - 1 if saved else UNSET
    offset = said.offset or UNSET
    time = UNSET if said.timestamp is None else said.timestamp
    who = said.sender, said.connection
    text = "" if packed else delta.decode()
    message = RoomDelta(said.room, text, step.number, *who, base, offset, time)
    raw = Raw(pack(delta)) if packed else None
    return DeltaFrame(frame_of(message, subprotocol, raw), saved)


def _data(publication: Publication, packed: bool) -> bytes:
    """The application data of a publication, as members get it in this encoding."""
    if not packed:
        return bytes(publication.data)
    return pack_data(publication.data, publication.packed)
