"""The engine's application that runs an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.asgi.scope import websocket_scope
from tidegate.asgi.session import Session
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection

if TYPE_CHECKING:
    from tidegate.asgi.http import Http
    from tidegate.asgi.proxied import Proxies
    from tidegate.asgi.types import AsgiApp
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.settings import Settings
    from tidegate.wire.handshake import Request

__all__ = ["AsgiApplication"]

_log = logging.getLogger("tidegate")


class AsgiApplication(Application[Connection]):
    """Gives each connection a task of the ASGI application, and nothing else.

    Args:
        app: the application, ASGI 3.
        http: serves what asks for no WebSocket.
        proxies: that may say which scheme the client has used.
        root_path: where the application is mounted.
        state: of the lifespan; each scope gets a copy.
        server: returns host and port of the listener.
        zone: returns the label of the present zone.
    """

    negotiates = True

    def __init__(
        self,
        settings: Settings,
        app: AsgiApp,
        http: Http,
        proxies: Proxies,
        *,
        root_path: str,
        state: dict[str, Any],
        server: Callable[[], tuple[str, int | None]],
        zone: Callable[[], str],
    ) -> None:
        self._app = app
        self.http_server: Http = http
        self._proxies = proxies
        self._root_path = root_path
        self._state = state
        self._server = server
        self._zone = zone
        self._secure = settings.tls.certificate is not None
        self._patience = settings.server.shutdown_timeout
        self._sessions: set[Session] = set()

    def negotiate(self, request: Request, lease: Lease, subprotocol: str | None) -> Session:  # noqa: ARG002 - the application chooses
        """Run the application for an attempt that was admitted."""
        trusted = self._proxies.trusts(request.peer[0])
        secure = self._proxies.secure(request.headers) if trusted else None
        scope = websocket_scope(
            request,
            lease,
            server=self._server(),
            secure=self._secure if secure is None else secure,
            root_path=self._root_path,
            state=self._state.copy(),
            zone=self._zone(),
        )
        session = Session(self._app, scope, self._sessions.discard)
        self._sessions.add(session)
        return session

    def opened(self, connection: Connection, request: Request) -> None:  # noqa: ARG002 - it knows
        """Tell the session that its connection is open."""
        _session(connection).opened(connection)

    def message(self, connection: Connection, message: str | bytes) -> Any:
        """Queue a message for the application. HOT."""
        return connection.context.message(message)

    def drained(self, connection: Connection) -> None:
        """Let the application send on."""
        _session(connection).drained()

    def measured(self, connection: Connection, latency: float) -> None:
        """Tell those that wait for the answer to a ping."""
        _session(connection).measured(latency)

    def closed(self, connection: Connection, code: int, text: str) -> None:
        """Tell the application; end it when it does not end by itself."""
        session = _session(connection)
        connection.context = None
        session.closed(code, text)
        if session.task is not None and not session.task.done():
            asyncio.get_running_loop().call_later(self._patience, self._give_up, session)

    def stopping(self) -> None:
        """End HTTP connections too."""
        self.http_server.stop()

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """All that the application is at work on."""
        own = {session.task for session in self._sessions if session.task is not None}
        return own | self.http_server.tasks

    def _give_up(self, session: Session) -> None:
        if session.task is not None and not session.task.done():
            _log.warning(
                "a WebSocket of the application goes on after its client has left; cancelled",
                extra={"after": self._patience},
            )
            session.task.cancel()


def _session(connection: Connection) -> Session:
    session = connection.context
    assert isinstance(session, Session)
    return session
