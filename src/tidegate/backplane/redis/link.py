"""One connection to a server, made again whenever it ends.

The commands of a turn are sent together, and answered in their order. None is ever sent twice: who
asked is told `LinkDownError` when the connection ends before the answer, and knows what to do.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.redis.servers import leave_sentinels, reason_of, unreachable
from tidegate.backplane.traffic import Traffic

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from tidegate.backplane.redis.servers import Connector

__all__ = ["Answer", "Link", "LinkDownError"]

_log = logging.getLogger("tidegate")

_FIRST_DELAY: Final = 0.05
_MOST_DELAY: Final = 1.0
_LASTING: Final = 2.0  # seconds after which a connection has been a good one
_MOST_ASKED: Final = 100_000  # commands that wait for their answer

Answer = Callable[[Any], None]
"""Told what a server answered, an exception of redis-py when it refused, or `LinkDownError`."""


class LinkDownError(Exception):
    """There is no connection, or it ended before the answer."""


class Link:
    """A connection to one server.

    Args:
        connector: makes connections.
        name: says in the log which link of the node it is.
        timeout: seconds in which a command must be answered; else the connection is given up.
        up: called when there is a connection, before anything else is sent on it.
        down: called when there is none any more.
        pushed: told what the server sends unasked: then it is a link that subscribes.
        traffic: counts what goes over it.
    """

    def __init__(
        self,
        connector: Connector,
        name: str,
        timeout: float,
        *,
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
        pushed: Callable[[list[Any]], None] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._connector = connector
        self._name = name
        self._timeout = timeout
        self._up = up
        self._down = down
        self._pushed = pushed
        self._traffic = Traffic() if traffic is None else traffic
        self._connection: AbstractConnection | None = None
        self._connected_at = 0.0
        self._delay = _FIRST_DELAY
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[tuple[Any, ...]] = []
        self._asked: deque[tuple[float, Answer]] = deque()
        self._wake = asyncio.Event()
        self._stopped = self._given_up = False
        self.run = b""
        """Which run of the server this is connected to: another one after each start of it, and
        another one after a failover."""

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def peer(self) -> tuple[str, int] | None:
        """Which server it is connected to, where that is known by host and port."""
        connection: Any = self._connection
        return None if connection is None else (connection.host, connection.port)

    @property
    def waits(self) -> int:
        """How many commands wait for their answer."""
        return len(self._asked)

    async def start(self) -> None:
        """Connect.

        Raises:
            BackplaneError: that cannot be done.
        """
        try:
            await self._connect()
        except Exception as error:
            raise unreachable(error) from error
        self.begin()

    def begin(self) -> None:
        """Connect, if there is no connection yet, and again and again; do not wait for it."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._serve())

    def again(self) -> None:
        """Give the connection up soon, if there is one, and make another one."""
        self._given_up = self.open

    async def stop(self, *, answer: bool = False) -> None:
        """End, and call nobody any more, but those who wait for an `answer` if that is wanted."""
        self._stopped = True
        if not answer:
            self._asked.clear()
        self._unsent.clear()
        self._up = self._down = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._disconnect()

    def ask(self, *command: Any, answer: Answer) -> None:
        """Send a command in this turn, and tell `answer` what comes back. HOT."""
        if self._connection is None or len(self._asked) >= _MOST_ASKED:
            self._traffic.errors["down"] += 1
            answer(LinkDownError())
            return
        self._asked.append((monotonic(), answer))
        self._unsent.append(command)
        self._wake.set()

    def tell(self, *command: Any) -> None:
        """Send a command whose answer is pushed; it is lost when there is no connection."""
        if self._connection is not None:
            self._unsent.append(command)
            self._wake.set()

    # The connection.

    async def _connect(self) -> None:
        connection: Any = self._connector()  # `connect` has no types
        try:
            async with asyncio.timeout(self._timeout * 2):
                await connection.connect()
                await connection.send_command("INFO", "server")
                info = await connection.read_response(disable_decoding=True)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await leave_sentinels(connection)
        self.run = _run_of(info)
        self._connection = connection
        self._connected_at = monotonic()
        self._up()

    async def _serve(self) -> None:
        """Read and write until the connection ends, connect again, and so on."""
        if self._connection is None:
            await self._connect_again()
        while not self._stopped:  # asking a Sentinel may swallow that this is cancelled
            connection = self._connection
            assert connection is not None
            work = [
                self._loop.create_task(part)
                for part in (
                    self._read(connection),
                    self._write(connection),
                    self._watch(),
                )
            ]
            try:
                done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in work:
                    task.cancel()
            await asyncio.wait(work)
            self._lost(next(iter(done)))
            await self._disconnect()
            since = monotonic()
            if since - self._connected_at > _LASTING:
                self._delay = _FIRST_DELAY
            await self._connect_again()
            self._traffic.reconnects += 1
            down = monotonic() - since
            _log.info("the %s link to the backplane is back after %.1f s", self._name, down)

    def _lost(self, ended: asyncio.Task[None]) -> None:
        from redis.exceptions import RedisError

        error = ended.exception()
        assert error is not None, "these end by what they raise"
        problem = reason_of(error)
        unknown = None if isinstance(error, RedisError | OSError) else error
        _log.warning(
            "the %s link to the backplane is down: %s", self._name, problem, exc_info=unknown
        )

    async def _connect_again(self) -> None:
        while True:
            await asyncio.sleep(self._delay * (0.5 + random() / 2))  # noqa: S311 - it spreads nodes
            # Also after one that ends at once, as in a cluster that is down.
            self._delay = min(self._delay * 2, _MOST_DELAY)
            try:
                await self._connect()
            except Exception as error:
                _log.debug("the backplane cannot be reached: %s", reason_of(error))
            else:
                return

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._unsent.clear()
        if connection is None:
            return
        self._down()
        asked, self._asked = self._asked, deque()
        self._traffic.errors["lost"] += len(asked)
        for _, answer in asked:
            answer(LinkDownError())
        await connection.disconnect(nowait=True)

    async def _write(self, connection: AbstractConnection) -> None:
        from hiredis import pack_command  # that of redis-py is in Python

        wake = self._wake
        while True:
            await wake.wait()
            wake.clear()
            commands, self._unsent = self._unsent, []
            packed = b"".join(map(pack_command, commands))
            self._traffic.bytes_sent += len(packed)
            await connection.send_packed_command([packed], check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        from redis.exceptions import (
            AskError,
            ClusterDownError,
            NoScriptError,
            ReadOnlyError,
            ResponseError,
        )

        read, asked, pushed = connection.read_response, self._asked, self._pushed
        while True:
            try:
                reply: Any = await read(disable_decoding=True, timeout=math.inf)
            except (ReadOnlyError, AskError, ClusterDownError):
                raise  # it is a replica now, or the slot is elsewhere (MOVED, ASK)
            except ResponseError as error:
                if pushed is not None:
                    raise  # it is not known what it answers
                if not isinstance(error, NoScriptError):  # it is given again
                    self._traffic.errors["refused"] += 1
                reply = error
            if pushed is not None and type(reply) is list and reply[0] != b"pong":
                pushed(reply)
            else:
                _, answer = asked.popleft()
                answer(reply)

    async def _watch(self) -> None:
        """Look whether the server answers in time."""
        timeout = self._timeout
        while True:
            await asyncio.sleep(timeout / 4)
            if self._given_up:
                self._given_up = False
                raise ConnectionError("given up for another one")
            if not self._asked:
                self.ask("PING", answer=_ignore)
            elif monotonic() - self._asked[0][0] > timeout:
                raise TimeoutError(f"no answer in {timeout:g} s")


def _ignore(_: Any) -> None:
    """Nobody wants to know."""


def _run_of(info: bytes) -> bytes:
    for line in info.split(b"\r\n"):
        if line.startswith(b"run_id:"):
            return line[7:]
    return b""
