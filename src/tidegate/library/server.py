"""`Server`: the gate, the engine and your handlers, as one object."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from tidegate.core.settings import Settings
from tidegate.engine.endpoints import adopt
from tidegate.errors import ConfigError, UsageError
from tidegate.library.arguments import check_seconds
from tidegate.library.connection import Connection, Room
from tidegate.library.decorators import Decorators
from tidegate.library.handlers import (
    CloseHandler,
    ConnectHandler,
    Handlers,
    HttpHandler,
    LeavingHandler,
    MessageHandler,
    face,
)
from tidegate.library.hub import Hub
from tidegate.library.identify import Identifying
from tidegate.library.sent import Sent
from tidegate.library.shortcuts import Shortcuts, settings_of
from tidegate.library.users import User
from tidegate.node import systemd
from tidegate.node.loop import loop_factory
from tidegate.node.node import Node
from tidegate.node.systemd import Passed

if TYPE_CHECKING:
    from tidegate.engine.sending import Message
    from tidegate.node.control import Snapshot
    from tidegate.node.pressure.zones import ZoneHandler

__all__ = ["Server", "passed_sockets"]


def passed_sockets() -> list[socket.socket]:
    """Return the sockets that systemd, or another supervisor, has opened for this process.

    Give them to `Server(sockets=...)`. They can be taken over once; without any the list is empty.
    They come by the environment, in `LISTEN_FDS` and `LISTEN_PID` (sd_listen_fds(3)).

    Raises:
        ConfigError: what was passed is no listening socket, or is named as one for something else.
    """
    passed = systemd.passed_sockets(os.environ)
    if passed.admin:
        raise ConfigError("a socket named admin was passed (LISTEN_FDNAMES); this is a Server")
    return [endpoint.sock for endpoint in passed.public]


class Server(Decorators):
    """A WebSocket server behind the gate, with handlers of yours. It serves once.

    Each handler may be plain or async, but for `on_leaving` and `http`. Those of one connection
    are called one at a time and in order; while an async one waits, only its own connection waits
    with it. A handler that raises closes its connection with 1011; the error is logged and nothing
    of it is shown to the peer.

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file, such as
            `{"limits": {"per_ip": 20}}`. The defaults otherwise.
        on_connect: called with the connection and the request when a connection is open.
        on_message: called with the connection and a `str` or `bytes` message.
        on_close: called with the connection, the close code and its text, once, at the end.
        on_leaving: called with the connection and the seconds until it is closed, when the server
            drains. Plain.
        on_zone_change: called with the `Change` when the pressure makes the zone another one;
            plain or async. What it raises is logged.
        subprotocols: the subprotocols that your handlers speak, the preferred one first. Beside
            them every server speaks `tidegate.v1`, which a page can offer with its token.
        http: given every request that asks for no WebSocket; returns a whole response (see
            `tidegate.http_response`) or None for the usual refusal. Plain.
        cancel_handlers: whether the async handler at work for a connection is cancelled when its
            client closes the connection or is lost, and messages that wait are dropped. If not,
            the handler goes on, and those messages are handled after it.
        shortcuts: common settings by their own names, which win over `settings`: `host`, `port`,
            `path`, `connections`, `per_ip`, `per_user`, `per_room`, `messages_per_second` and
            `max_message_size` (bytes). With `port=0`, `addresses` says which one it is.
        sockets: listening sockets that another process has opened and keeps open, to use in place
            of `server.host` and `server.port`. When the server drains, it leaves clients that
            wait in their queues to the next process, and refuses nobody.

    Raises:
        ConfigError: a setting is wrong, or a key or certificate cannot be used.
        TypeError: a handler is no function, or cannot be called with what it would be called with.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        on_connect: ConnectHandler | None = None,
        on_message: MessageHandler | None = None,
        on_close: CloseHandler | None = None,
        on_leaving: LeavingHandler | None = None,
        on_zone_change: ZoneHandler | None = None,
        subprotocols: Sequence[str] = (),
        http: HttpHandler | None = None,
        cancel_handlers: bool = False,
        sockets: Sequence[socket.socket] = (),
        **shortcuts: Unpack[Shortcuts],
    ) -> None:
        settings = settings_of(settings, shortcuts)
        handlers = Handlers(settings, subprotocols, cancel_handlers)
        identifying = Identifying(settings.auth, lambda: self._node.tokens)
        super().__init__(handlers, identifying)
        handlers.use("on_connect", on_connect)
        handlers.use("on_message", on_message)
        handlers.use("on_close", on_close)
        handlers.use("on_leaving", on_leaving)
        handlers.use("on_zone_change", on_zone_change)
        handlers.use("http", http)
        passed = Passed([adopt(sock) for sock in sockets])
        self._node = Node(
            passed.located(settings),
            lambda services: handlers.serve(services, lambda: self._node.connections),
            identifier=identifying,
            on_zone_change=handlers.zone_changed,
            passed=passed.public,
        )

    # Running.

    def run(self) -> None:
        """Serve as `serve` does, in an event loop of its own: uvloop where it is installed.

        Raises:
            ConfigError: the address cannot be listened on.
            UsageError: this server has been started or stopped before, or a loop runs here already.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass  # as it should be
        else:
            raise UsageError("run() makes a loop of its own; in a running one, await serve()")
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve in the running loop until SIGTERM, which drains, or SIGINT, which stops.

        A second signal ends the process at once. Signals come to the main thread only: in another
        one, serve until `stop` or `drain` is called in this loop.

        Raises:
            ConfigError: the address cannot be listened on.
            UsageError: this server has been started or stopped before.
        """
        self._hub.started()
        self._handlers.background.start()
        try:
            await self._node.serve()
        finally:
            await self._handlers.background.end()

    async def start(self) -> None:
        """Listen. Call `stop` before the loop ends.

        Raises:
            ConfigError: the address cannot be listened on.
            UsageError: this server has been started or stopped before.
        """
        self._hub.started()
        await self._node.start()
        self._handlers.background.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Stop listening and close every connection at once, with 1001.

        Stopping again, or while a drain ends, waits for the first to be done.

        Args:
            timeout: seconds after which what is left is cut off; `server.shutdown_timeout` when
                None.
        """
        self._hub.check_thread()
        check_seconds("timeout", timeout)
        await self._node.stop(timeout)
        await self._handlers.background.end()

    async def drain(self, window: float | None = None) -> None:
        """Admit nobody, close all connections spread over a window, and stop.

        Attempts are refused with a reason. Every connection gets what was sent to it before, then
        a close frame with 1012. What has not ended `server.close_timeout` seconds after the window
        is cut off.

        Args:
            window: seconds; `drain.window` when None, 0 for all at once.
        """
        self._hub.check_thread()
        check_seconds("window", window)
        await self._node.drain(window)
        await self._handlers.background.end()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # Rooms and users.

    def room(self, name: str) -> Room:
        """Return a room by its name; it need not have members.

        Raises:
            TypeError: the name is no text.
        """
        return self._hub.room(name)

    def user(self, name: str) -> User:
        """Return a user by name, with all connections; it need not be connected.

        Raises:
            TypeError: the name is no text.
        """
        return self._hub.user(name)

    def broadcast(self, message: Message, *, exclude: Connection | None = None) -> Sent:
        """Send a text (`str`) or binary (bytes-like) message to every connection.

        It goes out as to a room: encoded once, in batches between which others are served.

        Args:
            exclude: a connection that does not get it.

        Raises:
            TypeError: it is of another type.
            UsageError: called in another thread; use `call_soon` there.
        """
        return self._hub.broadcast(message, exclude)

    def broadcast_json(self, value: Any, *, exclude: Connection | None = None) -> Sent:
        """Send a text with JSON of mappings, dataclasses, Structs, pydantic models, and more.

        Raises:
            TypeError: no JSON can be made of it.
            UsageError: called in another thread; use `call_soon` there.
        """
        return self._hub.broadcast_json(value, exclude)

    @property
    def rooms(self) -> list[str]:
        """The names of the rooms that have members; a copy."""
        return self._hub.rooms

    @property
    def users(self) -> list[str]:
        """The users that are connected; a copy."""
        return self._hub.users

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the server's thread soon, from any thread.

        Whatever else a server and its connections do belongs to the thread in which the event loop
        runs, and raises `UsageError` in another one (`Connection.send` does not look):

            server.call_soon(server.room("news").send, "from a thread")

        Raises:
            UsageError: the server does not run.
        """
        self._hub.call_soon(function, *arguments)

    # What is known of it.

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._node.settings

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listener."""
        return self._node.addresses

    async def revoke(self, user: str, before: float | None = None) -> int:
        """Accept no token of a user any more that was issued before a time; end its connections.

        Returns how many connections were ended. It is kept for `auth.revocation_ttl`.

        Args:
            before: in Unix seconds; now when None.

        Raises:
            UsageError: the user is no name, the time lies ahead, or too many are revoked.
        """
        self._hub.check_thread()
        return (await self._node.control.revoke(user, before)).closed

    @property
    def connections(self) -> Iterator[Connection]:
        """Every connection that has a socket, in no order."""
        self._hub.check_thread()
        return map(face, self._node.connections)

    @property
    def _hub(self) -> Hub:
        return self._handlers.hub

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""
        return self._node.ready

    @property
    def draining(self) -> bool:
        """True while nobody is admitted because the server is going away."""
        return self._node.shutdown.begun

    def stats(self) -> Snapshot:
        """The counters, as they are now."""
        self._hub.check_thread()
        return self._node.control.snapshot()
