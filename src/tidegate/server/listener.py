"""The listener of the admin API: uvicorn, as a guest in the node's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from tidegate.engine.endpoints import listen
from tidegate.errors import ConfigError, TidegateError
from tidegate.server.admin_http import BadRequests, BoundedHttp

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tidegate.core.settings import AdminSettings
    from tidegate.engine.endpoints import Endpoint

__all__ = ["StartError", "serve_admin"]


# All of them are accepted in one turn, before any can be closed for being one too many.
_BACKLOG: Final = 128
_UNIX_MODE: Final = 0o600  # for the user that the server runs as, and root


class StartError(TidegateError):
    """The settings are right, but the server cannot start here: an address is in use, say."""


class _Guest(uvicorn.Server):
    """Leaves the signals to its host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_admin(
    app: ASGIApp,
    settings: AdminSettings,
    bad: BadRequests,
    descriptors: int = 64,
    passed: Sequence[Endpoint] = (),
) -> AsyncIterator[Sequence[tuple[str, int]]]:
    """Serve an application while the context lasts; gives the addresses, with their real port.

    Requests under way are cut off at the end.

    Args:
        bad: counts the requests that are no valid HTTP.
        descriptors: how many file descriptors its connections may have.
        passed: sockets to listen on in place of the addresses in the settings.

    Raises:
        StartError: an address cannot be used.
    """
    try:
        endpoints = listen(
            "admin", settings.host, settings.port, _BACKLOG, mode=_UNIX_MODE, passed=passed
        )
    except ConfigError as error:
        raise StartError(str(error)) from None
    protocol: Any = functools.partial(BoundedHttp, most=max(1, descriptors * 3 // 4), bad=bad)
    server = _Guest(
        uvicorn.Config(
            app,
            http=protocol,
            backlog=_BACKLOG,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
        )
    )
    sockets = [endpoint.sock for endpoint in endpoints]
    serving = asyncio.create_task(server.serve(sockets=sockets))
    try:
        yield [endpoint.address for endpoint in endpoints]
    finally:
        server.should_exit = server.force_exit = True
        await serving
        for endpoint in endpoints:
            endpoint.close()
