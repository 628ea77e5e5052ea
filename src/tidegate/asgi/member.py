"""One WebSocket of an ASGI application, as a hub sees it: the way out, the way in, and its end.

    NEW --accepted--> OPEN --client left, too slow, finish--> ENDED

Its messages take the cheapest way there is. On our engine they go to the connection, which has an
outbox of its own. With another server, a message that was sent by the hub waits in an `Outbox`, and
a task writes until that is empty: an idle member has neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from tidegate.asgi.begun import Begun
from tidegate.asgi.outbox import Outbox
from tidegate.asgi.packet import Packet
from tidegate.asgi.pings import Pings, ping, ping_connection
from tidegate.core.codes import (
    ABORTED,
    NORMAL,
    SLOW_CONSUMER,
    TOKEN_EXPIRED,
    Close,
    Refusal,
    close_text,
)

if TYPE_CHECKING:
    from tidegate.asgi.types import Message, Receive, Scope, Send
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.engine.connection import Connection

__all__ = ["Home", "HubMember", "engine_connection"]

_LONGEST: Final = 1e6  # seconds that any loop can wait
_HIGH: Final = 65536  # bytes that wait at which a member's own `send` waits too


class Home(Protocol):
    """What a member needs of its hub."""

    @property
    def settings(self) -> Settings:
        """The settings that are in force."""

    @property
    def counters(self) -> Stats:
        """The counters of the process."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for all members."""

    def now(self) -> float:
        """The time in monotonic seconds."""

    def opened(self, member: HubMember, /) -> None:
        """A member can be reached from now on."""

    def gone(self, member: HubMember, /) -> None:
        """A member has ended."""

    def kept(self, size: int, /) -> None:
        """So many bytes more wait in outboxes."""

    def start(self, work: Coroutine[Any, Any, None], /) -> asyncio.Task[None]:
        """Run something that nobody waits for."""

    def next_ping(self) -> str:
        """Return what tells the answer to a ping from that to others."""


