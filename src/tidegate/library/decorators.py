"""The handlers of a server, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate.library.background import TaskFunction
from tidegate.library.handlers import Handlers
from tidegate.library.identify import IdentifyHandler, Identifying
from tidegate.library.request import Request
from tidegate.library.routes import RouteHandler

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Identity

__all__ = ["Decorators"]

_H = TypeVar("_H", bound=Callable[..., Any])
_Route = TypeVar("_Route", bound=RouteHandler)
_Task = TypeVar("_Task", bound=TaskFunction)
_Identify = TypeVar("_Identify", bound=IdentifyHandler)


class Decorators:
    """The part of `Server` that takes functions. Each is checked at once, and returned as it is."""

    def __init__(self, handlers: Handlers, identifying: Identifying) -> None:
        self._handlers = handlers
        self._identifying = identifying

    def identify(self, handler: _Identify) -> _Identify:
        """Ask this function who each attempt belongs to, in place of the token.

        It is called with the `Request`, before the WebSocket is open, and returns an `Identity`,
        the name of a user, None for an anonymous client, or `refuse(...)`, which it may raise as
        well. It may be async: it is cancelled when the client leaves, and after
        `server.handshake_timeout` seconds, when the attempt is refused with `decision_timeout`.
        What else it raises is logged, and the attempt is refused with `internal_error`.

        Raises:
            TypeError: it is no function, or cannot be called with a request.
            UsageError: there is one already.
        """
        self._identifying.use(handler)
        return handler

    def token_identity(self, request: Request) -> Identity:
        """Return who a request belongs to by its token, as without a function of yours.

        Raises:
            Refused: the token is not valid, or there is none and there must be one.
        """
        return self._identifying.by_token(request)

    def route(self, path: str) -> Callable[[_Route], _Route]:
        """Serve every connection at a path by an async function: `@server.route("/chat/{room}")`.

        The function is called with the connection, the parameters of the path by name, and the
        request if it has a parameter `request`. A parameter is a `str`, or an `int` where it is
        annotated so. Its connection is open while it runs: it is closed with 1000 when the function
        returns, and with 1011 when it raises, which is logged. A `Refused` that it lets out, of a
        room that is full, say, is the reason of the close. A function that goes on for
        `server.shutdown_timeout` seconds after its client has left is cancelled.

        `async for message in connection` has the messages, and ends with the connection.

        An attempt at a path without a route is refused with `not_found`. Where there are
        `on_connect`, `on_message` or `on_close` too, they serve `server.path`.

        Raises:
            UsageError: the path is wrong, or has a route already.
            TypeError: it is no async function, or cannot be called as it would be called.
        """

        def add(handler: _Route) -> _Route:
            self._handlers.route(path, handler)
            return handler

        return add

    def on_connect(self, handler: _H) -> _H:
        """Call this function as `on_connect`: with each connection that opens and its `Request`."""
        self._handlers.use("on_connect", handler)
        return handler

    def on_message(self, handler: _H) -> _H:
        """Call this function as `on_message`: with a connection and each message of it."""
        self._handlers.use("on_message", handler)
        return handler

    def on_close(self, handler: _H) -> _H:
        """Call this function as `on_close`: with a connection that ended, its code and text."""
        self._handlers.use("on_close", handler)
        return handler

    def on_leaving(self, handler: _H) -> _H:
        """Call this function as `on_leaving`: with each connection when the server drains."""
        self._handlers.use("on_leaving", handler)
        return handler

    def on_zone_change(self, handler: _H) -> _H:
        """Call this function as `on_zone_change`: with each `Change` of the zone."""
        self._handlers.use("on_zone_change", handler)
        return handler

    def http(self, handler: _H) -> _H:
        """Call this function as `http`: with each request that asks for no WebSocket."""
        self._handlers.use("http", handler)
        return handler

    def task(self, function: _Task) -> _Task:
        """Run an async function for as long as the server runs: a ticker, or what reads a queue.

        It begins with the server, and is cancelled when the server stops. What it raises is
        logged, and the server goes on without it.

        Raises:
            TypeError: it is no async function, or takes arguments.
            UsageError: the server has been started.
        """
        self._handlers.background.add(function)
        return function
