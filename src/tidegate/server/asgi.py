"""`tidegate run`: an ASGI application on a node, with the admin listener beside it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from tidegate.asgi.importing import import_application
from tidegate.asgi.server import AsgiServer
from tidegate.core.settings import Settings
from tidegate.core.settings.changes import merged
from tidegate.engine.endpoints import adopt
from tidegate.errors import ConfigError, UsageError
from tidegate.node.systemd import Passed, passed_sockets
from tidegate.server import banner
from tidegate.server.runtime import run as run_node

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp
    from tidegate.engine.endpoints import Endpoint
    from tidegate.server.config import Loaded
    from tidegate.server.runtime import Supervised

__all__ = ["Options", "run", "run_supervised", "serve_application", "supervise_application"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an application is run, beside the settings.

    Attributes:
        factory: whether the application is a function that makes it.
        app_dir: where its module is looked for first; None for nowhere else than usual.
        root_path: where it is mounted, for its links.
        lifespan: whether it has one; `auto` finds out.
        access_log: whether each HTTP request is logged.
        keep_alive: seconds for which an HTTP connection without a request stays open.
        descriptor: number of a listening socket to use in place of the addresses; None for none.
    """

    factory: bool = False
    app_dir: str | None = None
    root_path: str = ""
    lifespan: Literal["auto", "on", "off"] = "auto"
    access_log: bool = True
    keep_alive: int = 5
    descriptor: int | None = None


def run(
    app: AsgiApp | str,
    settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    factory: bool = False,
    app_dir: str | None = None,
    root_path: str = "",
    lifespan: Literal["auto", "on", "off"] = "auto",
    access_log: bool = True,
) -> None:
    """Run an ASGI application behind the gate until SIGTERM, which drains, or Ctrl-C.

    Args:
        app: the application, or where it is: "module:name".
        settings: a `Settings`, or a mapping of sections as in a settings file; the defaults
            otherwise. No file and no environment is read.
        host: in place of `server.host`.
        port: in place of `server.port`.
        factory: whether `app` is a function that makes the application.
        app_dir: where the module is looked for first.
        root_path: where the application is mounted, for its links.
        lifespan: whether the application has one; `auto` finds out.
        access_log: whether each HTTP request is logged.

    Raises:
        ConfigError: a setting is wrong, or there is no such application.
        StartError: it cannot listen.
        TidegateError: the application did not start.
    """
    if not isinstance(settings, Settings):
        settings = Settings.from_mapping(settings or {})
    given: dict[str, object] = {"host": host, "port": port}
    settings = merged(
        settings, {"server": {name: value for name, value in given.items() if value is not None}}
    )
    options = Options(
        factory=factory,
        app_dir=app_dir,
        root_path=root_path,
        lifespan=lifespan,
        access_log=access_log,
    )
    _run(app, settings, options, _passed(options), None, banner.Origin())


def serve_application(
    app: str, loaded: Loaded, load: Callable[[], Loaded], options: Options
) -> None:
    """Run an application for the command line, and say where the settings come from.

    Args:
        load: reads the settings anew, at SIGHUP.

    Raises:
        ConfigError: a setting is wrong, or there is no such application.
        StartError: it cannot listen.
        TidegateError: the application did not start.
    """
    passed = _passed(options)
    settings = passed.located(loaded.settings)
    if passed.admin and not settings.admin.enabled:
        raise ConfigError("admin.enabled = false: a socket named admin was passed (LISTEN_FDNAMES)")

    def again() -> Settings:
        return _any_path(passed.located(load().settings))

    _run(app, settings, options, passed, again, banner.origin(loaded))


def supervise_application(
    app: str, loaded: Loaded, load: Callable[[], Loaded], options: Options
) -> None:
    """Run an application in several workers, or as `serve_application` where one is enough.

    Raises:
        ConfigError: a setting is wrong, or there is no such application.
        StartError: it cannot listen.
        TidegateError: no worker has started.
    """
    from tidegate.server.supervisor.cores import workers_of

    if workers_of(loaded.settings.server.workers) == 1:
        serve_application(app, loaded, load, options)
        return
    from tidegate.server.supervisor.running import supervise
    from tidegate.server.supervisor.values import Program

    passed = _passed(options)
    # The workers get their sockets from the supervisor.
    program = Program(app, asdict(replace(options, descriptor=None)))
    supervise(loaded, load, program, passed)


def run_supervised(
    app: str,
    settings: Settings,
    options: Options,
    passed: Sequence[Endpoint],
    supervised: Supervised,
) -> None:
    """Run an application as a worker.

    Args:
        passed: sockets to listen on.
        supervised: the supervisor whose worker this is.

    Raises:
        ConfigError: a setting is wrong, or there is no such application.
        StartError: it cannot listen.
        TidegateError: the application did not start.
    """
    _run(app, settings, options, Passed(passed), None, banner.Origin(), supervised)


def _run(
    app: AsgiApp | str,
    settings: Settings,
    options: Options,
    passed: Passed,
    load: Callable[[], Settings] | None,
    origin: banner.Origin,
    supervised: Supervised | None = None,
) -> None:
    name = app if isinstance(app, str) else getattr(app, "__name__", type(app).__name__)
    server = AsgiServer(
        import_application(app, factory=options.factory, directory=options.app_dir),
        _any_path(settings),
        root_path=options.root_path,
        lifespan=options.lifespan,
        access_log=options.access_log,
        http={"timeout_keep_alive": options.keep_alive},
        passed=passed.public,
        worker=None if supervised is None else supervised.number,
    )
    access = logging.getLogger("uvicorn.access")
    before = access.level
    access.setLevel(logging.INFO if options.access_log else logging.WARNING)
    try:
        application = _Running(name, server)
        run_node(server.node, passed.admin, load, origin, application, supervised=supervised)
    finally:
        access.setLevel(before)


class _Running:
    """The application, as the runtime wants it."""

    def __init__(self, name: str, server: AsgiServer) -> None:
        self.name = name
        self._server = server

    def running(self) -> AbstractAsyncContextManager[None]:
        """Start it, and stop it at the end."""
        return self._server.running()


def _any_path(settings: Settings) -> Settings:
    """Every path is the application's."""
    return replace(settings, server=replace(settings.server, path=""))


def _passed(options: Options) -> Passed:
    if options.descriptor is None:
        return passed_sockets(os.environ)
    try:
        return Passed([adopt(socket.socket(fileno=options.descriptor))])
    except OSError as error:
        raise UsageError(f"--fd {options.descriptor}: {os.strerror(error.errno or 0)}") from None
