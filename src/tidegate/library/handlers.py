"""The application that calls your handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tidegate.engine.application import Application
from tidegate.engine.connection import Connection as Engine
from tidegate.library.arguments import check_handler, check_names, check_type
from tidegate.library.connection import Connection
from tidegate.library.timing import Watch

if TYPE_CHECKING:
    from tidegate.wire.handshake import Request

__all__ = [
    "CloseHandler",
    "ConnectHandler",
    "Handlers",
    "HttpHandler",
    "LeavingHandler",
    "MessageHandler",
]

ConnectHandler = Callable[[Connection, "Request"], Awaitable[None] | None]
MessageHandler = Callable[[Connection, str | bytes], Awaitable[None] | None]
CloseHandler = Callable[[Connection, int, str], Awaitable[None] | None]
LeavingHandler = Callable[[Connection, float], None]
HttpHandler = Callable[["Request"], bytes | None]


class Handlers(Application[Engine]):
    """Calls handlers with the `Connection` of the library, which is made when it is first needed.

    It is kept in the engine's connection until that is closed, so that it is the same object in
    all handlers, and no cycle of references outlives the connection.
    """

    def __init__(
        self,
        subprotocols: Sequence[str],
        on_connect: ConnectHandler | None,
        on_message: MessageHandler | None,
        on_close: CloseHandler | None,
        on_leaving: LeavingHandler | None,
        http: HttpHandler | None,
        cancel_handlers: bool = False,
    ) -> None:
        check_names("subprotocols", subprotocols)
        check_handler("on_connect", on_connect, "connection", "request")
        check_handler("on_message", on_message, "connection", "message")
        check_handler("on_close", on_close, "connection", "code", "text")
        check_handler("on_leaving", on_leaving, "connection", "delay", plain=True)
        check_handler("http", http, "request", plain=True)
        check_type("cancel_handlers", cancel_handlers, bool)
        self.cancels = cancel_handlers
        self.subprotocols = tuple(subprotocols)
        self._watch = watch = Watch()
        # A message is timed by the engine, which looks at the clock anyway.
        self._on_message = on_message or _nothing
        self._on_connect = on_connect and watch.over("on_connect", on_connect)
        self._on_close = on_close and watch.over("on_close", on_close)
        self._on_leaving = on_leaving and watch.over("on_leaving", on_leaving)
        self._http = http and watch.over("http", http)

    def opened(self, connection: Engine, request: Request) -> Any:
        """Call `on_connect`."""
        if self._on_connect is not None:
            return self._on_connect(face(connection), request)
        return None

    def message(self, connection: Engine, message: str | bytes) -> Any:
        """Call `on_message`. HOT."""
        return self._on_message(connection.context or face(connection), message)

    def blocked(self, seconds: float) -> None:
        """Name `on_message` in the log."""
        self._watch.took("on_message", self._on_message, seconds)

    def leaving(self, connection: Engine, delay: float) -> None:
        """Call `on_leaving`."""
        if self._on_leaving is not None:
            self._on_leaving(face(connection), delay)

    def closed(self, connection: Engine, code: int, text: str) -> Any:
        """Call `on_close`."""
        if self._on_close is None:
            connection.context = None
            return None
        own = face(connection)
        connection.context = None
        return self._on_close(own, code, text)

    def respond(self, request: Request) -> bytes | None:
        """Call `http`."""
        response = None if self._http is None else self._http(request)
        if response is not None:
            check_type("what `http` returns", response, bytes)
        return response


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
