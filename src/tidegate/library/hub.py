"""Rooms, users and pings of one `Server`, over the one path of messages of its node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import Fault
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.engine.states import Admission
from tidegate.errors import Refused, UsageError
from tidegate.gate.refused import not_joined
from tidegate.library.arguments import check_seconds, check_type
from tidegate.library.connection import Connection, Membership, Room, engine_of
from tidegate.library.joining import Joined
from tidegate.library.sent import Sent
from tidegate.library.users import User
from tidegate.node.values import encode_json
from tidegate.node.warner import Warner
from tidegate.wire.frames import BINARY, TEXT, encode

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection as Engine
    from tidegate.engine.sending import Message
    from tidegate.node.services import Services

__all__ = ["Hub"]

# The name under which broadcasts keep their order. That a room may be called so does no harm.
_ALL: Final = "\0all"


class Hub:
    """What `Server` and `Connection` do with rooms and users.

    Args:
        services: the parts of the node.
        face: returns the library's object of a connection.
        connections: returns all connections of the node.
    """

    def __init__(
        self,
        services: Services,
        face: Callable[[Engine], Connection],
        connections: Callable[[], Iterable[Engine]],
    ) -> None:
        self._rooms = services.rooms
        self._users = services.users
        self._delivery = services.delivery
        self._stats = services.stats
        self._face = face
        self._connections = connections
        self._thread: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pings: dict[Engine, _Answer] = {}
        self._warn = Warner()

    # Threads.

    def started(self) -> None:
        """The server runs in this thread, in the running loop."""
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()

    def check_thread(self) -> None:
        """Raise UsageError in another thread than the loop's, while there is a loop."""
        if self._loop is None or threading.get_ident() == self._thread or self._loop.is_closed():
            return
        raise UsageError("this is another thread than the server's: use server.call_soon there")

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the loop's thread, from any thread.

        Raises:
            UsageError: the server does not run.
        """
        if self._loop is None:
            raise UsageError("the server does not run yet")
        try:
            self._loop.call_soon_threadsafe(partial(function, *arguments))
        except RuntimeError:  # the loop is closed
            raise UsageError("the server does not run any more") from None

    # Rooms.

    def join(self, connection: Engine, room: str) -> Membership:
        """Put a connection into a room.

        Raises:
            Refused: the room is full, or the connection is in as many as it may be.
            UsageError: called in another thread.
        """
        self.check_thread()
        check_type("room", room, str)
        joined = Joined()
        new = room not in connection.rooms
        self._delivery.join(connection, room, joined)
        if joined.fault is not None:
            raise not_joined(joined.fault)
        if not joined.known:
            joined.then(partial(self._late, connection, room, joined))
        return Membership(self._face(connection), Room(self, room), joined, leaves=new)

    def _late(self, connection: Engine, room: str, joined: Joined) -> None:
        """The others have answered whether a connection may be in a room."""
        if joined.fault is not None and not joined.awaited:
            why = joined.fault.message
            self._warn(f"connection {connection.id} is not in the room {room!r}: {why}")

    def place(self, connection: Engine, rooms: Iterable[str]) -> None:
        """Put a connection into the rooms of its token. What a limit refuses is logged."""
        for room in rooms:
            try:
                self.join(connection, room)
            except Refused as refusal:
                self._warn(f"connection {connection.id} is not in a room of its token: {refusal}")

    def leave(self, connection: Engine, room: str) -> bool:
        """Take a connection out of a room; False when it is not in it."""
        self.check_thread()
        return self._delivery.leave(connection, room) is None

    def publish(self, room: str, message: Message, exclude: Connection | None) -> Sent:
        """Send a message to a room."""
        return self._publish(room, *_data(message), exclude)

    def publish_json(self, room: str, value: Any, exclude: Connection | None) -> Sent:
        """Send JSON to a room."""
        return self._publish(room, encode_json(value), False, exclude)

    def _publish(self, room: str, data: bytes, binary: bool, exclude: Connection | None) -> Sent:
        self.check_thread()
        faults: list[Fault | None] = []
        reached = self._rooms.count(room)
        if exclude is None:
            publication = Publication(room, data, binary=binary)
            self._delivery.publish(publication, faults.append)
        else:
            origin = engine_of(exclude)
            publication = Publication(room, data, origin.user, origin.id, False, binary)
            self._delivery.publish(publication, faults.append, origin)
            reached -= room in origin.rooms
        fault = faults[0] if faults else None
        self._count(fault)
        return Sent(reached, fault, partial(self._sent, room))

    def broadcast(self, message: Message, exclude: Connection | None) -> Sent:
        """Send a message to everybody who is admitted."""
        return self._broadcast(*_data(message), exclude)

    def broadcast_json(self, value: Any, exclude: Connection | None) -> Sent:
        """Send JSON to everybody who is admitted."""
        return self._broadcast(encode_json(value), False, exclude)

    def _broadcast(self, data: bytes, binary: bool, exclude: Connection | None) -> Sent:
        self.check_thread()
        everybody = [
            connection
            for connection in self._connections()
            if connection.admission is Admission.ADMITTED and connection.open
        ]
        left_out = None if exclude is None else engine_of(exclude)
        publication = Publication(_ALL, data, binary=binary)
        fault = self._delivery.broadcast(publication, everybody, left_out)
        self._count(fault)
        return Sent(len(everybody) - (left_out in everybody), fault, partial(self._sent, _ALL))

    def _count(self, fault: Fault | None) -> None:
        if fault is None:
            self._stats.published["library"] += 1

    async def _sent(self, room: str) -> None:
        """Wait until all that was sent to a room so far is with its members."""
        out: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not out.done():
                out.set_result(None)

        self._delivery.when_sent(room, done)
        await out

    def members(self, room: str) -> list[Connection]:
        """The members of a room."""
        self.check_thread()
        return [self._face(member) for member in self._rooms.members(room)]

    def count(self, room: str) -> int:
        """How many members a room has."""
        return self._rooms.count(room)

    @property
    def rooms(self) -> list[str]:
        """The rooms that have members."""
        return list(self._rooms)

    def room(self, name: str) -> Room:
        """Return a room by its name."""
        check_type("name", name, str)
        return Room(self, name)

    # Users.

    def tell(self, user: str, message: Message) -> Sent:
        """Send a message to every connection of a user."""
        return self._tell(user, *_data(message))

    def tell_json(self, user: str, value: Any) -> Sent:
        """Send JSON to every connection of a user."""
        return self._tell(user, encode_json(value), False)

    def _tell(self, user: str, data: bytes, binary: bool) -> Sent:
        self.check_thread()
        reached: list[int] = []
        self._delivery.send(Direct(user, data, binary=binary), reached.append)
        self._count(None)
        return Sent(reached[0] if reached else 0)

    def of_user(self, user: str) -> list[Connection]:
        """The connections of a user."""
        self.check_thread()
        return [self._face(connection) for connection in self._users.of_user(user)]

    @property
    def users(self) -> list[str]:
        """The users that are connected."""
        return list(self._users)

    def user(self, name: str) -> User:
        """Return a user by name."""
        check_type("name", name, str)
        return User(self, name)

    # Pings.

    async def ping(self, connection: Engine, timeout: float) -> float | None:
        """Return how many seconds a ping and its answer take; None when it does not come."""
        check_seconds("timeout", timeout)
        self.check_thread()
        if not connection.open:
            return None
        answer = self._pings.get(connection)
        if answer is None:
            answer = self._pings[connection] = _Answer()
            connection.ping_now()
        answer.waiting += 1
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(answer.future)
        except TimeoutError:
            return None
        finally:
            answer.waiting -= 1
            if not answer.waiting and self._pings.get(connection) is answer:
                del self._pings[connection]

    def measured(self, connection: Engine, seconds: float | None) -> None:
        """A connection has answered a ping, or has ended."""
        if self._pings and (answer := self._pings.pop(connection, None)) is not None:
            answer.future.set_result(seconds)

    # What the application encodes.

    @staticmethod
    def frame(publication: Publication) -> bytes:
        """Encode a message to a room."""
        return encode(BINARY if publication.binary else TEXT, publication.data)

    @staticmethod
    def direct(connection: Engine, message: Direct) -> None:
        """Send a message to one connection of its user."""
        data: bytes = message.data
        connection.send(data if message.binary else str(data, "utf-8"))


class _Answer:
    """The answer to a ping, and how many wait for it."""

    __slots__ = ("future", "waiting")

    def __init__(self) -> None:
        self.future: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self.waiting = 0


def _data(message: Message) -> tuple[bytes, bool]:
    """A message as bytes, and whether it is binary."""
    if isinstance(message, str):
        return message.encode(), False
    check_type("message", message, str, bytes, bytearray, memoryview)
    return bytes(message), True
