"""What a handler gets for a connection, and the rooms that it joins."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from tidegate.core.codes import NORMAL
from tidegate.engine.sending import Message
from tidegate.errors import ConnectionClosed, UsageError
from tidegate.gate.refused import not_joined
from tidegate.library.arguments import check_type
from tidegate.library.inbox import Inbox
from tidegate.library.joining import Joined
from tidegate.library.typed import Messages
from tidegate.node.values import encode_json

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection as Engine
    from tidegate.library.sent import Sent

__all__ = ["Connection", "Home", "Membership", "Room", "engine_of"]

T = TypeVar("T")


class Connection:
    """An open WebSocket connection.

    All methods belong to the loop's thread and return at once; none raises because the peer is
    gone. A connection is the same object in all its handlers.
    """

    __slots__ = ("__weakref__", "_engine", "_inbox", "context", "latency")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inbox: Inbox | None = None
        self.context: Any = None
        """Yours."""
        self.latency: float | None = None
        """Seconds that its last answer to a ping took, None before the first."""

    @property
    def id(self) -> str:
        """A name that is unique across nodes and restarts."""
        return self._engine.id

    @property
    def number(self) -> int:
        """Counts connections of this process from 1; never used twice."""
        return self._engine.number

    @property
    def address(self) -> str:
        """The client's IP address, as far as trusted proxies tell."""
        return self._engine.address

    @property
    def user(self) -> str | None:
        """The authenticated user, None for an anonymous connection."""
        return self._engine.user

    @property
    def tier(self) -> str | None:
        """The user's tier, None without one."""
        return self._engine.tier

    @property
    def path(self) -> str:
        """The path that it was opened at, still percent-encoded."""
        return self._engine.path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on, None without one."""
        return self._engine.subprotocol

    @property
    def open(self) -> bool:
        """True while messages can be sent. A client that closes makes it False at once."""
        return self._engine.open

    @property
    def closed(self) -> bool:
        """True once the socket is gone."""
        return self._engine.closed

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it is in, in the order in which it joined them."""
        return self._engine.rooms

    @property
    def buffered(self) -> int:
        """Bytes that wait because the peer does not read."""
        return self._engine.buffered

    def send(self, message: Message) -> None:
        """Send a text (`str`) or binary (`bytes`, `bytearray`, `memoryview`) message.

        What the peer does not take at once waits; a peer that lets more than `outbox.max_bytes`
        wait is closed. On a connection that is closing or closed this does nothing. In a message
        handler, a message of up to 125 bytes goes out when others that came at the same time were
        handled, before anything that is sent later.

        Raises:
            TypeError: it is of another type.
        """
        self._engine.send(message)

    def send_json(self, value: Any) -> None:
        """Send a text with JSON of mappings, dataclasses, Structs, pydantic models, and more.

        Raises:
            TypeError: no JSON can be made of it.
        """
        self._engine.send(encode_json(value).decode())

    def close(self, code: int = NORMAL.code, text: str = "") -> None:
        """Start the closing handshake; messages sent before still go out first.

        Args:
            code: 1000 to 1014 (not 1004 or 1006) or 3000 to 4999, RFC 6455 7.4; 1005 sends none.
            text: at most 123 bytes of UTF-8 are sent, the rest is cut off.

        Raises:
            UsageError: the code may not be sent.
            TypeError: the code is no `int`, or the text no `str`.
        """
        self._hub.check_thread()
        check_type("code", code, int)
        check_type("text", text, str)
        self._engine.close(code, text)

    async def receive(self) -> str | bytes:
        """Return the next message: a `str` for a text message, `bytes` for a binary one.

        For the coroutine of a route. `async for message in connection` does the same until the
        connection has ended. What is not taken waits: beyond 32 messages or 64 KiB, nothing more
        is read from this client.

        Raises:
            ConnectionClosed: the connection has ended, and every message of it was taken.
            UsageError: it is no connection of a route, or another task waits already.
        """
        if self._inbox is None:
            raise UsageError("messages of this connection go to on_message; receive in a route")
        return await self._inbox.receive()

    @overload
    def messages(self, kind: type[T]) -> Messages[T]: ...

    @overload
    def messages(self, kind: Any) -> Messages[Any]: ...

    def messages(self, kind: Any) -> Messages[Any]:
        """The messages as values of a type: `async for message in connection.messages(Chat)`.

        A dataclass, `msgspec.Struct`, pydantic model, or what these have as fields is read from
        JSON. A message that is no such value is answered by an error of type `error`, with a
        `code`, a `message` and, where it is known, the `field`.

        Raises:
            TypeError: no values of this type can be read.
        """
        return Messages(self, kind)

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def _serve(self, work: Coroutine[Any, Any, None], patience: float) -> None:
        """Let a coroutine serve it, which gets its messages."""
        self._inbox = Inbox(self._engine, patience)
        self._inbox.start(work)

    def join(self, room: str) -> Membership:
        """Put it into a room, until it leaves or ends; joining twice is fine and counts once.

        As an async context manager it leaves at the end of the block; a block for a room that it
        was in before does not:

            async with connection.join("lobby") as lobby:
                lobby.send("hello", exclude=connection)

        Where the limits of rooms hold over several nodes, the others are asked too: the block
        waits for that, and so does `await`. Without either, a refusal by them is logged.

        Raises:
            Refused: the room has `limits.per_room` members, or it is in
                `limits.rooms_per_connection` rooms.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.join(self._engine, room)

    def leave(self, room: str) -> bool:
        """Take it out of a room; False when it was not in it."""
        return self._hub.leave(self._engine, room)

    async def ping(self, timeout: float = 2.0) -> float | None:
        """Measure the way to the client and back.

        Args:
            timeout: seconds.

        Returns:
            Seconds; None when no answer comes in time, or it has ended.
        """
        return await self._hub.ping(self._engine, timeout)

    @property
    def _hub(self) -> Home:
        application: Any = self._engine.shared.application
        hub: Home = application.hub
        return hub

    async def wait_closed(self) -> None:
        """Wait until the connection has ended and its socket is gone; at once if it has.

        In a handler, too: a client that closes its connection is noticed while a handler of that
        connection is at work. `on_close` is called after the handlers are done.
        """
        if not self.closed:
            await asyncio.shield(self._engine.ended())

    def abort(self) -> None:
        """End the connection at once, without a closing handshake."""
        self._hub.check_thread()
        self._engine.abort()

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.address}>"

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]


class Room:
    """A room by its name. It holds nothing: make as many as you like, and keep none."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Home, name: str) -> None:
        self._hub = hub
        self.name = name

    def send(self, message: Message, *, exclude: Connection | None = None) -> Sent:
        """Send a text (`str`) or binary (bytes-like) message to all members.

        It is encoded once, and goes out at the end of this turn of the event loop, joined with
        others. Members that do not read are dealt with by `outbox.policy`; nobody waits for them.

        Args:
            exclude: a connection that does not get it, such as the one that it came from.

        Raises:
            TypeError: it is of another type.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.publish(self.name, message, exclude)

    def send_json(self, value: Any, *, exclude: Connection | None = None) -> Sent:
        """Send a text with JSON of mappings, dataclasses, Structs, pydantic models, and more.

        Raises:
            TypeError: no JSON can be made of it.
            UsageError: called in another thread; use `Server.call_soon` there.
        """
        return self._hub.publish_json(self.name, value, exclude)

    @property
    def members(self) -> list[Connection]:
        """The members, in the order in which they joined; a copy."""
        return self._hub.members(self.name)

    @property
    def users(self) -> list[str]:
        """The users of the members, each once, in the order in which they joined."""
        names = (member.user for member in self.members)
        return list(dict.fromkeys(name for name in names if name is not None))

    def __len__(self) -> int:
        """How many members it has."""
        return self._hub.count(self.name)

    def __bool__(self) -> bool:
        """Whether it has members."""
        return len(self) > 0

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.members)

    def __contains__(self, who: object) -> bool:
        """Whether a connection, or a user by name, is in it."""
        return who in self.users if isinstance(who, str) else who in self.members

    def __repr__(self) -> str:
        return f"<Room {self.name!r} members={len(self)}>"


class Membership:
    """A connection in a room, until the block ends or it leaves.

        async with connection.join("lobby") as lobby:
            lobby.send("hello")

    Without a block the connection stays in the room until it leaves or ends. Where the limits of
    rooms hold over several nodes, the answer of the others comes later: the block begins with it,
    and `lobby = await connection.join("lobby")` waits for it too.

    Raises:
        Refused: by the block, or when it is awaited: the room is full on all nodes together.
    """

    __slots__ = ("_connection", "_joined", "_leaves", "room")

    def __init__(self, connection: Connection, room: Room, joined: Joined, *, leaves: bool) -> None:
        self._connection = connection
        self._joined = joined
        self._leaves = leaves
        self.room = room
        """The room."""

    def __await__(self) -> Generator[Any, None, Room]:
        return self._wait().__await__()

    async def _wait(self) -> Room:
        await self._joined.wait(self._connection._engine.ended())
        if self._joined.fault is not None:
            raise not_joined(self._joined.fault)
        return self.room

    async def __aenter__(self) -> Room:
        return await self._wait()

    async def __aexit__(self, *exception: object) -> None:
        if self._leaves:
            self._connection.leave(self.room.name)


class Home(Protocol):
    """What has the rooms; the methods are those of `Connection` and `Room`."""

    def check_thread(self) -> None:
        """Raise UsageError in another thread than the loop's."""

    def join(self, connection: Engine, room: str, /) -> Membership:
        """Put a connection into a room."""

    def leave(self, connection: Engine, room: str, /) -> bool:
        """Take a connection out of a room."""

    async def ping(self, connection: Engine, timeout: float, /) -> float | None:
        """Measure the way to a client and back."""

    def publish(self, room: str, message: Message, exclude: Connection | None, /) -> Sent:
        """Send a message to a room."""

    def publish_json(self, room: str, value: Any, exclude: Connection | None, /) -> Sent:
        """Send JSON to a room."""

    def members(self, room: str, /) -> list[Connection]:
        """The members of a room."""

    def count(self, room: str, /) -> int:
        """How many members a room has."""


def engine_of(connection: Connection) -> Engine:
    """Return the engine's connection."""
    return connection._engine
