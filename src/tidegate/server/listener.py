"""The listener of the admin API: uvicorn, as a guest in the node's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import uvicorn

from tidegate.errors import TidegateError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["StartError", "serve_admin"]


class StartError(TidegateError):
    """The settings are right, but the server cannot start here: an address is in use, say."""


class _Guest(uvicorn.Server):
    """Leaves the signals to its host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_admin(app: ASGIApp, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serve an application while the context lasts; gives the address, with the port it really has.

    Requests under way are cut off at the end.

    Raises:
        StartError: the address cannot be used.
    """
    sock = _bind(host, port)
    server = _Guest(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        name, number = sock.getsockname()[:2]
        yield name, number
    finally:
        server.should_exit = server.force_exit = True
        await serving


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # create_server repeats the address in its own words; the plain reason is enough.
        known = error.errno is not None and not isinstance(error, socket.gaierror)
        why = os.strerror(error.errno) if known and error.errno else error.strerror
        raise StartError(
            f"the admin API cannot listen on {host} port {port}: {why} (admin.host, admin.port)"
        ) from None
