"""A connection to Tidegate that comes back by itself, when it is welcome."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from tidegate.client.clock import Clock, LoopClock
from tidegate.client.codec import CODECS, Format
from tidegate.client.connector import Connector, Manners
from tidegate.client.dispatch import Dispatch
from tidegate.client.emitter import Emitter
from tidegate.client.feed import BUFFER
from tidegate.client.futures import settle
from tidegate.client.link import Network
from tidegate.client.messages import Ack, Connected, Settings, StateChange, read
from tidegate.client.requests import TIMEOUT, Message, QueuePolicy, outcome
from tidegate.client.retry import Backoff
from tidegate.client.room import Room
from tidegate.client.states import State
from tidegate.client.tokens import Tokens, TokenSource
from tidegate.client.url import checked

__all__ = ["Client", "connect"]


class Client(Emitter):
    """A connection to Tidegate that comes back by itself, when it is welcome.

    `async with` connects it, waits until it is ready, and closes it at the end. Its events are
    `StateChange`, `Connected`, `QueueStatus`, `Direct`, `Broadcast`, `System`, `Shutdown`,
    `RoomAdded`, and `ClientError` for what fails and no request is told of.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource = None,
        codec: Format = "msgpack",
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 15.0,
        backoff: Backoff | None = None,
        stable_after: float = 10.0,
        queue_size: int = 100,
        queue_policy: QueuePolicy = "refuse",
        max_buffered: int = 1 << 20,
        max_message_size: int = 4 << 20,
        room_buffer: int = BUFFER,
        clock: Clock | None = None,
    ) -> None:
        """Nothing happens before `async with` or `start`.

        Args:
            url: where WebSockets are opened, as in `wss://chat.example.com/ws`.
            token: a token, or a function that returns one or None, or a coroutine function. It is
                asked before the first connection, when a token is about to expire, and once when
                the server refuses one.
            codec: how messages are written, `msgpack` or `json`.
            ssl: a TLS context; the usual one unless given.
            proxy: the URL of a proxy. True takes it from the environment, None connects directly.
            headers: more headers of the request.
            connect_timeout: seconds within which it must be ready, or in the waiting room.
            backoff: how long it stays away after failures; 1 s to 30 s unless given.
            stable_after: seconds for which a connection must hold for `backoff` to start over.
            queue_size: how many messages may wait to be sent.
            queue_policy: what happens when more wait: `refuse` or `drop_oldest`.
            max_buffered: how many bytes may be on their way before messages wait in the queue.
            max_message_size: the largest message that is accepted, in bytes.
            room_buffer: how many messages of a room wait for its loop.
            clock: time and chance, for tests.

        Raises:
            ValueError: names the argument that is wrong.
        """
        super().__init__()
        for name, value in (
            ("connect_timeout", connect_timeout),
            ("max_message_size", max_message_size),
            ("room_buffer", room_buffer),
        ):
            if not value > 0:
                raise ValueError(f"{name}: more than 0, not {value!r}")
        if codec not in CODECS:
            raise ValueError(f"codec: {' or '.join(CODECS)}, not {codec!r}")
        if queue_policy not in ("refuse", "drop_oldest"):
            raise ValueError(f"queue_policy: refuse or drop_oldest, not {queue_policy!r}")
        target = checked(url, ssl)
        network = Network(ssl, proxy, dict(headers or {}), max_message_size, max_buffered)
        manners = Manners(connect_timeout, backoff or Backoff(), stable_after)
        self._clock: Clock = LoopClock() if clock is None else clock
        self._dispatch = Dispatch(
            lambda owner: Connector(
                target, network, CODECS[codec], self._clock, Tokens(token), manners, owner
            ),
            CODECS[codec],
            self._clock,
            queue_size=queue_size,
            queue_policy=queue_policy,
            room_buffer=room_buffer,
            tell=self._tell,
            ended=self._end,
        )
        self._connector = self._dispatch.connector
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._connector.state

    @property
    def info(self) -> Connected | None:
        """What the server said last when a connection was ready."""
        return self._connector.info

    @property
    def settings(self) -> Settings | None:
        """What the client may do, as the server has said last."""
        return self._connector.settings

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Connect in the background, and stay connected until `close`."""
        self._connector.start()

    async def ready(self) -> None:
        """Wait until the connection is ready.

        Raises:
            ClientClosed: if the client is closed, or the server does not want it.
        """
        while self.state is not State.OPEN:
            self._dispatch.check()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    async def close(self) -> None:
        """Close the connection, and do not come back. Messages that wait are dropped."""
        self._connector.stop()
        await self._connector.wait_ended()

    def room(self, name: str, *, history: int | None = None, presence: bool | None = None) -> Room:
        """Return a room; the same object for the same name. Nothing is sent before it is joined.

        Args:
            name: 1 to 128 characters.
            history: how many of the last messages to get when joining, 1000 at most.
            presence: whether to be told who is there, comes and leaves.
        """
        room = self._dispatch.room(name)
        room.ask_for(history, presence)
        return room

    async def publish(
        self, room: str, data: Any, *, timeout: float = TIMEOUT, ack: bool = True
    ) -> Ack:
        """Send a message to a room, which is joined for that if it was not; see `Room.publish`."""
        where = self.room(room)
        if not where.joined:
            await where.join()
        return await where.publish(data, timeout=timeout, ack=ack)

    async def direct(
        self, user: str, data: Any, *, timeout: float = TIMEOUT, ack: bool = True
    ) -> Ack:
        """Send a message to every connection of a user; the answer says to how many it went."""
        message = {"type": "direct_message", "user": user, "data": data}
        return read(Ack, await self.request(message, timeout=timeout, ack=ack))

    async def broadcast(self, data: Any, *, timeout: float = TIMEOUT, ack: bool = True) -> Ack:
        """Send a message to everybody, as an operator."""
        message = {"type": "broadcast", "data": data}
        return read(Ack, await self.request(message, timeout=timeout, ack=ack))

    async def ping(self, *, timeout: float = TIMEOUT) -> float:
        """Ask whether the server answers; the result is how many seconds it took."""
        start = self._clock.time()
        await self.request({"type": "health_ping"}, timeout=timeout)
        return self._clock.time() - start

    async def request(
        self, message: Message, *, timeout: float = TIMEOUT, ack: bool = True
    ) -> Message:
        """Send any message of the protocol, and wait for its answer.

        While the client is not connected the message waits in the queue.

        Args:
            message: has a `type`; its `id` is given by the client.
            timeout: seconds to wait for the answer, the time in the queue included.
            ack: whether to ask for an answer. Without one, handing it over is all.

        Raises:
            ClientError: the server's error, or one of the client's own.
        """
        return await outcome(
            lambda done: self._dispatch.call(message, done, timeout=timeout, ack=ack)
        )

    def _tell(self, event: object) -> None:
        self._emit(event)
        if isinstance(event, StateChange) and event.state in (State.OPEN, State.CLOSED):
            for waiter in self._waiters:
                settle(waiter, None)


connect = Client
"""`async with connect(url) as client`: the same as `Client`."""
