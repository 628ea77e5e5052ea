"""`App`: functions of yours behind the native protocol, and what they do to its rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from tidegate.core.settings import Settings
from tidegate.errors import UsageError
from tidegate.library.actions import Actions
from tidegate.library.arguments import check_handler, check_seconds
from tidegate.library.asked import Asked
from tidegate.library.shortcuts import Shortcuts, settings_of
from tidegate.library.timing import Watch
from tidegate.node.loop import loop_factory
from tidegate.node.node import Node

if TYPE_CHECKING:
    from tidegate.engine.endpoints import Endpoint
    from tidegate.node.control import Snapshot

__all__ = ["App"]

_F = TypeVar("_F", bound=Callable[..., Any])

_ARGUMENTS: Final = {
    "on_connect": ("request", "identity"),
    "on_join": ("client", "room"),
    "on_publish": ("client", "room", "data"),
    "on_disconnect": ("client", "code", "text"),
}


class App(Actions):
    """An application of the native protocol: it is asked before clients do something.

    Run it in your process with `run`, `serve` or `async with`, or with the admin API, the dashboard
    and the metrics of the standalone server: `tidegate serve --app MODULE:NAME`.

    Its functions may be plain or async. While one is at work, only the client waits that it is
    about, and that client's messages keep their order. What a function must answer within
    `hooks.timeout` seconds; `hooks.on_failure` says what holds if it does not, or raises.

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file. `tidegate serve`
            uses its own.
        shortcuts: as of `Server`.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        **shortcuts: Unpack[Shortcuts],
    ) -> None:
        super().__init__()
        self._settings = settings_of(settings, shortcuts)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._watch = Watch()
        self._running: tuple[Node, Asked] | None = None

    # Functions.

    def on_connect(self, function: _F) -> _F:
        """Call this function with the `Request` of each attempt and the `Identity` of its token.

        A bad token never reaches it. It returns None to admit the attempt as that identity, the
        name of a user, another `Identity`, or `refuse("forbidden")`, which it may raise as well.
        Limits are checked afterwards.
        """
        return self._use("on_connect", function)

    def on_join(self, function: _F) -> _F:
        """Call this function with the `Client` and the room of each join that its rule allows.

        It returns None to allow it, or `refuse("refused")`, which it may raise as well.
        """
        return self._use("on_join", function)

    def on_publish(self, function: _F) -> _F:
        """Call this function with the `Client`, the room and the data of each message to a room.

        It returns None to publish the message as it is, other data to publish in its place, or
        `refuse("refused")`, which it may raise as well.
        """
        return self._use("on_publish", function)

    def on_disconnect(self, function: _F) -> _F:
        """Call this function with each `Client` that was connected, the close code and its text."""
        return self._use("on_disconnect", function)

    def _use(self, name: str, function: _F) -> _F:
        check_handler(name, function, *_ARGUMENTS[name])
        if name in self._functions:
            raise UsageError(f"{name} is set already; an application has one such function")
        self._functions[name] = self._watch.over(name, function)
        return function

    # Running.

    def run(self) -> None:
        """Serve as `serve` does, in an event loop of its own: uvloop where it is installed.

        Raises:
            ConfigError: the address cannot be listened on.
            UsageError: it runs already, or has run.
        """
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve in the running loop until SIGTERM, which drains, or SIGINT, which stops."""
        node = self.node(self._settings)
        try:
            await node.serve()
        finally:
            self._stop_asking()

    async def start(self) -> None:
        """Listen. Call `stop` before the loop ends."""
        await self.node(self._settings).start()

    async def stop(self, timeout: float | None = None) -> None:
        """Stop listening and close every connection at once, with 1001.

        Args:
            timeout: seconds after which what is left is cut off; `server.shutdown_timeout` when
                None.
        """
        check_seconds("timeout", timeout)
        if self._running is not None:
            await self._running[0].stop(timeout)
            self._stop_asking()

    async def __aenter__(self) -> App:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    def node(self, settings: Settings, passed: Sequence[Endpoint] = ()) -> Node:
        """Make the node that it runs on, with these settings. It runs once.

        Args:
            passed: sockets to listen on in place of the addresses in the settings.

        Raises:
            ConfigError: a key or certificate cannot be used.
            UsageError: it runs already, or has run.
        """
        if self._running is not None:
            raise UsageError("an application runs once, so make another")
        asked = Asked(self._functions, settings)
        node = Node(
            settings,
            asked.application,
            identifier=asked.identifier(lambda: node.tokens),
            passed=passed,
        )
        self._running = node, asked
        self.runs_on(node.control)
        return node

    def _stop_asking(self) -> None:
        if self._running is not None:
            self._running[1].stop()

    # What is known of it.

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listener."""
        return [] if self._running is None else self._running[0].addresses

    def stats(self) -> Snapshot:
        """The counters, as they are now.

        Raises:
            UsageError: it does not run.
        """
        return self._node.snapshot()
