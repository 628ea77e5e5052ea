"""A connection manager for applications that have one: lobbies, users, limits, one line to end.

It works with Starlette's and FastAPI's `WebSocket` under any ASGI server, and needs no middleware.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tidegate.asgi.hub import Hub, HubStats
from tidegate.asgi.local import LocalGate
from tidegate.asgi.member import HubMember, engine_connection
from tidegate.asgi.refusing import RefusedWhileOpen, chosen, headers_of, refuse
from tidegate.asgi.shortcuts import settings_of
from tidegate.core.admission.attempt import Identity
from tidegate.core.codes import ABORTED, NORMAL
from tidegate.gate.decision import Admit
from tidegate.gate.refused import not_joined

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from tidegate.core.settings import Settings

__all__ = ["ConnectionManager"]


class ConnectionManager:
    """Keeps who is in which lobby, within limits, and sends to lobbies and users.

        manager = ConnectionManager(per_ip=20, per_user=5, per_room=50)

        @app.websocket("/ws/{lobby}")
        async def chat(websocket: WebSocket, lobby: str, user: str):
            await manager.connect(websocket, lobby, user)
            async for text in websocket.iter_text():
                await manager.broadcast_to_lobby(lobby, text, exclude=websocket)

    A WebSocket leaves its lobbies, and gives its capacity back, when its client leaves, or when the
    task that called `connect` ends, whatever the cause: no `finally` is needed.

    Everything belongs to the event loop's thread.

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file.
        connections: the most connections, in place of `limits.connections`.
        per_ip: the most connections of one address, in place of `limits.per_ip`.
        per_user: the most connections of one user, in place of `limits.per_user`.
        per_room: the most connections in one lobby, in place of `limits.per_room`.
        backplane: a URL of Valkey or Redis that all processes share, in place of `backplane.url`:
            their limits hold together then, and rooms and users span all of them.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        connections: int | None = None,
        per_ip: int | None = None,
        per_user: int | None = None,
        per_room: int | None = None,
        backplane: str | None = None,
    ) -> None:
        self._gate = LocalGate(
            settings_of(
                settings,
                backplane,
                connections=connections,
                per_ip=per_ip,
                per_user=per_user,
                per_room=per_room,
            )
        )
        self.hub = Hub(self._gate)
        """The same rooms and users, in another form."""
        self._in_band = self._gate.settings.server.refuse == "in-band"
        self._members: WeakKeyDictionary[WebSocket, HubMember] = WeakKeyDictionary()

    async def connect(
        self,
        websocket: WebSocket,
        lobby: str,
        user: str | None = None,
        *,
        subprotocol: str | None = None,
    ) -> None:
        """Accept a WebSocket and put it into a lobby, if the limits allow both.

        Called again for a WebSocket that is open, it puts that into another lobby too.

        Args:
            websocket: not accepted yet.
            lobby: a name of your own.
            user: whom it belongs to; None for an anonymous one.
            subprotocol: one of those that the client offers.

        Raises:
            Refused: a limit is reached. Do not catch it: the client is answered with status,
                reason and `Retry-After`; one that offers `tidegate.v1` is accepted and closed at
                once with 1013 or, for a full lobby, 4002. A server without HTTP responses for
                WebSockets (daphne) sends a bare 403, and 4002.
        """
        member = self._members.get(websocket)
        if member is not None:
            fault = await self.hub.join(member, lobby)
            if fault is not None:
                raise RefusedWhileOpen(not_joined(fault))
            return
        gate = self._gate
        decision = await gate.decide(gate.request(websocket.scope), Identity(user))
        if not isinstance(decision, Admit):
            more = headers_of(gate, decision)
            raise await refuse(websocket, gate.refused(decision), more, in_band=self._in_band)
        member = HubMember(
            self.hub,
            websocket._receive,
            websocket.send,
            user,
            decision.lease,
        )
        try:
            fault = await self.hub.join(member, lobby)
        except BaseException:
            member.left(ABORTED.code)
            raise
        if fault is not None:
            member.left(ABORTED.code)
            refusal = not_joined(fault)
            self.hub.refused(refusal)
            raise await refuse(websocket, refusal, in_band=self._in_band)
        self._members[websocket] = member
        try:
            await websocket.accept(chosen(websocket.scope, subprotocol))
        except BaseException:
            member.left(ABORTED.code)
            raise
        member.accepted(engine_connection(websocket.scope))
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: member.left(NORMAL.code))
        # The end of the client, and answers to pings, are seen in what the application receives.
        websocket._receive = member.next_event

    def leave_lobby(self, websocket: WebSocket, lobby: str) -> bool:
        """Take a WebSocket out of one lobby; False when it was not in it."""
        member = self._members.get(websocket)
        return member is not None and self.hub.leave(member, lobby)

    def disconnect(self, websocket: WebSocket) -> None:
        """Take a WebSocket out of its lobbies, and give its capacity back, before its end.

        It is not closed. It happens by itself at the end, and twice does nothing.
        """
        member = self._members.get(websocket)
        if member is not None:
            member.left(NORMAL.code)

    async def broadcast_to_lobby(
        self, lobby: str, data: Any, exclude: WebSocket | None = None
    ) -> int:
        """Send to everybody in a lobby: encoded once, and without waiting for a slow client.

        Args:
            lobby: as given to `connect`.
            data: a text, bytes, or what JSON can be made of: a dict, a dataclass, a model.
            exclude: one that does not get it.

        Returns:
            How many connections were reached.

        Raises:
            TypeError: no message can be made of it.
        """
        without = None if exclude is None else self._members.get(exclude)
        return await self.hub.room(lobby).send(data, exclude=without)

    async def send_to_user(self, user: str, data: Any) -> int:
        """Send to every connection of a user; how many were reached."""
        return await self.hub.user(user).send(data)

    async def ping_user(self, user: str, timeout: float = 5.0) -> float | None:
        """Return the round trip to a user in seconds; None when there was no answer in time.

        Under `tidegate run` it is a WebSocket ping. With other servers the client is sent
        `{"type":"ping","id":ID}` and has to answer `{"type":"pong","id":ID}`; your application does
        not see that. Of several connections the fastest counts.
        """
        return await self.hub.user(user).ping(timeout)

    def is_user_connected(self, user: str) -> bool:
        """Whether a user has a connection."""
        return self.hub.user(user).connected

    def get_lobby_users(self, lobby: str) -> list[str]:
        """Return the users in a lobby, each once, in the order in which they came."""
        return self.hub.room(lobby).users

    def stats(self) -> HubStats:
        """Return what there is now: connections, users, lobbies, what waits, who was refused."""
        return self.hub.stats()
