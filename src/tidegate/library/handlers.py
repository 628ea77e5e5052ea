"""The application that calls your handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidegate.engine.application import Application
from tidegate.engine.connection import Connection as Engine
from tidegate.errors import UsageError
from tidegate.library.arguments import check_handler, check_names, check_type
from tidegate.library.background import Background
from tidegate.library.connection import Connection
from tidegate.library.hub import Hub
from tidegate.library.request import Request
from tidegate.library.routes import Route, RouteHandler, Routes
from tidegate.library.timing import Watch
from tidegate.library.typed import reading

if TYPE_CHECKING:
    from tidegate.core.admission.shedding import Change
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.core.settings import Settings
    from tidegate.node.services import Services
    from tidegate.wire.handshake import Request as Head

__all__ = [
    "CloseHandler",
    "ConnectHandler",
    "Handlers",
    "HttpHandler",
    "LeavingHandler",
    "MessageHandler",
]

ConnectHandler = Callable[[Connection, Request], Awaitable[None] | None]
# A message is `str | bytes`, or a value of the type that it is annotated with.
MessageHandler = Callable[[Connection, Any], Awaitable[None] | None]
CloseHandler = Callable[[Connection, int, str], Awaitable[None] | None]
LeavingHandler = Callable[[Connection, float], None]
HttpHandler = Callable[[Request], bytes | None]

_ARGUMENTS: Final = {
    "on_connect": ("connection", "request"),
    "on_message": ("connection", "message"),
    "on_close": ("connection", "code", "text"),
    "on_leaving": ("connection", "delay"),
    "on_zone_change": ("change",),
    "http": ("request",),
}
_PLAIN: Final = ("on_leaving", "http")
_OF_CONNECTIONS: Final = frozenset(("on_connect", "on_message", "on_close"))


class Handlers(Application[Engine]):
    """Calls handlers with the `Connection` of the library, which is made when it is first needed.

    It is kept in the engine's connection until that is closed, so that it is the same object in
    all handlers, and no cycle of references outlives the connection.
    """

    hub: Hub
    """The rooms and users of the node."""

    def __init__(
        self, settings: Settings, subprotocols: Sequence[str] = (), cancel_handlers: bool = False
    ) -> None:
        check_names("subprotocols", subprotocols)
        check_type("cancel_handlers", cancel_handlers, bool)
        self.cancels = cancel_handlers
        self.subprotocols = tuple(subprotocols)
        self._query_token = settings.auth.query_token
        self._patience = settings.server.shutdown_timeout
        self._routes = Routes()
        self.background = Background()
        """What runs beside the connections."""
        self._watch = Watch()
        self._used: dict[str, Callable[..., Any]] = {}
        self._on_message: Callable[..., Any] = _nothing
        self._on_connect: Callable[..., Any] | None = None
        self._on_close: Callable[..., Any] | None = None
        self._on_leaving: Callable[..., Any] | None = None
        self._on_zone_change: Callable[..., Any] | None = None
        self._http: Callable[..., Any] | None = None

    def serve(self, services: Services, connections: Callable[[], Iterable[Engine]]) -> Handlers:
        """Serve a node; it is asked for its connections."""
        self.hub = Hub(services, face, connections)
        return self

    def use(self, role: str, handler: Callable[..., Any] | None) -> None:
        """Call this handler from now on; None changes nothing.

        Raises:
            TypeError: it is no function, or cannot be called as it would be called.
            UsageError: there is one for this already.
        """
        if handler is None:
            return
        check_handler(role, handler, *_ARGUMENTS[role], plain=role in _PLAIN)
        if role in self._used:
            raise UsageError(f"{role} is set already; a server calls one such handler")
        self._used[role] = handler
        # The engine times `on_message`, because it looks at the clock anyway.
        over = reading if role == "on_message" else partial(self._watch.over, role)
        setattr(self, f"_{role}", over(handler))

    def route(self, path: str, handler: RouteHandler) -> None:
        """Serve the connections at a path, which may have parameters, by a coroutine each.

        Raises:
            UsageError: the path is wrong, or has a route already.
            TypeError: it is no async function, or cannot be called as it would be called.
        """
        self._routes.add(Route(path, handler))

    def serves(self, path: str, configured: str) -> bool:
        """Whether there is a route at a path, or the other handlers serve it."""
        if self._routes:
            if self._routes.find(path) is not None:
                return True
            if not _OF_CONNECTIONS & self._used.keys():
                return False
        return not configured or path == configured

    def opened(self, connection: Engine, request: Head) -> Any:
        """Start the coroutine of its route, or call `on_connect`."""
        if connection.lease.claims is not None:
            self.hub.place(connection, connection.lease.claims.join)
        found = self._routes.find(connection.path) if self._routes else None
        if found is not None:
            route, parameters = found
            own = face(connection)
            seen = self._seen(request, connection.address) if route.wants_request else None
            own._serve(route.call(own, seen, parameters), self._patience)
            return None
        if self._on_connect is not None:
            return self._on_connect(face(connection), self._seen(request, connection.address))
        return None

    def message(self, connection: Engine, message: str | bytes) -> Any:
        """Queue it for the coroutine of its route, or call `on_message`. HOT."""
        own = connection.context or face(connection)
        if own._inbox is not None:
            return own._inbox.put(message)
        return self._on_message(own, message)

    def blocked(self, seconds: float) -> None:
        """Name `on_message` in the log."""
        self._watch.took("on_message", self._on_message, seconds)

    def leaving(self, connection: Engine, delay: float) -> None:
        """Call `on_leaving`."""
        if self._on_leaving is not None:
            self._on_leaving(face(connection), delay)

    def frame(self, publication: Publication, subprotocol: str | None) -> bytes:  # noqa: ARG002
        """Encode a message to a room. HOT."""
        return self.hub.frame(publication)

    def direct(self, connection: Engine, message: Direct) -> None:
        """Send a message to a connection of its user."""
        self.hub.direct(connection, message)

    def measured(self, connection: Engine, seconds: float) -> None:
        """Keep the latency."""
        if connection.context is not None:
            connection.context.latency = seconds
        self.hub.measured(connection, seconds)

    def closed(self, connection: Engine, code: int, text: str) -> Any:
        """Tell the coroutine of its route, or call `on_close`."""
        self.hub.measured(connection, None)
        own = connection.context
        if own is not None and own._inbox is not None:
            connection.context = None
            own._inbox.closed(code, text)
            return None
        if self._on_close is None:
            connection.context = None
            return None
        own = face(connection)
        connection.context = None
        return self._on_close(own, code, text)

    def respond(self, request: Head, address: str) -> bytes | None:
        """Call `http`."""
        if self._http is None:
            return None
        response: bytes | None = self._http(self._seen(request, address))
        if response is not None:
            check_type("what `http` returns", response, bytes)
        return response

    def zone_changed(self, change: Change) -> Any:
        """Call `on_zone_change`."""
        return None if self._on_zone_change is None else self._on_zone_change(change)

    def stopping(self) -> None:
        """End what runs beside the connections."""
        self.background.cancel()

    def _seen(self, request: Head, address: str) -> Request:
        return Request(
            request.method,
            request.path,
            request.query,
            request.headers,
            address,
            query_token=self._query_token,
        )


def face(connection: Engine) -> Connection:
    """Return the library's object for a connection of the engine."""
    own = connection.context
    if own is None:
        own = Connection(connection)
        if not connection.closed:
            connection.context = own
    assert isinstance(own, Connection)
    return own


def _nothing(*_: object) -> None:
    """Stand in for a handler that was not given."""
