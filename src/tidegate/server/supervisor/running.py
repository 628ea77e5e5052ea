"""`tidegate serve` and `tidegate run` with several workers, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from tidegate.engine.descriptors import Shares
from tidegate.engine.endpoints import listen
from tidegate.engine.spread import spread
from tidegate.errors import ConfigError
from tidegate.node.pressure.descriptors import raise_descriptor_limit
from tidegate.node.shutdown import on_signals
from tidegate.node.systemd import Passed, passed_sockets, reporting
from tidegate.server import banner, checks, logs, runtime
from tidegate.server.admin_http import BadRequests
from tidegate.server.agent_check import Agent, serve_agent
from tidegate.server.listener import StartError, serve_admin
from tidegate.server.supervisor.api import supervisor_app
from tidegate.server.supervisor.cores import workers_of
from tidegate.server.supervisor.standings import standings
from tidegate.server.supervisor.supervisor import Supervisor
from tidegate.server.supervisor.totals import Totals
from tidegate.server.supervisor.valkey import PrivateValkey, missing
from tidegate.server.timeline import Timeline

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.engine.endpoints import Endpoint
    from tidegate.server.config import Loaded
    from tidegate.server.supervisor.process import Worker
    from tidegate.server.supervisor.values import Program

__all__ = ["supervise"]

_log = structlog.get_logger("tidegate")

_UNIX_MODE: Final = 0o660  # a proxy that runs as another user needs to be in the group
_LAST_LOOK_SECONDS: Final = 0.5  # so that a client that watches a drain sees its end


def supervise(
    loaded: Loaded,
    load: Callable[[], Loaded],
    program: Program | None = None,
    passed: Passed | None = None,
) -> None:
    """Run several workers until they are drained, by SIGTERM or the admin API, or stopped.

    A second signal ends them at once. SIGHUP replaces them one by one, with new settings.

    Args:
        load: reads the settings anew.
        program: the ASGI application that they run; None for the native protocol.
        passed: sockets to use; those of the environment when None.

    Raises:
        ConfigError: a setting is wrong.
        StartError: it cannot listen.
        TidegateError: no worker has started.
    """
    if passed is None:
        passed = passed_sockets(os.environ)
    settings = passed.located(loaded.settings)
    if passed.admin and not settings.admin.enabled:
        raise ConfigError("admin.enabled = false: a socket named admin was passed (LISTEN_FDNAMES)")

    def again() -> Settings:
        return passed.located(load().settings)

    with logs.running(settings.log), asyncio.Runner() as runner, _private_folder() as folder:
        runner.run(_supervise(settings, again, folder, program, passed, banner.origin(loaded)))


async def _supervise(
    settings: Settings,
    load: Callable[[], Settings],
    folder: str,
    program: Program | None,
    passed: Passed,
    origin: banner.Origin,
) -> None:
    descriptors = raise_descriptor_limit()
    totals = Totals()
    async with contextlib.AsyncExitStack() as running:
        endpoints = _listen(settings, passed.public)
        alone = _alone(settings)
        valkey = None
        if not alone and settings.backplane.url is None:
            valkey = PrivateValkey(folder, settings.backplane.private_memory)
        url = None if valkey is None else valkey.url
        supervisor = Supervisor(settings, endpoints, folder, program, load, totals.ended, url)
        if valkey is not None:
            running.push_async_callback(valkey.stop)
        running.push_async_callback(supervisor.close)
        admin: Sequence[tuple[str, int]] = ()
        if settings.admin.enabled:
            timeline = Timeline(
                lambda: totals.sample(
                    {one: one.beat.sample for one in supervisor.workers() if one.beat is not None}
                ),
                lambda: _memory(supervisor.workers()),
            )
            recording = asyncio.create_task(timeline.run())
            running.callback(recording.cancel)
            app = supervisor_app(supervisor, totals, timeline, origin.sources)
            most = Shares.of(descriptors).others
            admin = await running.enter_async_context(
                serve_admin(app, settings.admin, BadRequests(), most, passed.admin)
            )
        agent = Agent(lambda: standings(supervisor), lambda: supervisor.begun)
        asked = await running.enter_async_context(
            serve_agent(agent, settings.agent_check, takes_turns=bool(passed.public))
        )
        running.enter_context(on_signals(supervisor, supervisor.reload))
        if valkey is not None:
            await valkey.start()
        await supervisor.start()
        if not supervisor.begun:
            _say_started(settings, supervisor, admin, asked, program, origin, descriptors, alone)
        told = reporting(os.environ, supervisor, lambda: supervisor.summary, supervisor.answers)
        await running.enter_async_context(told)
        await supervisor.wait()
        if supervisor.drain_watched:
            await asyncio.sleep(_LAST_LOOK_SECONDS)
    _log.info("stopped")


def _alone(settings: Settings) -> str:
    """Return how workers that share nothing can be made to; empty when they share."""
    if settings.backplane.url is not None:
        return ""
    if not settings.backplane.private:
        return "backplane.private = true, or a backplane.url, lets them share these"
    problem = missing()
    if problem:
        return f"{problem}: pip install 'tidegate[workers]', or a backplane.url, lets them share"
    return ""


def _listen(settings: Settings, passed: Sequence[Endpoint]) -> list[list[Endpoint]]:
    server = settings.server
    try:
        first = listen(
            "server", server.host, server.port, server.backlog, mode=_UNIX_MODE, passed=passed
        )
        return spread(first, workers_of(server.workers), server.backlog)
    except ConfigError as error:
        raise StartError(str(error)) from None


def _say_started(
    settings: Settings,
    supervisor: Supervisor,
    admin: Sequence[tuple[str, int]],
    asked: Sequence[tuple[str, int]],
    program: Program | None,
    origin: banner.Origin,
    descriptors: int | None,
    alone: str,
) -> None:
    count = len(supervisor.keepers)
    application = None if program is None else program.app
    facts = banner.facts(settings, supervisor.addresses, admin, application, asked)
    if alone:
        shared = "each for itself; limits are of each"
    elif settings.fleet.limits:
        shared = "with the same rooms, users and limits; limits.connections is of each"
    else:
        shared = "with the same rooms and users; limits are of each"
    facts["workers"] = f"{count} processes, {shared}"
    runtime.announce({**facts, **origin.told}, settings.log.format)
    for warning in checks.warnings(settings, descriptors, rooms=program is None):
        _log.warning(warning)
    if alone:
        _log.warning(
            "each worker has limits, rooms, users and history of its own: a limit of 10 for a user "
            f"lets {10 * count} in over {count} workers; {alone}"
        )


def _memory(workers: Iterator[Worker]) -> int:
    return sum(worker.beat.memory for worker in workers if worker.beat is not None)


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """A folder that nobody else can get into, as long as the context lasts."""
    folder = tempfile.mkdtemp(prefix="tidegate-")  # its mode is 0700
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
