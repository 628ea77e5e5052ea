"""`tidegate serve`: the node and its admin listener in one event loop, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
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
from tidegate.server.agent_check import Agent, serve_agent
from tidegate.server.banner import Origin
from tidegate.server.ingest.sources import ingesting
from tidegate.server.listener import StartError, serve_admin
from tidegate.server.log_writer import write_all
from tidegate.server.metrics import MetricsCollector, as_text
from tidegate.server.reloading import Reloading
from tidegate.server.timeline import Timeline
from tidegate.server.webhooks.hooks import Webhooks

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.engine.endpoints import Endpoint
    from tidegate.library.app import App
    from tidegate.server.config import Loaded
    from tidegate.server.log_writer import LogWriter

__all__ = ["Application", "Supervised", "announce", "native", "run", "serve"]

_log = structlog.get_logger("tidegate")

_LAST_LOOK_SECONDS: Final = 0.5  # so that a client that watches a drain sees its end


class Application(Protocol):
    """An application that starts before the node does, and ends after it."""

    @property
    def name(self) -> str:
        """What the banner calls it."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Start it, and stop it at the end."""


class Supervised(Protocol):
    """The supervisor, for one that is its worker."""

    @property
    def number(self) -> int:
        """The number of the worker."""

    def reporting(
        self, node: Node, metrics: Callable[[], str]
    ) -> AbstractAsyncContextManager[None]:
        """Tell how the node is and do what is ordered, as long as the context lasts.

        Args:
            metrics: returns all metrics as text.
        """


def serve(loaded: Loaded, load: Callable[[], Loaded] | None = None, app: App | None = None) -> None:
    """Run a node of the native protocol, as `run` does, and say where its settings come from.

    Args:
        load: reads the settings anew, at SIGHUP.
        app: is asked before clients do something.

    Raises:
        ConfigError: a setting turns out to be wrong, such as a certificate that cannot be read.
        StartError: it cannot listen.
    """
    passed = passed_sockets(os.environ)
    settings = passed.located(loaded.settings)
    if passed.admin and not settings.admin.enabled:
        raise ConfigError("admin.enabled = false: a socket named admin was passed (LISTEN_FDNAMES)")
    node, hooks = native(settings, passed.public, app)
    again = None if load is None else lambda: passed.located(load().settings)
    run(node, passed.admin, again, banner.origin(loaded), webhooks=hooks)


def native(
    settings: Settings,
    passed: Sequence[Endpoint],
    app: App | None = None,
    worker: int | None = None,
) -> tuple[Node, Webhooks | None]:
    """Return a node of the native protocol, with the webhooks that its settings ask for.

    Args:
        passed: sockets to listen on in place of the addresses in the settings.
        app: is asked before clients do something, in place of webhooks.
        worker: its number among the workers of a supervisor; None without one.

    Raises:
        ConfigError: a setting turns out to be wrong, such as a certificate that cannot be read.
    """
    if app is not None:
        if settings.webhooks.url is not None:
            raise ConfigError("webhooks.url: must not be set where an application is asked (--app)")
        return app.node(settings, passed), None
    hooks = None if settings.webhooks.url is None else Webhooks(settings)
    identifier = None if hooks is None else hooks.identifier(lambda: node.tokens)
    node = Node(
        settings,
        partial(NativeApplication, hooks=hooks),
        identifier=identifier,
        passed=passed,
        worker=worker,
    )
    return node, hooks


def run(
    node: Node,
    sockets: Sequence[Endpoint] = (),
    load: Callable[[], Settings] | None = None,
    origin: Origin | None = None,
    application: Application | None = None,
    webhooks: Webhooks | None = None,
    supervised: Supervised | None = None,
) -> None:
    """Serve until the node is drained, by SIGTERM or the admin API, or stopped, by SIGINT.

    A second signal ends the process at once. SIGHUP reloads.

    Args:
        sockets: for the admin API, in place of the addresses in the settings.
        load: reads the settings anew, at SIGHUP.
        origin: where the settings come from.
        application: what runs on the node beside the native protocol.
        webhooks: the hooks of the node.
        supervised: the supervisor whose worker this is; None without one.

    Raises:
        StartError: it cannot listen.
        TidegateError: the application did not start.
    """
    worker = None if supervised is None else supervised.number
    with (
        logs.running(node.settings.log, worker=worker) as log,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(
            _serve(
                node,
                log,
                sockets,
                Reloading(node, load),
                origin or Origin(),
                application,
                webhooks,
                supervised,
            )
        )


async def _serve(
    node: Node,
    log: LogWriter,
    sockets: Sequence[Endpoint],
    reloading: Reloading,
    origin: Origin,
    application: Application | None,
    webhooks: Webhooks | None,
    supervised: Supervised | None,
) -> None:
    descriptors = raise_descriptor_limit()
    settings, control = node.settings, node.control
    async with contextlib.AsyncExitStack() as running:
        # The admin listener starts first and ends last, so it shows how the rest starts and stops.
        admin: Sequence[tuple[str, int]] = ()
        bad = BadRequests()

        def counts() -> Sequence[int]:
            return log.lost, bad.count, *(webhooks.counters if webhooks else (0,) * 5)

        if settings.admin.enabled:
            timeline = Timeline(control.sample)
            if supervised is None:  # else the supervisor keeps one, of all workers
                recording = asyncio.create_task(timeline.run())
                running.callback(recording.cancel)
            app = admin_app(control, settings, counts, timeline, origin.sources)
            admin = await running.enter_async_context(
                serve_admin(app, settings.admin, bad, Shares.of(descriptors).others, sockets)
            )
        asked: Sequence[tuple[str, int]] = ()
        if supervised is None:  # else the supervisor answers for all workers
            agent = Agent(lambda: (control.standing(),), lambda: node.shutdown.begun)
            turns = node.engine.passes_on
            asked = await running.enter_async_context(
                serve_agent(agent, settings.agent_check, takes_turns=turns)
            )
        # Before it listens, because a client that sees it serve may send the signal.
        running.enter_context(on_signals(node.shutdown, reloading.reload))
        watching = asyncio.create_task(reloading.watch())
        running.callback(watching.cancel)
        if application is not None:
            await running.enter_async_context(application.running())
        if webhooks is not None:
            await running.enter_async_context(webhooks.running())
        try:
            await node.start()
        except ConfigError as error:
            raise StartError(str(error)) from None
        running.push_async_callback(node.stop)
        try:
            await running.enter_async_context(ingesting(node))
        except ConfigError as error:
            raise StartError(str(error)) from None
        if supervised is not None:
            metrics = partial(as_text, MetricsCollector(control, counts))
            await running.enter_async_context(supervised.reporting(node, metrics))
        else:
            name = application.name if application else None
            facts = banner.facts(settings, control.status().addresses, admin, name, asked)
            announce({**facts, **origin.told}, settings.log.format)
            for warning in checks.warnings(settings, descriptors, rooms=application is None):
                _log.warning(warning)
            told = reporting(os.environ, node.shutdown, lambda: node.status)
            await running.enter_async_context(told)
        await node.shutdown.wait()
        if control.drain_watched:
            await asyncio.sleep(_LAST_LOOK_SECONDS)
    _log.info("stopped")


def announce(facts: dict[str, str], log_format: str) -> None:
    """Tell the operator that the server runs: as a banner, or as a line of a JSON log."""
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
