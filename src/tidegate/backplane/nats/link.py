"""A connection to NATS that is made again when it ends, and tells of every end.

It repeats nothing and buffers nothing while it is down: a message that was lost in between, or sent
twice, would not be seen.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any, Final, TypeAlias

from tidegate.backplane.nats.servers import Servers, reason_of, unreachable
from tidegate.backplane.nats.wire import Message, Wire, request
from tidegate.backplane.traffic import Traffic

__all__ = ["Answer", "Link", "LinkDownError"]

_log = logging.getLogger("tidegate")

_FIRST_DELAY: Final = 0.05
_MOST_DELAY: Final = 1.0
_MOST_ASKED: Final = 100_000  # requests that wait for their answer
_MOST_UNSENT: Final = 64 << 20
_INBOX: Final = 1  # the subscription of answers

Answer: TypeAlias = "Callable[[Message | Exception], bool | None]"
"""Told an answer, or why there is none; returns True when it expects more of them."""


class LinkDownError(Exception):
    """There is no connection, or it ended before the answer."""


class Link:
    """A connection to one server of a cluster.

    Args:
        servers: makes connections.
        prefix: how the subjects begin on which it is answered.
        timeout: seconds in which a request must be answered, and the server a PING.
        up: called when there is a connection, before anything else is sent on it.
        down: called when there is none any more.
        message: told what comes for a subscription: its number and the message.
        refused: told the text of what the server does not permit.
        what: what the log calls the other end.
    """

    def __init__(
        self,
        servers: Servers,
        prefix: str,
        timeout: float,
        *,
        up: Callable[[], None],
        down: Callable[[], None],
        message: Callable[[Message], None],
        refused: Callable[[str], None],
        what: str = "the backplane",
    ) -> None:
        self._servers = servers
        self._timeout = timeout
        self._up = up
        self._down = down
        self._message = message
        self._refused = refused
        self._what = what
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._asked: dict[bytes, tuple[float, Answer]] = {}
        self._pings: deque[tuple[float, Callable[[Exception | None], None]]] = deque()
        self._inbox = f"{prefix}.inbox.{secrets.token_hex(11)}."
        self._cut = len(self._inbox)
        self._number = _INBOX
        self.traffic = Traffic()
        """Counts what goes over it; who publishes to all counts `published`."""
        self.info: dict[str, Any] = {}
        """What the server says of itself."""

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._wire is not None

    @property
    def largest(self) -> int:
        """How many bytes a message may have, its headers included."""
        return int(self.info.get("max_payload", 1 << 20))

    async def start(self) -> None:
        """Connect.

        Raises:
            BackplaneError: that cannot be done.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except Exception as error:
            raise unreachable(error) from error
        self._task = self._loop.create_task(self._serve())

    async def stop(self) -> None:
        """End, and call nobody any more. What was published before is sent. It may start again."""
        if self._task is not None:
            self._task.cancel()  # it alone calls `up` and `down`
            await asyncio.wait([self._task])
        self._asked.clear()
        self._pings.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.write(b"".join(self._unsent))
            wire.close()

    def publish(self, subject: str, data: bytes, reply: str = "", head: bytes = b"") -> None:
        """Publish something; it is lost when there is no connection. HOT.

        Args:
            reply: on which subject answers are expected, if any.
            head: its headers, a line for each, with its end.
        """
        self.traffic.bytes_sent += len(data)
        self._send(request(subject, reply, data, head))

    def subscribe(self, subject: str) -> int:
        """Subscribe, and return the number that messages for it come with."""
        self._number = number = self._number + 1
        self._send(b"SUB %b %d\r\n" % (subject.encode(), number))
        return number

    def unsubscribe(self, number: int) -> None:
        """End a subscription."""
        self._send(b"UNSUB %d\r\n" % number)

    def ask(self, subject: str, data: bytes, answer: Answer, head: bytes = b"") -> None:
        """Publish something that is answered."""
        if self._wire is None or len(self._asked) >= _MOST_ASKED:
            self.traffic.errors["down"] += 1
            answer(LinkDownError("no connection"))
            return
        self.traffic.bytes_sent += len(data)
        self._number = number = self._number + 1
        key = b"%x" % number
        self._asked[key] = (monotonic(), answer)
        self._send(request(subject, self._inbox + key.decode(), data, head))

    def confirm(self, done: Callable[[Exception | None], None]) -> None:
        """Tell `done` when the server has taken all that was sent before."""
        if self._wire is None:
            done(LinkDownError("no connection"))
            return
        self._pings.append((monotonic(), done))
        self._send(b"PING\r\n")

    async def request(self, subject: str, data: bytes) -> Message:
        """Publish something, and wait for its answer.

        Raises:
            Exception: there is none.
        """
        answered: asyncio.Future[Message | Exception] = self._loop.create_future()

        def answer(message: Message | Exception) -> None:
            if not answered.done():
                answered.set_result(message)

        self.ask(subject, data, answer)
        message = await answered
        if isinstance(message, Exception):
            raise message
        return message

    def _send(self, command: bytes) -> None:
        """Send a command together with the others of this turn."""
        if self._wire is not None:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(command)

    def _flush(self) -> None:
        commands, self._unsent = self._unsent, []
        wire = self._wire
        if wire is None:
            return
        wire.write(b"".join(commands))
        if wire.unsent > _MOST_UNSENT:
            wire.end(ConnectionError("the server takes too little"))

    # The connection.

    async def _connect(self) -> None:
        wire = await self._servers.connect(self._make)
        self.info = wire.first.result()
        self._wire = wire
        wire.write(b"SUB %b* %d\r\n" % (self._inbox.encode(), _INBOX))
        self._up()

    def _make(self) -> Wire:
        return Wire(self._received, self._pong, self._error, self._servers.informed)

    async def _serve(self) -> None:
        """Wait for the end of the connection, connect again, and so on."""
        while True:
            wire = self._wire
            assert wire is not None
            watch = self._loop.create_task(self._watch(wire))
            try:
                error = await asyncio.shield(wire.lost)
            finally:
                watch.cancel()
            _log.warning("the link to %s is down: %s", self._what, reason_of(error))
            self._lost()
            since = monotonic()
            await self._connect_again()
            self.traffic.reconnects += 1
            down = monotonic() - since
            _log.info("the link to %s is back after %.1f s", self._what, down)

    def _lost(self) -> None:
        self._wire = None
        self._unsent.clear()
        self.traffic.errors["lost"] += len(self._asked) + len(self._pings)
        self._down()
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            answer(LinkDownError("the connection has ended"))
        pings, self._pings = self._pings, deque()
        for _, done in pings:
            done(LinkDownError("the connection has ended"))

    async def _connect_again(self) -> None:
        delay = _FIRST_DELAY
        while True:
            await asyncio.sleep(delay * (0.5 + random() / 2))  # noqa: S311 - it spreads nodes
            try:
                await self._connect()
            except Exception as error:
                _log.debug("%s cannot be reached: %s", self._what, reason_of(error))
            else:
                return
            delay = min(delay * 2, _MOST_DELAY)

    async def _watch(self, wire: Wire) -> None:
        """Look whether the server answers in time, and JetStream too."""
        timeout = self._timeout
        while True:
            await asyncio.sleep(timeout / 4)
            oldest = monotonic() - timeout
            if not self._pings:
                self.confirm(_ignore)
            elif self._pings[0][0] < oldest:
                wire.end(TimeoutError(f"no answer in {timeout:g} s"))
                return
            late = []
            for key, (at, _) in self._asked.items():  # in the order of their times
                if at >= oldest:
                    break
                late.append(key)
            for key in late:
                _, answer = self._asked.pop(key)
                answer(TimeoutError(f"no answer in {timeout:g} s"))

    # What the server sends.

    def _received(self, message: Message) -> None:
        if message.sid != _INBOX:
            self.traffic.received += 1
            self.traffic.bytes_received += len(message.data)
            self._message(message)
            return
        key = message.subject[self._cut :]
        asked = self._asked.pop(key, None)
        if asked is not None and asked[1](message) and self._wire is not None:
            self._asked[key] = (monotonic(), asked[1])

    def _pong(self) -> None:
        if self._pings:
            _, done = self._pings.popleft()
            done(None)

    def _error(self, text: str) -> None:
        if text.lower().startswith("permissions violation"):
            self.traffic.errors["refused"] += 1
            self._refused(text)


def _ignore(_: Exception | None) -> None:
    """Nobody wants to know."""
