"""The two connections of a node to its server, and what the parts of the backplane do with them.

One is for commands, one subscribes: to some channels for as long as the node runs (`hear`), and to
those of the rooms that have members here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tidegate.backplane.redis.link import Link, LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS
from tidegate.backplane.redis.servers import unreachable
from tidegate.backplane.traffic import Traffic

if TYPE_CHECKING:
    from tidegate.backplane.redis.link import Answer
    from tidegate.backplane.redis.scripts import Script
    from tidegate.backplane.redis.servers import Connector
    from tidegate.core.settings import BackplaneSettings

__all__ = ["Links", "RoomChannels"]

_log = logging.getLogger("tidegate")


class RoomChannels(Protocol):
    """Who subscribes to rooms: told what happens on the link that does it."""

    def listening_up(self) -> None:
        """There is a link; it is subscribed to no room."""

    def listening_down(self) -> None:
        """There is none any more."""

    def confirmed(self, channel: bytes, /) -> None:
        """The server has confirmed a subscription."""

    def published(self, channel: bytes, data: bytes, /) -> None:
        """Something was published. HOT."""


class Links:
    """The connections of one node.

    Args:
        connector: makes connections to the server.
        settings: the prefix of all names, and how long an answer may take.
        node: the name of this node: no other one has it.
    """

    def __init__(self, connector: Connector, settings: BackplaneSettings, node: str) -> None:
        self.node = node
        self.timeout = settings.timeout
        self.prefix = f"{settings.prefix}:"
        """How all names begin."""
        self.traffic = Traffic()
        """Counts what goes over them."""
        self.commands = Link(
            connector,
            "command",
            settings.timeout,
            up=self._commands_up,
            down=self._commands_down,
            traffic=self.traffic,
        )
        self.listening = Link(
            connector,
            "subscription",
            settings.timeout,
            up=self._listening_up,
            down=self._listening_down,
            pushed=self._pushed,
            traffic=self.traffic,
        )
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []
        self._heard_again: list[Callable[[], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._handlers: dict[bytes, Callable[[bytes], None]] = {}
        self._unconfirmed: set[bytes] = set()
        self._rooms: RoomChannels | None = None
        self._heard = asyncio.Event()
        self._started = False

    # What parts want, before the start.

    def name(self, *parts: str) -> bytes:
        """Return the name of a key or a channel."""
        return (self.prefix + ":".join(parts)).encode()

    def room(self, room: str) -> bytes:
        """Return the name of a room's channel, with which the names of its keys begin.

        It has braces, so that a cluster keeps all of them on the same server.
        """
        return f"{self.prefix}{{{room}}}".encode()

    def watch(
        self,
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Be told of each connection for commands, and of its end.

        Args:
            up: called when there is one, before anything else is sent on it.
            down: called when there is none any more.
            heard: called when the node hears all that is sent to it and can send: at the start, and
                after each time in which it may have missed something.
            stopped: called at the end.
        """
        self._ups.append(up)
        self._downs.append(down)
        self._heard_again.append(heard)
        self._ends.append(stopped)

    def hear(self, channel: bytes, handler: Callable[[bytes], None]) -> None:
        """Be subscribed to a channel for as long as there is a connection."""
        self._handlers[channel] = handler

    def serve(self, rooms: RoomChannels) -> None:
        """Give what concerns all other channels to this one."""
        self._rooms = rooms

    # Life.

    async def start(self) -> None:
        """Connect.

        Raises:
            BackplaneError: the server cannot be reached.
        """
        if self._started:
            return
        self._started = True
        await self.commands.start()
        await self.listening.start()
        asked = asyncio.Event()
        try:
            async with asyncio.timeout(self.timeout):
                await self._heard.wait()
                # What parts have asked for at the start is answered before this is.
                self.commands.ask("PING", answer=lambda _: asked.set())
                await asked.wait()
        except TimeoutError as error:
            raise unreachable(error) from error

    async def stop(self) -> None:
        """End the connections, and call nobody any more."""
        for end in self._ends:
            end()
        await self.listening.stop()
        await self.commands.stop()

    @property
    def up(self) -> bool:
        """Whether it can send, and hears what others send."""
        return self.commands.open and self._heard.is_set()

    # Commands.

    def run(
        self, script: Script, keys: Sequence[bytes | str], *arguments: Any, answer: Answer
    ) -> None:
        """Run a script; one that the server has forgotten is given again. HOT."""
        self.commands.ask(
            "EVALSHA",
            script.sha,
            len(keys),
            *keys,
            *arguments,
            answer=lambda found: self._ran(script, keys, arguments, answer, found),
        )

    def _ran(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        arguments: tuple[Any, ...],
        answer: Answer,
        found: Any,
    ) -> None:
        if isinstance(found, Exception) and str(found).startswith("No matching script"):
            self.commands.ask("EVAL", script.text, len(keys), *keys, *arguments, answer=answer)
        else:
            answer(found)

    def _commands_up(self) -> None:
        for script in SCRIPTS.values():
            self.commands.ask("SCRIPT", "LOAD", script.text, answer=_loaded)
        for up in self._ups:
            up()
        if self._heard.is_set():
            self._tell_heard()

    def _commands_down(self) -> None:
        for down in self._downs:
            down()

    # What is sent to this node.

    def _listening_up(self) -> None:
        """There is a link again: subscribe to everything."""
        self._unconfirmed = set(self._handlers)
        self.listening.tell("SUBSCRIBE", *self._handlers)
        if self._rooms is not None:
            self._rooms.listening_up()

    def _listening_down(self) -> None:
        self._heard.clear()
        if self._rooms is not None:
            self._rooms.listening_down()

    def _pushed(self, pushed: list[Any]) -> None:
        """The server sends something on the link that subscribes. HOT."""
        kind, channel, data = pushed
        handler = self._handlers.get(channel)
        if kind == b"message":
            self.traffic.received += 1
            self.traffic.bytes_received += len(data)
            try:
                if handler is not None:
                    handler(data)
                elif self._rooms is not None:
                    self._rooms.published(channel, data)
            except (msgspec.DecodeError, ValueError) as error:
                _log.warning("the backplane sent what no node sends: %s", error)
        elif kind == b"subscribe":
            if handler is None:
                if self._rooms is not None:
                    self._rooms.confirmed(channel)
            else:
                self._hears(channel)

    def _hears(self, channel: bytes) -> None:
        self._unconfirmed.discard(channel)
        if not self._unconfirmed and not self._heard.is_set():
            self._heard.set()
            if self.commands.open:
                self._tell_heard()

    def _tell_heard(self) -> None:
        for heard in self._heard_again:
            heard()


def _loaded(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.error("the backplane does not take scripts: %s", answer)
