"""`tidegate serve`: the node and its admin listener in one event loop, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
import uvloop

from tidegate.core.settings import Settings
from tidegate.errors import ConfigError
from tidegate.node.drain import leave_on_signals
from tidegate.node.native import NativeServer
from tidegate.node.pressure.descriptors import raise_descriptor_limit
from tidegate.node.server import Server
from tidegate.server import banner, checks, logs
from tidegate.server.admin import admin_app
from tidegate.server.listener import StartError, serve_admin
from tidegate.server.metrics import NodeCollector

__all__ = ["run", "serve"]

_log = structlog.get_logger("tidegate")

_LAST_LOOK_SECONDS = 0.5  # for whoever watches a drain to see the end of it


def serve(settings: Settings, log_format: logs.LogFormat = "text") -> None:
    """Run the server of the native protocol, as `run` does.

    Raises `ConfigError` for settings that turn out to be wrong, such as a certificate that cannot
    be read, and `StartError`.
    """
    run(NativeServer(settings), log_format)


def run(node: Server, log_format: logs.LogFormat = "text") -> None:
    """Serve until it is drained, by SIGTERM or the admin API, or stopped, by SIGINT.

    A second signal ends the process at once. Raises `StartError` if it cannot listen.
    """
    logs.configure(log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(node, log_format))


async def _serve(node: Server, log_format: logs.LogFormat) -> None:
    descriptors = raise_descriptor_limit()
    admin = node.settings.admin
    async with contextlib.AsyncExitStack() as running:
        # Admin first and so last to end: it shows how the rest starts and stops.
        address = None
        if admin.enabled:
            app = admin_app(node, admin, NodeCollector(node))
            address = await running.enter_async_context(serve_admin(app, admin.host, admin.port))
        # Before it listens: whoever sees it serve may ask it to leave.
        running.enter_context(leave_on_signals(node.begin_leaving, node.begin_stop))
        try:
            await node.start()
        except ConfigError as error:
            raise StartError(str(error)) from None
        running.push_async_callback(node.stop)
        _announce(banner.facts(node, address), log_format)
        for warning in checks.warnings(node.settings, descriptors):
            _log.warning(warning)
        await node.stopped()
        if node.leaving is not None and node.leaving.watched:
            await asyncio.sleep(_LAST_LOOK_SECONDS)
    _log.info("stopped")


def _announce(facts: dict[str, str], log_format: logs.LogFormat) -> None:
    if log_format == "json":
        _log.info("started", **facts)
        return
    for name, fact in facts.items():
        print(f"{name:>9}  {fact}")
    print("Press Ctrl-C to stop.", flush=True)
