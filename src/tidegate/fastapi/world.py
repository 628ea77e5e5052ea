"""What the gate of an application works with, and the middleware that goes with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from starlette.exceptions import WebSocketException

from tidegate.asgi.hub import Hub
from tidegate.asgi.local import LocalGate
from tidegate.asgi.middleware import GateMiddleware
from tidegate.asgi.refusing import RefusedWhileOpen, can_deny, close_reason, headers_of, refuse
from tidegate.core.codes import DRAINED

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from tidegate.asgi.types import AsgiApp, Message, Receive, Scope, Send
    from tidegate.core.admission.attempt import Lease, Reject
    from tidegate.core.settings import Settings
    from tidegate.errors import Refused
    from tidegate.gate.decision import Wait

__all__ = ["Middleware", "World"]


class World:
    """A gate with its counts and its hub: one for the application, another one for each test.

    Args:
        clock: monotonic seconds.
        wall: Unix seconds.
        raises: whether refusals come out of the application, for a test to see.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        raises: bool = False,
    ) -> None:
        self.local = LocalGate(settings, clock=clock, wall=wall)
        self.hub = Hub(self.local, clock=clock)
        self.wall = wall
        self._raises = raises
        self._in_band = settings.server.refuse == "in-band"
        self._around: tuple[AsgiApp, GateMiddleware] | None = None

    def around(self, app: AsgiApp) -> GateMiddleware:
        """Return the middleware of this gate for an application."""
        if self._around is None or self._around[0] is not app:
            kind = _Raising if self._raises else GateMiddleware
            self._around = (app, kind(app, gate=self.local))
        return self._around[1]

    def lease_of(self, scope: Scope) -> Lease | None:
        """Return the lease that the middleware of this gate took for a WebSocket."""
        own = (scope.get("extensions") or {}).get("tidegate") or {}
        if own.get("gate") is not self.local:
            return None
        lease: Lease = own["visit"].lease
        return lease

    async def refusal(self, websocket: WebSocket, decision: Reject | Wait) -> Exception:
        """Return what to raise for a decision about a WebSocket that was not accepted yet."""
        refusal = self.local.refused(decision)
        if self._raises:
            return refusal
        more = headers_of(self.local, decision)
        refusal = await refuse(websocket, refusal, more, in_band=self._in_band)
        if isinstance(refusal, RefusedWhileOpen):  # nobody catches it, so it says all
            return WebSocketException(refusal.code, close_reason(refusal))
        return refusal

    async def refuse(
        self, websocket: WebSocket, refusal: Refused, /, *, is_open: bool = False
    ) -> Refused:
        """Return what to raise for a room that cannot be joined."""
        if self._raises:
            return refusal
        if is_open:
            return RefusedWhileOpen(refusal)
        return await refuse(websocket, refusal, in_band=self._in_band)

    def drain(self) -> None:
        """Admit no attempt any more, and close what the server has not closed yet."""
        self.local.begin_drain()
        for member in self.hub.members:
            member.end_for(DRAINED)


class Middleware:
    """Decides about WebSockets by the gate that is in force now.

    Args:
        app: the application, ASGI 3.
        world: returns what is in force.
    """

    def __init__(self, app: AsgiApp, world: Callable[[], World]) -> None:
        self._app = app
        self._world = world

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection of the server, or its lifespan."""
        app = self._app
        if scope["type"] == "websocket":
            app = self._world().around(app)
            if not can_deny(scope):
                send = partial(_close_instead, send)
        return app(scope, receive, send)  # not awaited here: a frame less for each connection


async def _close_instead(send: Send, event: Message) -> None:
    """Send an event to a server that has no response for what an `HTTPException` refuses."""
    kind = event["type"]
    if kind == "websocket.http.response.start":
        await send({"type": "websocket.close"})  # the client gets a bare 403
    elif kind != "websocket.http.response.body":
        await send(event)


class _Raising(GateMiddleware):
    """Raises what it refuses, for a test to see."""

    async def _refuse(self, decision: Reject | Wait, scope: Scope, send: Send) -> None:  # noqa: ARG002
        raise self.gate.refused(decision)
