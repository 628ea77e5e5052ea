"""An ASGI application on a node: what it is made of, and its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from uvicorn import Config

from tidegate.asgi.application import AsgiApplication
from tidegate.asgi.http import HandBack, Http
from tidegate.asgi.proxied import Proxied, Proxies
from tidegate.errors import TidegateError
from tidegate.node.node import Node

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp
    from tidegate.core.settings import Settings
    from tidegate.engine.endpoints import Endpoint
    from tidegate.node.services import Services

__all__ = ["AsgiServer", "StartupFailed"]

_log = logging.getLogger("tidegate")

_LAST_SECONDS: Final = 1.0  # for what cancelled requests still do


class StartupFailed(TidegateError):  # noqa: N818 - it says what happened
    """The application did not start; it has logged why."""


class AsgiServer:
    """One application, and the node that it runs on.

    Args:
        app: the application, ASGI 3 (or ASGI 2 or WSGI, as uvicorn detects them).
        settings: `server.path` does not count: every path is the application's.
        root_path: where the application is mounted, for its links.
        lifespan: `auto`, `on` or `off`, as uvicorn has them.
        access_log: whether each HTTP request is logged.
        http: options of uvicorn's HTTP protocol, such as `timeout_keep_alive`.
        passed: sockets to listen on in place of the addresses in the settings.
        worker: the number of this one among the workers of a supervisor; None without one.

    Raises:
        ConfigError: a key or certificate cannot be used.
    """

    def __init__(
        self,
        app: AsgiApp,
        settings: Settings,
        *,
        root_path: str = "",
        lifespan: Literal["auto", "on", "off"] = "auto",
        access_log: bool = True,
        http: dict[str, Any] | None = None,
        passed: Sequence[Endpoint] = (),
        worker: int | None = None,
    ) -> None:
        # Every path is the application's.
        settings = replace(settings, server=replace(settings.server, path=""))
        self._config = Config(
            app,
            root_path=root_path,
            lifespan=lifespan,
            access_log=access_log,
            ws=HandBack,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            **(http or {}),
        )
        self._config.load()
        self._app = self._config.loaded_app
        self._proxies = Proxies(settings.proxies)
        # uvicorn's protocol takes it from there.
        self._config.loaded_app = Proxied(self._app, self._proxies)
        self._lifespan = self._config.lifespan_class(self._config)
        self._settings = settings
        self.node = Node(settings, self._make, passed=passed, worker=worker)
        """The node, to be started within `running`."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the application, and stop it when the node has ended.

        Raises:
            StartupFailed: the application did not start.
        """
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise StartupFailed("the application did not start")
        self._http.start()
        try:
            yield
        finally:
            self._http.stop()
            await self._finish()
            await self._lifespan.shutdown()

    async def _finish(self) -> None:
        """Wait for what the application is at work on, and cancel what does not end."""
        for patience in (self._settings.server.shutdown_timeout, _LAST_SECONDS):
            tasks = self._application.tasks
            if not tasks:
                return
            _, late = await asyncio.wait(tasks, timeout=patience)
            if late:
                _log.warning(
                    "requests of the application were cancelled", extra={"count": len(late)}
                )
            for task in late:
                task.cancel()

    def _make(self, services: Services) -> AsgiApplication:
        self._http = Http(self._config, self._lifespan.state)
        self._application = AsgiApplication(
            services.settings,
            self._app,
            self._http,
            self._proxies,
            root_path=self._config.root_path,
            state=self._lifespan.state,
            server=lambda: self.node.addresses[0] if self.node.addresses else ("", None),
            zone=lambda: self.node.shedder.zone.label,
        )
        return self._application
