"""The connection of a node to NATS, and who of its parts hears what on it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from tidegate.backplane.nats.link import Link
from tidegate.backplane.nats.servers import Servers, unreachable
from tidegate.backplane.nats.subjects import token

if TYPE_CHECKING:
    from tidegate.backplane.nats.wire import Message
    from tidegate.core.settings import BackplaneSettings

__all__ = ["Bus"]

_log = logging.getLogger("tidegate")

_SUBJECT: Final = re.compile(r'subscription to "([^"]*)"', re.IGNORECASE)


async def _nothing() -> None:
    pass


class Bus:
    """What the parts of a backplane share.

    Args:
        servers: makes connections.
        settings: the prefix of all subjects, and how long an answer may take.
        node: the name of this node: no other one has it.
    """

    def __init__(self, servers: Servers, settings: BackplaneSettings, node: str) -> None:
        self.node = node
        self.timeout = settings.timeout
        self.prefix = token(settings.prefix)
        self.link = Link(
            servers,
            self.prefix,
            settings.timeout,
            up=self._up,
            down=self._down,
            message=self._message,
            refused=self._refused,
        )
        self.traffic = self.link.traffic
        self._others: Callable[[Message], None] = lambda _: None
        self._refused_others: Callable[[str], None] = lambda _: None
        self._handlers: dict[str, Callable[[Message], None]] = {}
        self._numbers: dict[int, Callable[[Message], None]] = {}
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []
        self._heards: list[Callable[[], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._prepares: list[Callable[[], Awaitable[None]]] = []
        self._readies: list[Callable[[], Awaitable[None]]] = []
        self._hears = False
        self._started = False
        self._problem = ""

    # What parts want, before the start.

    def name(self, *parts: str) -> str:
        """Return the name of a subject."""
        return ".".join((self.prefix, *map(token, parts)))

    def hear(self, subject: str, handler: Callable[[Message], None]) -> None:
        """Be subscribed to a subject for as long as there is a connection."""
        self._handlers[subject] = handler

    def serve(self, others: Callable[[Message], None], refused: Callable[[str], None]) -> None:
        """Give what comes for all other subscriptions to this one.

        Args:
            others: told each message.
            refused: told the subject of a subscription that the server does not permit.
        """
        self._others, self._refused_others = others, refused

    def watch(
        self,
        *,
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
        stopped: Callable[[], None] = lambda: None,
        prepare: Callable[[], Awaitable[None]] = _nothing,
        ready: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """Be told of each connection, and of its end.

        Args:
            up: called when there is one, before anything else is sent on it.
            down: called when there is none any more.
            heard: called when the node hears all that is sent to it: at the start, and after each
                time in which it may have missed something.
            stopped: called at the end.
            prepare: awaited at the start, before `heard`; it may raise BackplaneError.
            ready: awaited at the start, after `heard`.
        """
        self._ups.append(up)
        self._downs.append(down)
        self._heards.append(heard)
        self._ends.append(stopped)
        self._prepares.append(prepare)
        self._readies.append(ready)

    # Life.

    async def start(self) -> None:
        """Connect.

        Raises:
            BackplaneError: the server cannot be reached, or does not do what it should.
        """
        self._started = False
        self._problem = ""
        await self.link.start()
        await self._confirmed()
        if self._problem:
            raise unreachable(ConnectionError(self._problem))
        for prepare in self._prepares:
            await prepare()
        self._started = True
        self._heard(None)
        for ready in self._readies:
            await ready()

    async def _confirmed(self) -> None:
        """Wait until the server has taken what was sent.

        Raises:
            BackplaneError: the connection has ended before.
        """
        heard: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.link.confirm(heard.set_result)
        problem = await heard
        if problem is not None:
            raise unreachable(problem) from problem

    async def stop(self) -> None:
        """End the connection."""
        for ended in self._ends:
            ended()
        await self.link.stop()

    @property
    def up(self) -> bool:
        """Whether this node can send, and gets what others send."""
        return self.link.open and self._hears

    def tell(self, subject: str, data: bytes) -> None:
        """Publish something; it is lost when there is no connection."""
        if len(data) <= self.link.largest:
            self.link.publish(subject, data)

    # The link.

    def _up(self) -> None:
        self._numbers = {self.link.subscribe(s): handler for s, handler in self._handlers.items()}
        for up in self._ups:
            up()
        self._hears = True
        if self._started:
            self.link.confirm(self._heard)

    def _heard(self, error: Exception | None) -> None:
        if error is None:
            for heard in self._heards:
                heard()

    def _down(self) -> None:
        self._hears = False
        for down in self._downs:
            down()

    def _message(self, message: Message) -> None:
        """The server sends something. HOT."""
        try:
            self._numbers.get(message.sid, self._others)(message)
        except (msgspec.DecodeError, ValueError) as error:
            _log.warning("the backplane sent what no node sends: %s", error)

    def _refused(self, text: str) -> None:
        """The server does not permit something; it says only on which subject."""
        _log.warning("the backplane does not permit: %s", text)
        found = _SUBJECT.search(text)
        if found is not None:
            if found[1] in self._handlers:
                self._problem = text
            self._refused_others(found[1])
