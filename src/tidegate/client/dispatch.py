"""What comes over a connection, to the requests, the rooms and the application that it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from tidegate.client.clock import Clock
from tidegate.client.codec import Codec
from tidegate.client.connector import Connector, Owner
from tidegate.client.errors import ClientClosed, ClientError
from tidegate.client.messages import Broadcast, Direct, RoomAdded, Shutdown, System, read
from tidegate.client.requests import (
    TIMEOUT,
    Abort,
    Done,
    Message,
    QueuePolicy,
    Requests,
    error_of,
)
from tidegate.client.room import Room
from tidegate.client.states import State

__all__ = ["Dispatch"]


class Dispatch:
    """Has the rooms and the requests. It is the owner of the connector, and the host of rooms."""

    def __init__(
        self,
        build: Callable[[Owner], Connector],
        codec: Codec,
        clock: Clock,
        *,
        queue_size: int,
        queue_policy: QueuePolicy,
        room_buffer: int,
        tell: Callable[[object], None],
        ended: Callable[[ClientError | None], None],
    ) -> None:
        """Nothing is connected.

        Args:
            build: makes the connector.
            codec: how messages are written.
            clock: time and chance.
            queue_size: how many messages may wait to be sent.
            queue_policy: what happens when more wait.
            room_buffer: how many messages of a room wait for its loop.
            tell: told of each event that is not of a room.
            ended: told when the client is closed; with an error, unless the application did that.
        """
        self.connector = build(self)
        self.clock = clock
        self.tell = tell
        self._codec = codec
        self._ended = ended
        self._requests = Requests(clock, queue_size, queue_policy, self.connector.send)
        self._rooms: dict[str, Room] = {}
        # Rooms that were left: a client that joins one after the other does not keep all of them.
        self._left: WeakValueDictionary[str, Room] = WeakValueDictionary()
        self._room_buffer = room_buffer
        self._why = ClientClosed()

    def room(self, name: str) -> Room:
        """The room of this name."""
        room = self._rooms.get(name) or self._left.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self, self._room_buffer)
        return room

    # For rooms and requests.

    @property
    def connection(self) -> int | None:
        """The number of the connection that is ready; None while there is none."""
        return self.connector.connection

    def check(self) -> None:
        """Raise `ClientClosed` if the client is closed."""
        if self.connector.state is State.CLOSED:
            raise ClientClosed(self._why.loss)

    def hold(self, room: str) -> None:
        """Keep a room that is joined."""
        if (found := self._left.pop(room, None)) is not None:
            self._rooms[room] = found

    def release(self, room: str) -> None:
        """Forget a room that was left, when nobody else has it any more."""
        if (found := self._rooms.pop(room, None)) is not None:
            self._left[room] = found

    def call(
        self,
        message: Message,
        done: Done,
        *,
        timeout: float = TIMEOUT,
        ack: bool = True,
        urgent: bool = False,
    ) -> Abort:
        """Send a request, as in `Requests.add`."""

        def encode(id_: int | None) -> str | bytes:
            self.check()
            data = self._codec.encode(dict(message) if id_ is None else {**message, "id": id_})
            settings = self.connector.settings
            most = settings.max_message_size if settings is not None else None
            # The server's error `too_big` has no id.
            if most is not None and len(data if isinstance(data, bytes) else data.encode()) > most:
                raise ClientError("too_big", f"A message has at most {most} bytes")
            return data

        return self._requests.add(encode, done, timeout=timeout, ack=ack, urgent=urgent)

    # For the connector.

    def receive(self, message: Message) -> None:
        """A message has come on a connection that is ready."""
        asked = self._requests.answer(message)
        match message["type"]:
            case "error":
                if not asked:
                    self.tell(error_of(message))
            case "direct_message":
                self._direct(message)
            case "broadcast":
                self.tell(read(Broadcast, message))
            case "system":
                system = read(System, message)
                self.connector.apply(system.settings)
                self.tell(system)
            case "server_shutdown":
                shutdown = read(Shutdown, message)
                self.connector.move_on(shutdown)
                self.tell(shutdown)
            case "token_expiring":
                self.connector.refresh()
            case _:
                self._for_room(message)

    def connected(self, rooms: Sequence[str] | None) -> None:
        """A connection is ready; it was resumed if there are rooms, which it is in."""
        for name in rooms or ():
            self.room(name)
        for name, room in tuple(self._rooms.items()):
            room.connected(rooms is not None and name in rooms)
        self._requests.flush()

    def writable(self) -> None:
        """More can be sent now."""
        self._requests.flush()

    def lost(self) -> None:
        """There is no connection any more."""
        self._requests.lost()
        for room in tuple(self._rooms.values()):
            room.lost()

    def stopped(self, why: ClientClosed) -> None:
        """There will be none, unless it is started again."""
        self._why = why
        error = why if why.loss is not None else None
        self._requests.close(why)
        for room in tuple(self._rooms.values()):
            room.closed(why, error)
        self._ended(error)

    def _direct(self, message: Message) -> None:
        direct = read(Direct, message)
        if direct.seq is not None:
            if direct.seq <= self.connector.seq:
                return  # it came before the connection was lost
            self.connector.seq = direct.seq
        self.tell(direct)

    def _for_room(self, message: Message) -> None:
        name: Any = message.get("room")
        room = self._rooms.get(name) if isinstance(name, str) else None
        if room is None:
            if message["type"] != "joined":
                return
            room = self.room(str(name))
            self.hold(room.name)
            self.tell(RoomAdded(room.name))
        room.receive(message)
