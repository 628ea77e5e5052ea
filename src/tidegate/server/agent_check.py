"""The listener for HAProxy's agent-check: one line for each connection, and its end.

HAProxy connects every `agent-inter`, reads up to the first line break and closes
(HAProxy's manual, `agent-check`). The words of the line:

    ready up 70% maxconn:10000      a node that takes connections, at 70 % of its weight
    ready up 0%                     full, or in the emergency zone
    drain                           it drains or stops: nobody new, the others stay
    ready down #breaker             out of rotation for a while
    maint                           it does not listen

`ready` and `up` take back what an earlier `drain`, `maint` or `down` has said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

import structlog

from tidegate.core import codes
from tidegate.core.balancing.weight import Load, Weight, wanted
from tidegate.engine.endpoints import listen
from tidegate.errors import ConfigError
from tidegate.server.listener import StartError

if TYPE_CHECKING:
    from tidegate.core.settings import AgentCheckSettings
    from tidegate.engine.endpoints import Endpoint
    from tidegate.node.control import Standing

__all__ = ["Agent", "serve_agent"]

_log = structlog.get_logger("tidegate")

_MOST: Final = 32  # connections at a time; a proxy has one each
_SECONDS: Final = 2.0  # until a peer must have taken its line and left
_BYTES: Final = 1024  # of `agent-send`, which is read and not looked at
_TURN_SECONDS: Final = 0.5
_UNIX_MODE: Final = 0o660  # a proxy that runs as another user needs to be in the group


class Agent:
    """Finds the line to answer.

    Args:
        standings: returns how the processes stand that accept connections here; of a server
            without workers it is one.
        ending: returns whether all of them drain or stop.
    """

    def __init__(
        self, standings: Callable[[], Sequence[Standing]], ending: Callable[[], bool]
    ) -> None:
        self._standings = standings
        self._ending = ending
        self._weight = Weight()

    @property
    def ending(self) -> bool:
        """Whether all processes drain or stop."""
        return self._ending()

    def line(self, now: float) -> str:
        """Return the line, without its end, at `now` in monotonic seconds."""
        standings = self._standings()
        reasons = {each.reason for each in standings}
        if self._ending() or reasons == {codes.DRAINING.name}:
            return "drain"
        if reasons == {codes.BREAKER.name}:
            return f"ready down #{codes.BREAKER.name}"
        if not any(each.ready or each.reason == codes.SERVER_LIMIT.name for each in standings):
            return "maint"
        loads = [Load(each.zone, each.pressure) if each.ready else None for each in standings]
        weight = self._weight.follow(wanted(loads), now)
        limits = [each.limit for each in standings]
        # 0 would be no limit to HAProxy. Workers that have no limit make the sum none either.
        most = f" maxconn:{sum(limits)}" if weight and all(limits) else ""
        return f"ready up {weight}%{most}"


@contextlib.asynccontextmanager
async def serve_agent(
    agent: Agent, settings: AgentCheckSettings, *, takes_turns: bool = False
) -> AsyncIterator[Sequence[tuple[str, int]]]:
    """Answer HAProxy while the context lasts; gives the addresses, with their real port.

    Args:
        takes_turns: whether the next process starts before this one has ended, as behind a socket
            of systemd. Then this one waits for the address, and gives it up when it begins to end.

    Raises:
        StartError: an address cannot be used.
    """
    if not settings.enabled:
        yield ()
        return
    listener = _Listener(agent, settings)
    taking: asyncio.Task[None] | None = None
    try:
        if takes_turns:
            taking = asyncio.create_task(listener.take_turn())
            yield [(host, settings.port) for host in settings.host]
        else:
            yield await listener.open()
    finally:
        if taking is not None:
            taking.cancel()
        listener.close()


class _Listener:
    """The sockets that HAProxy connects to."""

    def __init__(self, agent: Agent, settings: AgentCheckSettings) -> None:
        self._agent = agent
        self._settings = settings
        self._endpoints: list[Endpoint] = []
        self._servers: list[asyncio.Server] = []
        self._peers: set[_Peer] = set()

    async def open(self) -> list[tuple[str, int]]:
        """Listen; returns the addresses.

        Raises:
            StartError: an address cannot be used.
        """
        own = self._settings
        try:
            self._endpoints = listen("agent_check", own.host, own.port, _MOST, mode=_UNIX_MODE)
        except ConfigError as error:
            raise StartError(str(error)) from None
        loop = asyncio.get_running_loop()
        for endpoint in self._endpoints:
            endpoint.accept_at_once()
            server = await loop.create_server(
                lambda: _Peer(self._agent, self._peers), sock=endpoint.sock
            )
            self._servers.append(server)
        return [endpoint.address for endpoint in self._endpoints]

    async def take_turn(self) -> None:
        """Listen as soon as the address is free, until this process begins to end."""
        said = False
        while not self._agent.ending:
            if not self._servers:
                try:
                    await self.open()
                except StartError as error:
                    if not said:
                        _log.info("HAProxy is answered later", error=str(error))
                    said = True
            await asyncio.sleep(_TURN_SECONDS)
        self.close()

    def close(self) -> None:
        """End all connections, and listen no more."""
        for server in self._servers:
            server.close()
        for peer in list(self._peers):
            peer.cut()
        for endpoint in self._endpoints:
            endpoint.close()
        self._servers.clear()
        self._endpoints.clear()


class _Peer(asyncio.Protocol):
    """One connection of HAProxy."""

    def __init__(self, agent: Agent, peers: set[_Peer]) -> None:
        self._agent = agent
        self._peers = peers
        self._left = _BYTES
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        own = self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._deadline = asyncio.get_running_loop().call_later(_SECONDS, own.abort)
        if len(self._peers) >= _MOST:
            own.abort()
            return
        self._peers.add(self)
        own.write(f"{self._agent.line(monotonic())}\n".encode())
        # Its own half only: with bytes of `agent-send` unread, a close would reset the connection,
        # and HAProxy might lose the line.
        own.write_eof()

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._deadline.cancel()
        self._peers.discard(self)

    def cut(self) -> None:
        """End it at once."""
        self._transport.abort()
