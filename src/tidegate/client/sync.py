"""The client for scripts and threads, without asyncio.

    with connect("wss://chat.example.com/ws", token=get_token) as client:
        for message in client.room("news"):
            print(message.data)

It is `tidegate.client.Client` on an event loop in a thread of its own. Any thread may call it, and
Ctrl-C ends a call that waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from tidegate.client import client as _client
from tidegate.client import room as _room
from tidegate.client.emitter import Emitter
from tidegate.client.errors import ClientClosed, ClientError
from tidegate.client.feed import BUFFER
from tidegate.client.messages import (
    Ack,
    Connected,
    HistoryPage,
    Joined,
    Member,
    Position,
    PresenceState,
    Publication,
    Settings,
)
from tidegate.client.options import Options
from tidegate.client.requests import TIMEOUT, Message
from tidegate.client.states import State
from tidegate.errors import UsageError

__all__ = ["Client", "Feed", "Room", "connect"]

T = TypeVar("T")
E = TypeVar("E")


class _Thread:
    """An event loop that runs in a thread, while it is needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        if self._thread is None:
            started = threading.Event()
            # A program that forgets its client ends all the same.
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(started)),
                name="tidegate-client",
                daemon=True,
            )
            self._thread.start()
            started.wait()

    async def _serve(self, started: threading.Event) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        started.set()
        await self._end.wait()

    def stop(self) -> None:
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(self._end.set)
            thread.join()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there, and wait for what comes of it."""
        loop = self._loop
        if loop is None:
            work.close()
            raise ClientClosed
        if threading.current_thread() is self._thread:
            work.close()
            raise UsageError("A listener must not wait: call this in another thread")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        finally:
            future.cancel()  # of use after Ctrl-C only

    def now(self, call: Callable[[], T]) -> T:
        """Call a function over there, or here while nothing runs."""
        if self._loop is None or threading.current_thread() is self._thread:
            return call()

        async def work() -> T:
            return call()

        return self.call(work())


class Feed(Generic[E]):
    """Events, one after the other: loop over it, or call `receive`."""

    def __init__(self, thread: _Thread, step: Callable[[], Coroutine[Any, Any, E]]) -> None:
        """Feeds are made by `events`."""
        self._thread = thread
        self._step = step

    def receive(self, timeout: float | None = None) -> E:
        """Wait for the next event, so many seconds at most.

        Raises:
            TimeoutError: if none came.
            ClientError: if none will come.
        """
        return self._thread.call(_within(timeout, self._step))

    def __iter__(self) -> Iterator[E]:
        return _steps(self._thread, self._step)


class Room:
    """A room, as in `tidegate.client.Room`."""

    def __init__(self, thread: _Thread, room: _room.Room) -> None:
        """Rooms are made by `Client.room`."""
        self._thread = thread
        self._room = room
        self._loop: _room.Loop | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._room.name

    @property
    def joined(self) -> bool:
        """Whether the client is a member now."""
        return self._room.joined

    @property
    def members(self) -> int:
        """How many connections are members, as of the last join."""
        return self._room.members

    @property
    def count(self) -> int:
        """How many users are here, where `presence` was asked for."""
        return self._room.count

    @property
    def users(self) -> Mapping[str, Member]:
        """Who is here, by name, where `presence` was asked for."""
        return dict(self._room.users)

    @property
    def position(self) -> Position | None:
        """Where the client is in the room's history, if it keeps one."""
        return self._room.position

    def join(self) -> Joined:
        """Become a member, now and after each reconnect."""
        return self._thread.call(self._room.join())

    def leave(self) -> None:
        """Stop being a member. Loops over the room end."""
        self._thread.call(self._room.leave())

    def publish(
        self, data: Any, *, echo: bool | None = None, timeout: float = TIMEOUT, ack: bool = True
    ) -> Ack:
        """Send a message to all members."""
        return self._thread.call(self._room.publish(data, echo=echo, timeout=timeout, ack=ack))

    def presence(self, *, timeout: float = TIMEOUT) -> PresenceState:
        """Ask who is here."""
        return self._thread.call(self._room.presence(timeout=timeout))

    def history(
        self,
        limit: int | None = None,
        *,
        since: Position | None = None,
        timeout: float = TIMEOUT,
    ) -> HistoryPage:
        """Read the room's history: the last messages, or the first after a position."""
        return self._thread.call(self._room.history(limit, since=since, timeout=timeout))

    def receive(self, timeout: float | None = None) -> Publication:
        """Wait for the next message, so many seconds at most. The room is joined if need be.

        Raises:
            TimeoutError: if none came.
            ClientError: if none will come.
        """
        return self._thread.call(_within(timeout, self._step))

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call `listener` with each event of a type, in the client's thread."""
        return _listen(self._thread, self._room, kind, listener)

    def events(self, *kinds: type[E], buffer: int = BUFFER) -> Feed[E]:
        """Return the events of these types from now on."""
        return _feed(self._thread, self._room, kinds, buffer)

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.runs:
            self.leave()

    def __iter__(self) -> Iterator[Publication]:
        self._loop = None
        return _steps(self._thread, self._step)

    async def _step(self) -> Publication:
        if self._loop is None:
            self._loop = aiter(self._room)
        try:
            return await self._loop.__anext__()
        except (StopAsyncIteration, ClientError):
            self._loop = None
            raise