class HubMember:
    """A WebSocket that a hub knows. Everything belongs to the event loop's thread.

    Args:
        hub: where it belongs.
        receive: the ASGI function, or one that does the same.
        send: likewise.
        user: whom it belongs to; None for an anonymous one.
        lease: what is given back when it ends; None where somebody else does that.
        joins: rooms of its token, which it is put into when it is accepted.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_drained",
        "_end",
        "_expiry",
        "_hub",
        "_kicked",
        "_open",
        "_outbox",
        "_pings",
        "_reader",
        "_receive",
        "_send",
        "_writer",
        "joins",
        "lease",
        "rooms",
        "user",
    )

    def __init__(
        self,
        hub: Home,
        receive: Receive,
        send: Send,
        user: str | None,
        lease: Lease | None = None,
        joins: tuple[str, ...] = (),
    ) -> None:
        self.user = user
        """Whom it belongs to; None for an anonymous one."""
        self.rooms: tuple[str, ...] = ()
        """The names of the rooms that it is in."""
        self.lease = lease
        """What is given back at its end."""
        self.joins = joins
        """Rooms that it is put into when it is accepted."""
        self._hub = hub
        self._receive = receive
        self._send = send
        self._connection: Connection | None = None
        self._open = False
        self._end: tuple[int, str] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._outbox: Outbox | None = None
        self._writer: asyncio.Task[None] | None = None
        # What somebody awaits, while somebody does.
        self._drained: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._kicked = False
        self._pings: Pings | None = None

    # What is known of it.

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        connection = self._connection
        return self._open and (connection is None or connection.open)

    @property
    def buffered(self) -> int:
        """Bytes that wait because the client does not read."""
        if self._connection is not None:
            return self._connection.buffered
        return 0 if self._outbox is None else self._outbox.size

    @property
    def fresh(self) -> bool:
        """Whether it was not accepted yet."""
        return not self._open and self._end is None

    @property
    def end(self) -> tuple[int, str] | None:
        """Code and reason of its end, None before."""
        return self._end

    def accepted(self, connection: Connection | None) -> None:
        """The WebSocket is open; `connection` is that of our engine, None with other servers."""
        self._connection = connection
        if self._end is None:
            self._hub.opened(self)
            self._open = True

    # The way out.

    def push(self, packet: Packet, *, of_room: bool) -> bool:
        """Send a message without waiting; whether the member was reached. HOT.

        A member that lets too much wait is closed, or messages of rooms are dropped, as
        `outbox.policy` says.
        """
        if not self._open:
            return False
        connection = self._connection
        if connection is not None:
            if connection.open:
                if of_room:
                    frame = packet.frame
                    connection.shared.stats.outgoing.others.observe(len(frame))
                    connection.transmit(frame)
                else:
                    connection.send(packet.data)
                if connection.open:
                    return True
            # Its socket may be there for some seconds more; nobody is behind it.
            self.left((ABORTED if connection.closed else SLOW_CONSUMER).code)
            return False
        outbox = self._outbox
        if outbox is None:
            return self._begin(packet)
        hub = self._hub
        now = hub.now()
        before = outbox.size
        settings = hub.settings
        fits = outbox.add(packet, now, settings.outbox, hub.counters, of_room=of_room)
        hub.kept(outbox.size - before)
        if not fits or hub.buffered > settings.most_kept:
            self.end_for(SLOW_CONSUMER)
            return False
        return True

    def _begin(self, packet: Packet) -> bool:
        """Give a message to the server; if that has to wait, a task goes on with it."""
        work = self._send_now(packet)
        try:
            # Most servers take a message without waiting. A task for each member would cost more
            # than the sending itself.
            waits_for = work.send(None)
        except StopIteration:
            return self._open
        hub = self._hub
        self._outbox = Outbox(packet, hub.now())
        hub.kept(packet.size)
        self._writer = hub.start(self._write(Begun(work, waits_for)))
        return True

    async def send_own(self, data: str | bytes) -> bool:
        """Send a message of the member's own; waits while the client takes no more.

        Returns:
            False when the member has ended.
        """
        connection = self._connection
        if connection is not None:
            if connection.open and connection.buffered <= _HIGH:
                connection.send(data)
            elif self._open:
                await self._send_now(Packet(data))  # the session waits
        elif self.push(Packet(data), of_room=False) and self.buffered > _HIGH:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        return self._open

    async def _send_now(self, packet: Packet) -> None:
        try:
            await self._send(packet.event)
        except Exception:  # servers differ in how they say that the client is gone
            self.left(ABORTED.code)

    async def _write(self, begun: Begun) -> None:
        """Give what waits to the server, until nothing waits."""
        outbox = self._outbox
        hub = self._hub
        await begun
        while outbox is not None and self._outbox is outbox:  # else it has ended
            hub.kept(-outbox.sent(hub.now()))
            if not outbox:
                self._outbox = self._writer = None
                self._wake()
                return
            await self._send_now(outbox.first)

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # The way in.

    async def next_event(self) -> Message:
        """Return the next event of the client, `websocket.disconnect` once the member has ended."""
        while self._end is None:
            task = self._reader = asyncio.current_task()
            try:
                event = await self._receive()
            except asyncio.CancelledError:
                # As `asyncio.timeout` does: a cancellation of ours is not seen by others.
                if not self._kicked or task is None or task.uncancel() > 0:
                    raise
                break
            else:
                if self._kicked and task is not None:
                    task.uncancel()
            finally:
                self._reader = None
                self._kicked = False
            if event["type"] == "websocket.disconnect":
                self.left(event.get("code", NORMAL.code), event.get("reason") or "")
            elif self._pings and self._pings.is_answer(event.get("text")):
                continue
            return event
        code, reason = self._end or (ABORTED.code, "")
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def ping(self, timeout: float) -> float | None:
        """Return the round trip to the client in seconds; None when no answer came in time.

        On our engine it is a WebSocket ping, which every client answers. With another server it is
        the message `{"type":"ping","id":ID}`, and the client has to answer
        `{"type":"pong","id":ID}`. That is taken out of what it sends, so something has to receive
        from this member.
        """
        if self._connection is not None:
            return await ping_connection(self._connection, timeout)
        hub = self._hub
        ident = hub.next_ping()
        if self._pings is None:
            self._pings = Pings()
        pings = self._pings
        answered = pings.begin(ident)
        start = hub.now()
        try:
            async with asyncio.timeout(timeout):
                if not self.push(ping(ident), of_room=False):
                    return None
                await answered
        except TimeoutError:
            return None
        return None if self._end is not None else hub.now() - start

    # The end.

    def expire_in(self, seconds: float) -> None:
        """End it after so many seconds, when what says who it is has expired."""
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(min(seconds, _LONGEST), self.end_for, TOKEN_EXPIRED)

    def end_for(self, reason: Close | Refusal) -> None:
        """End it for a reason of ours: it leaves its rooms now, and is closed as soon as it can."""
        if self._end is not None:
            return
        text = close_text(reason, reason.retry_after)
        if self._connection is not None:
            self._connection.end(reason)
        elif self._open:
            self._hub.start(self._close(reason.code, text))
        self.left(reason.code, text)

    async def _close(self, code: int, text: str) -> None:
        """Send the close, if the server takes it in time."""
        try:
            async with asyncio.timeout(self._hub.settings.server.close_timeout):
                await self._send({"type": "websocket.close", "code": code, "reason": text})
        except Exception:  # it is gone, or takes nothing: its server ends it at its own deadline
            return

    def left(self, code: int, reason: str = "") -> None:
        """It has ended, whatever the cause: it is in no room, and nothing waits for it."""
        if self._end is not None:
            return
        self._end = (code, reason)
        self._open = False
        hub = self._hub
        hub.gone(self)
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            hub.kept(-outbox.size)
        writer, self._writer = self._writer, None
        if writer is not None and writer is not asyncio.current_task():
            writer.cancel()
        self._wake()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._pings is not None:
            self._pings.end()
        reader = self._reader
        if reader is not None and reader is not asyncio.current_task():
            self._kicked = True
            reader.cancel()

    async def flush(self) -> None:
        """Give what waits to the server, within `server.close_timeout`."""
        writer = self._writer
        if writer is not None:
            await asyncio.wait((writer,), timeout=self._hub.settings.server.close_timeout)


def engine_connection(scope: Scope) -> Connection | None:
    """Return the connection of our engine, once it is open; None with other servers."""
    ours = (scope.get("extensions") or {}).get("tidegate") or {}
    connection: Connection | None = (ours.get("server") or ours).get("connection")
    return connection
