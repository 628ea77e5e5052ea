"""A room, as an application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from msgspec import convert

from tidegate.client.emitter import Emitter
from tidegate.client.errors import ClientError
from tidegate.client.feed import Feed
from tidegate.client.futures import settle
from tidegate.client.membership import Host, Membership
from tidegate.client.messages import (
    Ack,
    HistoryPage,
    Joined,
    Left,
    Member,
    Position,
    Presence,
    PresenceState,
    Publication,
    read,
)
from tidegate.client.requests import TIMEOUT, Abort, Done, Message, outcome

__all__ = ["Loop", "Room"]


class Room(Emitter):
    """A room. It is joined again after each reconnect, until `leave`.

    Loop over it for its messages; the loop joins it if need be. Messages wait for the loop from the
    join on, unless a listener takes them.

    Its events are `Publication`, `Joined`, `Left`, `Presence`, `Gap`, and `ClientError` where it
    could not be joined.
    """

    def __init__(self, name: str, host: Host, buffer: int) -> None:
        """Not a member. Rooms are made by `Client.room`."""
        super().__init__()
        self.name: Final = name
        self.count = 0
        """How many users are here, where `presence` was asked for."""
        self._users: dict[str, Member] = {}
        self._host = host
        self._membership = Membership(name, host, self._tell)
        self._buffer = buffer
        self._inbox: Feed[Publication] = Feed(buffer)
        self._looped = False
        self._waiters: list[asyncio.Future[Joined | ClientError]] = []

    @property
    def joined(self) -> bool:
        """Whether the client is a member now."""
        return self._membership.joined

    @property
    def members(self) -> int:
        """How many connections are members, as of the last join."""
        return self._membership.members

    @property
    def users(self) -> Mapping[str, Member]:
        """Who is here, by name, where `presence` was asked for."""
        return MappingProxyType(self._users)

    @property
    def position(self) -> Position | None:
        """Where the client is in the room's history, if it keeps one."""
        return self._membership.track.position

    async def join(self) -> Joined:
        """Become a member, now and after each reconnect.

        While the client is not connected this waits. If it is cancelled before it is a member, the
        room is left.

        Raises:
            ClientError: the server's error, such as `room_limit`. The room is then tried again
                after the next reconnect, unless you leave it.
        """
        self._host.check()
        self._host.hold(self.name)
        wanted = self._membership.wanted
        self._renew()
        waiter: asyncio.Future[Joined | ClientError] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            self._membership.join()
            result = await waiter
        except asyncio.CancelledError:
            if not wanted and self._waiters in ([], [waiter]):
                self._membership.leave()
                self._let_go()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if isinstance(result, ClientError):
            raise result
        return result

    async def leave(self) -> None:
        """Stop being a member. Loops over the room end."""
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = self._membership.leave(lambda _: settle(left, None))
        self._users.clear()
        self._answer(ClientError("left", "The room was left"))
        self._inbox.end()
        self._let_go()
        if asked:
            await left

    async def publish(
        self, data: Any, *, echo: bool | None = None, timeout: float = TIMEOUT, ack: bool = True
    ) -> Ack:
        """Send a message to all members.

        Args:
            data: any value that can be written; dataclasses and msgspec structs too.
            echo: whether it comes back to this client; true unless said otherwise.
            timeout: seconds to wait for the answer, the time in the queue included.
            ack: whether to ask for an answer. Without one, handing it over is all.

        Returns:
            The answer, with the message's position where the room keeps a history.

        Raises:
            ClientError: what failed, here or at the server.
        """
        message = {"type": "room_message", "room": self.name, "data": data}
        if echo is not None:
            message["echo"] = echo

        def call(done: Done) -> Abort:
            def answered(result: Message | ClientError | None) -> None:
                # At once: the next message of the room may follow in the same turn.
                if echo is False and isinstance(result, Mapping):
                    self._membership.track.publish(result.get("offset"))
                done(result)

            return self._host.call(message, answered, timeout=timeout, ack=ack)

        return read(Ack, await outcome(call))

    async def presence(self, *, timeout: float = TIMEOUT) -> PresenceState:
        """Ask who is here."""
        message = {"type": "presence", "room": self.name}
        return read(PresenceState, await self._ask(message, timeout))

    async def history(
        self,
        limit: int | None = None,
        *,
        since: Position | None = None,
        timeout: float = TIMEOUT,
    ) -> HistoryPage:
        """Read the room's history: the last messages, or the first after a position.

        Args:
            limit: how many messages, 1000 at most; 100 unless said otherwise.
            since: a position.
            timeout: seconds to wait for the answer.
        """
        message: dict[str, Any] = {"type": "history", "room": self.name}
        if limit is not None:
            message["limit"] = limit
        if since is not None:
            message["since"] = since
        return read(HistoryPage, await self._ask(message, timeout))

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.leave()

    def __aiter__(self) -> Loop:
        return Loop(self._begin)

    async def _begin(self) -> Feed[Publication]:
        self._looped = True
        self._renew()
        inbox = self._inbox
        if self._membership.refused or not self._membership.wanted:
            await self.join()
        return inbox

    async def _ask(self, message: Message, timeout: float) -> Message:
        return await outcome(lambda done: self._host.call(message, done, timeout=timeout))

    def _renew(self) -> None:
        if self._inbox.ended:
            self._inbox = Feed(self._buffer)

    # What the client calls.

    def ask_for(self, history: int | None, presence: bool | None) -> None:
        """Set what the next join asks for; None changes nothing."""
        if history is not None:
            self._membership.history = history
        if presence is not None:
            self._membership.presence = presence

    def receive(self, message: Message) -> None:
        """Take a message of the server for this room."""
        if message["type"] in ("presence_state", "presence_count", "user_joined", "user_left"):
            self._note_presence(message)
        else:
            self._membership.receive(message)

    def connected(self, resumed: bool) -> None:
        """The client is connected, perhaps as a member already."""
        self._renew()
        self._membership.connected(resumed)

    def lost(self) -> None:
        """The connection was lost."""
        self._membership.lost()

    def closed(self, why: ClientError, error: ClientError | None) -> None:
        """The client is closed; loops end with the error, if there is one."""
        self._answer(why)
        self._inbox.end(error)
        self._end(error)

    # Inside.

    def _tell(self, event: object) -> None:
        match event:
            case Publication():
                self._renew()  # it was told that it had missed some, and goes on
                if self._looped or not self._listens(Publication):
                    self._inbox.put(event)
            case Left(reason=reason):
                self._users.clear()
                self._inbox.end(ClientError(reason, "The server has taken the client out"))
            case ClientError():
                self._answer(event)
                self._inbox.end(event)
        self._emit(event)
        if isinstance(event, Joined):
            self._answer(event)

    def _let_go(self) -> None:
        if not self._membership.wanted and not self._is_heard:
            self._host.release(self.name)

    def _answer(self, result: Joined | ClientError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            settle(waiter, result)

    def _note_presence(self, message: Message) -> None:
        if message["type"] == "presence_state":
            self._users.clear()
        for user in message.get("users") or ():
            if isinstance(user, str):
                self._users.pop(user, None)
            else:
                member = convert(user, Member)
                self._users[member.user] = member
        count = message.get("count")
        self.count = count if isinstance(count, int) else self.count
        self._emit(Presence(self.name, self.count, self.users))


class Loop:
    """A loop over the messages of a room."""

    def __init__(self, begin: Callable[[], Awaitable[Feed[Publication]]]) -> None:
        """Not begun: the room is joined with the first step."""
        self._begin = begin
        self._inbox: Feed[Publication] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Publication:
        if self._inbox is None:
            self._inbox = await self._begin()
        return await self._inbox.__anext__()