class Client:
    """A connection to Tidegate that comes back by itself, as `tidegate.client.Client`.

    `with` connects it, waits until it is ready, and closes it at the end.
    """

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        """Nothing happens before `with` or `start`; the arguments are those of the other one."""
        self._client = _client.Client(url, **options)
        self._thread = _Thread()

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._client.state

    @property
    def info(self) -> Connected | None:
        """What the server said last when a connection was ready."""
        return self._client.info

    @property
    def settings(self) -> Settings | None:
        """What the client may do, as the server has said last."""
        return self._client.settings

    def start(self) -> None:
        """Connect in the background, and stay connected until `close`."""
        self._thread.start()

        async def begin() -> None:
            self._client.start()

        self._thread.call(begin())

    def ready(self, timeout: float | None = None) -> None:
        """Wait until the connection is ready, so many seconds at most.

        Raises:
            TimeoutError: if it is not.
            ClientClosed: if the client is closed, or the server does not want it.
        """
        self._thread.call(_within(timeout, self._client.ready))

    def close(self) -> None:
        """Close the connection, and do not come back. Messages that wait are dropped."""
        if self._thread.runs:
            try:
                self._thread.call(self._client.close())
            finally:
                self._thread.stop()

    def room(self, name: str, *, history: int | None = None, presence: bool | None = None) -> Room:
        """Return a room. Nothing is sent before it is joined."""
        room = self._thread.now(lambda: self._client.room(name, history=history, presence=presence))
        return Room(self._thread, room)

    def publish(self, room: str, data: Any, *, timeout: float = TIMEOUT, ack: bool = True) -> Ack:
        """Send a message to a room, which is joined for that if it was not."""
        return self._thread.call(self._client.publish(room, data, timeout=timeout, ack=ack))

    def direct(self, user: str, data: Any, *, timeout: float = TIMEOUT, ack: bool = True) -> Ack:
        """Send a message to every connection of a user; the answer says to how many it went."""
        return self._thread.call(self._client.direct(user, data, timeout=timeout, ack=ack))

    def broadcast(self, data: Any, *, timeout: float = TIMEOUT, ack: bool = True) -> Ack:
        """Send a message to everybody, as an operator."""
        return self._thread.call(self._client.broadcast(data, timeout=timeout, ack=ack))

    def ping(self, *, timeout: float = TIMEOUT) -> float:
        """Ask whether the server answers; the result is how many seconds it took."""
        return self._thread.call(self._client.ping(timeout=timeout))

    def request(self, message: Message, *, timeout: float = TIMEOUT, ack: bool = True) -> Message:
        """Send any message of the protocol, and wait for its answer."""
        return self._thread.call(self._client.request(message, timeout=timeout, ack=ack))

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call `listener` with each event of a type, in the client's thread."""
        return _listen(self._thread, self._client, kind, listener)

    def events(self, *kinds: type[E], buffer: int = BUFFER) -> Feed[E]:
        """Return the events of these types from now on."""
        return _feed(self._thread, self._client, kinds, buffer)

    def __enter__(self) -> Self:
        try:
            self.start()
            self.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


connect = Client
"""`with connect(url) as client`: the same as `Client`."""


def _listen(
    thread: _Thread,
    emitter: Emitter,
    kind: type[E],
    listener: Callable[[E], object],
) -> Callable[[], None]:
    end = thread.now(lambda: emitter.on(kind, listener))
    return lambda: thread.now(end)


def _feed(thread: _Thread, emitter: Emitter, kinds: tuple[type[E], ...], buffer: int) -> Feed[E]:
    feed = thread.now(lambda: emitter.events(*kinds, buffer=buffer))
    return Feed(thread, feed.__anext__)


async def _within(timeout: float | None, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async with asyncio.timeout(timeout):
        try:
            return await step()
        except StopAsyncIteration:
            raise ClientClosed from None


def _steps(thread: _Thread, step: Callable[[], Coroutine[Any, Any, E]]) -> Iterator[E]:
    try:
        while True:
            yield thread.call(step())
    except StopAsyncIteration:
        return
