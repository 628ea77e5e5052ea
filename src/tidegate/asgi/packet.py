"""What is sent to many: encoded once for all of them, in the form that each needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.engine.outbox import RoomFrames
from tidegate.wire.frames import BINARY, TEXT, encode

if TYPE_CHECKING:
    from tidegate.asgi.types import Message

__all__ = ["Packet"]


class Packet:
    """One message, for any number of members. It is shared, so nobody changes it.

    Args:
        data: a text, or bytes for a binary message.
    """

    __slots__ = ("_frame", "data", "size")

    def __init__(self, data: str | bytes) -> None:
        self.data = data
        self.size = len(data)
        self._frame: RoomFrames | None = None

    @property
    def event(self) -> Message:
        """The ASGI event that sends it: a new one, because a server may write in it."""
        data = self.data
        if isinstance(data, str):
            return {"type": "websocket.send", "text": data}
        return {"type": "websocket.send", "bytes": data}

    @property
    def frame(self) -> RoomFrames:
        """The frame that connections of our engine get: the same object for all of them."""
        frame = self._frame
        if frame is None:
            data = self.data
            if isinstance(data, str):
                frame = RoomFrames.of((encode(TEXT, data.encode()),))
            else:
                frame = RoomFrames.of((encode(BINARY, data),))
            self._frame = frame
        return frame
