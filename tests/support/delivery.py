"""A node of which only the delivery is real."""

from __future__ import annotations

from typing import Any

from tests.support.aio import run
from tests.support.members import FakeConnection, make_fanout
from tidegate.backplane.memory import MemoryBroker
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.engine.chain import DeltaFrame
from tidegate.node.delivery import Delivery
from tidegate.node.deltas import Step
from tidegate.node.presence import RoomPresence
from tidegate.node.users import Users

__all__ = ["FakeNode"]


class FakeNode:
    """A delivery and what it works with. Frames are `subprotocol:data;`."""

    def __init__(
        self,
        broker: Any = None,
        per_room: int = 9,
        per_connection: int = 9,
        leases: Any = None,
    ) -> None:
        self.rooms: Rooms[Any] = Rooms(per_room, per_connection)
        self.users: Users[Any] = Users()
        self.fanout: Any = make_fanout()
        self.encoded: list[tuple[Any, str | None]] = []
        self.told: list[tuple[Any, Any]] = []
        self.answers: list[Any] = []
        self.presence: Any = RoomPresence(Rules(), self.fanout, lambda: 0.0)
        self.delivery: Any = Delivery(
            self.rooms, self.users, self.fanout, broker or MemoryBroker(), self.presence, leases
        )
        self.moved: list[tuple[str, str, bool]] = []
        self.presence.start(lambda *_: b"", self.move)
        run(self.delivery.start(self.encode, self.encode_delta, self.tell))

    def move(self, connection: Any, room: str, comes: bool) -> None:
        self.moved.append((connection.id, room, comes))

    def encode(self, publication: Publication, subprotocol: str | None) -> bytes:
        self.encoded.append((publication.data, subprotocol))
        return b"%s:%s;" % (str(subprotocol).encode(), publication.data)

    def encode_delta(self, step: Step, subprotocol: str | None) -> DeltaFrame:
        """Write the number and, where there is a base, what it is made from, before the data."""
        base = b"" if step.base is None else b"%s>" % step.base.data
        frame = b"%s:%d:%s%s;" % (
            str(subprotocol).encode(),
            step.number,
            base,
            step.publication.data,
        )
        return DeltaFrame(frame, len(base))

    def tell(self, connection: Any, message: Direct) -> None:
        self.told.append((connection.id, message.data))

    def connect(self, name: str, **options: Any) -> Any:
        connection: Any = FakeConnection(name=name, **options)
        self.users.add(connection)
        return connection

    def join(self, connection: Any, room: str = "room") -> None:
        self.delivery.join(connection, room, self.answers.append)

    def publish(self, data: bytes, origin: Any = None, echo: bool = True) -> None:
        said = Publication("room", data, connection=origin and origin.id, echo=echo)
        self.delivery.publish(said, self.answers.append, origin)
