"""One WebSocket of a FastAPI application, with typed messages and rooms."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from starlette.websockets import WebSocketDisconnect

from tidegate.asgi.hub import Hub
from tidegate.asgi.member import HubMember, engine_connection
from tidegate.asgi.refusing import RefusedWhileOpen, chosen, close_reason
from tidegate.asgi.rooms import Room
from tidegate.core.codes import (
    ABORTED,
    MESSAGE_ABUSE,
    MESSAGE_RATE,
    NORMAL,
    Fault,
)
from tidegate.core.timing.rates import Meter
from tidegate.gate.refused import not_joined
from tidegate.node.values import WrongMessage, encoded, error_json

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from tidegate.core.admission.attempt import Lease
    from tidegate.errors import Refused
    from tidegate.fastapi.routes import Route

__all__ = ["JoinedRoom", "Member", "RefuseBy"]

In = TypeVar("In")
Out = TypeVar("Out")


class RefuseBy(Protocol):
    """Says what to raise, so that the client is refused."""

    async def __call__(
        self, websocket: WebSocket, refusal: Refused, /, *, is_open: bool = False
    ) -> Refused:
        """Return the exception for a WebSocket that was accepted already, or was not."""


class Member(HubMember, Generic[In, Out]):
    """A WebSocket that was admitted, for an endpoint of FastAPI.

        Ann = Annotated[Member[ChatIn, ChatOut], Depends(gate.member(user=current_user))]

    `ChatIn` is what the client sends and `ChatOut` what it gets: `str`, `bytes`, or what JSON can
    be made of, such as a dict, a dataclass, a msgspec Struct or a pydantic model. A message that is
    something else is answered with an error, and the connection stays open.

    The WebSocket is accepted by the first `join`, `receive`, `send` or loop over the messages, or
    by `accept`. Until then the client can be refused with an HTTP response.

    It leaves its rooms when the endpoint ends, whatever the cause.
    """

    __slots__ = ("_meter", "_place", "_refuse_by", "_route", "websocket")

    def __init__(
        self,
        hub: Hub,
        websocket: WebSocket,
        user: str | None,
        route: Route,
        refuse: RefuseBy,
        lease: Lease | None = None,
        joins: tuple[str, ...] = (),
    ) -> None:
        super().__init__(hub, websocket._receive, websocket.send, user, lease, joins)
        self.websocket = websocket
        """Starlette's own object: headers, cookies, state. Do not send or receive with it."""
        self._place = hub
        self._route = route
        self._refuse_by = refuse
        rates = route.limits.rates
        self._meter = None if rates is None else Meter(rates)

    async def accept(
        self,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Accept the WebSocket, if that has not happened yet.

        Args:
            subprotocol: one of those that the client offers; by default `tidegate.v1`, if it does.
            headers: more header fields of the response.
        """
        if self.fresh:
            try:
                subprotocol = chosen(self.websocket.scope, subprotocol)
                await self.websocket.accept(subprotocol, headers)
            except OSError:
                self.left(ABORTED.code)
                raise WebSocketDisconnect(ABORTED.code) from None
            self.accepted(engine_connection(self.websocket.scope))

    def join(self, room: str) -> JoinedRoom[Out]:
        """Return what puts the member into a room while an `async with` block runs.

        Raises:
            Refused: by the block, when the room is full, or the member in too many rooms. Not
                caught, it refuses the WebSocket, or closes it with 4002 when it is open already.
        """
        return JoinedRoom(self._place, room, self)

    def receive(self) -> Coroutine[Any, Any, In]:
        """Return the next message of the client, to be awaited.

        Raises:
            WebSocketDisconnect: the client is gone. Not caught, it ends the endpoint in silence.
        """
        return self._next(WebSocketDisconnect)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, In]:
        """Return the next message; the loop ends when the client is gone."""
        return self._next(StopAsyncIteration)

    async def _next(self, at_end: type[Exception]) -> In:
        # One coroutine for both: its frame is what an idle connection keeps.
        if self.fresh:
            await self.accept()
        while True:
            event = await self.next_event()
            if event["type"] == "websocket.disconnect":
                raise at_end(event.get("code", NORMAL.code), event.get("reason"))
            text = event.get("text")
            data: str | bytes = event["bytes"] if text is None else text
            if self._meter is not None and self._too_early(self._meter, len(data)):
                await self._refuse(MESSAGE_RATE)
                continue
            try:
                message: In = self._route.decode(data)
            except WrongMessage as wrong:
                await self._refuse(wrong.fault, wrong.detail, wrong.field)
                continue
            return message

    async def send(self, message: Out) -> None:
        """Send a message to this client; waits while it takes no more.

        Raises:
            WebSocketDisconnect: the client is gone. Not caught, it ends the endpoint in silence.
            TypeError: no message can be made of it.
        """
        if self.fresh:
            await self.accept()
        if not await self.send_own(encoded(message)):
            raise WebSocketDisconnect(*(self.end or (ABORTED.code, "")))

    async def close(self, code: int = NORMAL.code, reason: str = "") -> None:
        """Close the WebSocket; before it is accepted, the client gets a plain 403."""
        if self.end is not None:
            return
        await self.flush()
        self.left(code, reason)
        with suppress(RuntimeError, WebSocketDisconnect):  # the client left at the same time
            await self.websocket.close(code, reason)

    async def leave(
        self,
        _: type[BaseException] | None = None,
        error: BaseException | None = None,
        __: TracebackType | None = None,
    ) -> bool:
        """The endpoint has ended: send what waits, and be in no room any more.

        Returns:
            Whether the error is dealt with.
        """
        try:
            if isinstance(error, RefusedWhileOpen):
                await self.close(error.code, close_reason(error))
                return True
            if error is None:
                await self.flush()
            # When the client leaves while it is sent something, nothing is wrong.
            return isinstance(error, WebSocketDisconnect)
        finally:
            self.left(NORMAL.code)

    @property
    def room_limit(self) -> int | None:
        """The most members of a room on this route; None for that of the settings."""
        return self._route.limits.per_room

    async def refusal(self, fault: Fault) -> Refused:
        """Return what to raise for a room that it cannot join."""
        refusal = not_joined(fault)
        if self.fresh:
            self._place.refused(refusal)
        return await self._refuse_by(self.websocket, refusal, is_open=not self.fresh)

    def _too_early(self, meter: Meter, size: int) -> bool:
        now = self._place.now()
        if meter.ready_at > now:
            if meter.refused(now):
                self.end_for(MESSAGE_ABUSE)
            return True
        meter.charge(size, now)
        return False

    async def _refuse(self, fault: Fault, detail: str = "", field: str = "") -> None:
        """Tell the client why its message was not taken."""
        await self.send_own(error_json(fault, detail, field).decode())

    def __repr__(self) -> str:
        return f"<Member user={self.user!r} rooms={self.rooms!r}>"


class JoinedRoom(Room[Out]):
    """A room that a member is in, while an `async with` block runs."""

    __slots__ = ("_left", "_member", "_place")

    def __init__(self, hub: Hub, name: str, member: Member[Any, Out]) -> None:
        super().__init__(hub, name)
        self._place = hub
        self._member = member

    async def __aenter__(self) -> Self:
        """Join, and accept the WebSocket if that has not happened yet."""
        member = self._member
        self._left = self.name not in member.rooms  # a block within another one does not leave
        fault = await self._place.join(member, self.name, member.room_limit)
        if fault is not None:
            raise await member.refusal(fault)
        await member.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the room."""
        if self._left:
            self._place.leave(self._member, self.name)
