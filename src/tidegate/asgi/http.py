"""Plain HTTP for an ASGI application: uvicorn's own protocol class on our connections."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING, Any

from uvicorn.server import ServerState

from tidegate.engine.stream import Stream

if TYPE_CHECKING:
    from uvicorn import Config

__all__ = ["HandBack", "Http"]


class HandBack(asyncio.Protocol):
    """What uvicorn takes for its WebSocket protocol: it gives the connection back to the gate."""

    def __init__(self, **_: Any) -> None:
        self._stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from the HTTP protocol."""
        assert isinstance(transport, Stream)
        self._stream = transport

    def data_received(self, data: bytes) -> None:
        """Take the head of the request, which uvicorn has put together again."""
        assert self._stream is not None
        self._stream.hand_back(data)


class Http:
    """Makes a protocol for each HTTP connection, and ends them all.

    Args:
        config: loaded, with the application in it.
        state: of the lifespan; each request gets a copy.
    """

    def __init__(self, config: Config, state: dict[str, Any]) -> None:
        self._config = config
        self._state = state
        self._shared = ServerState()
        self._timer: asyncio.TimerHandle | None = None

    def protocol(self) -> asyncio.Protocol:
        """Return what serves a new connection."""
        make: Any = self._config.http_protocol_class
        made: asyncio.Protocol = make(
            config=self._config, server_state=self._shared, app_state=self._state
        )
        return made

    def idle(self, protocol: Any, /) -> bool:
        """Whether a connection has no request under way."""
        cycle = protocol.cycle
        return cycle is None or cycle.response_complete

    def start(self) -> None:
        """Keep the `Date` header up to date (RFC 9110 6.6.1), once a second."""
        headers = list(self._config.encoded_headers)
        if self._config.date_header:
            headers.insert(0, (b"date", formatdate(time(), usegmt=True).encode()))
        self._shared.default_headers = headers
        self._timer = asyncio.get_running_loop().call_later(1.0, self.start)

    def stop(self) -> None:
        """End all connections, each after the response that is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._shared.connections):
            connection.shutdown()

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The requests that the application is at work on."""
        return self._shared.tasks
