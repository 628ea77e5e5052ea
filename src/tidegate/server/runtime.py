"""`tidegate serve`: the node and its admin listener in one event loop, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from tidegate.engine.descriptors import Shares
from tidegate.errors import ConfigError
from tidegate.node.loop import loop_factory
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.node.pressure.descriptors import raise_descriptor_limit
from tidegate.node.shutdown import on_signals
from tidegate.node.systemd import passed_sockets, reporting
from tidegate.server import banner, checks, logs
from tidegate.server.admin import admin_app
from tidegate.server.admin_http import BadRequests
from tidegate.server.banner import Origin
from tidegate.server.listener import StartError, serve_admin
from tidegate.server.log_writer import write_all
from tidegate.server.reloading import Reloading
from tidegate.server.timeline import Timeline

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.engine.endpoints import Endpoint
    from tidegate.server.config import Loaded
    from tidegate.server.log_writer import LogWriter

__all__ = ["Application", "run", "serve"]

_log = structlog.get_logger("tidegate")

_LAST_LOOK_SECONDS: Final = 0.5  # so that a client that watches a drain sees its end


class Application(Protocol):
    """An application that starts before the node does, and ends after it."""

    @property
    def name(self) -> str:
        """What the banner calls it."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Start it, and stop it at the end."""


def serve(loaded: Loaded, load: Callable[[], Loaded] | None = None) -> None:
    """Run a node of the native protocol, as `run` does, and say where its settings come from.

    Args:
        load: reads the settings anew, at SIGHUP.

    Raises:
        ConfigError: a setting turns out to be wrong, such as a certificate that cannot be read.
        StartError: it cannot listen.
    """
    passed = passed_sockets(os.environ)
    settings = passed.located(loaded.settings)
    if passed.admin and not settings.admin.enabled:
        raise ConfigError("admin.enabled = false: a socket named admin was passed (LISTEN_FDNAMES)")
    node = Node(settings, NativeApplication, passed=passed.public)
    again = None if load is None else lambda: passed.located(load().settings)
    run(node, passed.admin, again, banner.origin(loaded))


def run(
    node: Node,
    sockets: Sequence[Endpoint] = (),
    load: Callable[[], Settings] | None = None,
    origin: Origin | None = None,
    application: Application | None = None,
) -> None:
    """Serve until the node is drained, by SIGTERM or the admin API, or stopped, by SIGINT.

    A second signal ends the process at once. SIGHUP reloads.

    Args:
        sockets: for the admin API, in place of the addresses in the settings.
        load: reads the settings anew, at SIGHUP.
        origin: where the settings come from.
        application: what runs on the node beside the native protocol.

    Raises:
        StartError: it cannot listen.
        TidegateError: the application did not start.
    """
    with (
        logs.running(node.settings.log) as log,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(
            _serve(node, log, sockets, Reloading(node, load), origin or Origin(), application)
        )


async def _serve(
    node: Node,
    log: LogWriter,
    sockets: Sequence[Endpoint],
    reloading: Reloading,
    origin: Origin,
    application: Application | None,
) -> None:
    descriptors = raise_descriptor_limit()
    settings, control = node.settings, node.control
    async with contextlib.AsyncExitStack() as running:
        # The admin listener starts first and ends last, so it shows how the rest starts and stops.
        admin: Sequence[tuple[str, int]] = ()
        if settings.admin.enabled:
            bad = BadRequests()
            timeline = Timeline(control)
            recording = asyncio.create_task(timeline.run())
            running.callback(recording.cancel)
            app = admin_app(
                control, settings, lambda: (log.lost, bad.count), timeline, origin.sources
            )
            admin = await running.enter_async_context(
                serve_admin(app, settings.admin, bad, Shares.of(descriptors).others, sockets)
            )
        # Before it listens, because a client that sees it serve may send the signal.
        running.enter_context(on_signals(node.shutdown, reloading.reload))
        watching = asyncio.create_task(reloading.watch())
        running.callback(watching.cancel)
        if application is not None:
            await running.enter_async_context(application.running())
        try:
            await node.start()
        except ConfigError as error:
            raise StartError(str(error)) from None
        running.push_async_callback(node.stop)
        facts = banner.facts(
            settings, control.status().addresses, admin, application.name if application else None
        )
        _announce({**facts, **origin.told}, settings.log.format)
        for warning in checks.warnings(settings, descriptors, rooms=application is None):
            _log.warning(warning)
        await running.enter_async_context(reporting(os.environ, node.shutdown, lambda: node.status))
        await node.shutdown.wait()
        if control.drain_watched:
            await asyncio.sleep(_LAST_LOOK_SECONDS)
    _log.info("stopped")


def _announce(facts: dict[str, str], log_format: str) -> None:
    if log_format == "json":
        _log.info("started", **facts)
        return
    banner = "".join(f"{name:>9}  {fact}\n" for name, fact in facts.items())
    banner += "Press Ctrl-C to stop.\n"
    # In a thread, because nobody may read standard output, and clients connect already.
    threading.Thread(target=_print, args=(banner,), daemon=True).start()


def _print(text: str) -> None:
    # Not by `print`: what waits in a file object of Python's is in the way when the process ends.
    with contextlib.suppress(OSError):  # a disk that is full, say
        write_all(sys.stdout.fileno())(text.encode("utf-8", "replace"))
