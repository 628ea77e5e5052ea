"""All workers of one server: started together, replaced one by one, ended together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from tidegate.core.settings.changes import differences, merged, only
from tidegate.core.settings.servers import KAFKA
from tidegate.errors import ConfigError, TidegateError
from tidegate.node import systemd
from tidegate.node.control import Status
from tidegate.server.supervisor.keeper import Keeper
from tidegate.server.supervisor.process import Worker, worker_environment
from tidegate.server.supervisor.specs import keeping, make_spec
from tidegate.server.supervisor.values import Drain, Order, Program, Stop

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.core.settings.changes import Changes
    from tidegate.engine.endpoints import Endpoint

__all__ = ["Supervisor"]

_log = structlog.get_logger("tidegate")

_HUNG_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_VERSION: Final = version("tidegate")


class Supervisor:
    """Keeps the workers, and what they have in common: sockets and settings.

    Args:
        settings: the settings in force.
        endpoints: those of each worker.
        folder: the private folder.
        program: the ASGI application that the workers run; None for the native protocol.
        load: reads the settings anew, at SIGHUP.
        ended: is told of every worker whose process has ended.
        private: URL of the Valkey that belongs to the workers; None without one.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Sequence[Sequence[Endpoint]],
        folder: str,
        program: Program | None,
        load: Callable[[], Settings],
        ended: Callable[[Worker], None],
        private: str | None = None,
    ) -> None:
        self.settings = settings
        self.window: float | None = None
        """Seconds of the drain that is under way, if another window was given."""
        self.drained: list[Worker] = []
        """Workers that have ended since a drain of all has begun."""
        self._endpoints = endpoints
        self._folder = folder
        self._program = program
        self._load = load
        self._told = ended
        self._private = private
        self._started = monotonic()
        self._count = 0
        self._environment = worker_environment(os.environ)
        self._keepers = [
            Keeper(number, self._start_worker, self._worker_ended)
            for number in range(1, len(endpoints) + 1)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()
        self._draining = False
        self._drain_watched = False
        self._rolling: asyncio.Task[None] | None = None
        self._roll_again = False

    # What is known of it.

    @property
    def begun(self) -> bool:
        """Whether a drain or a stop of all workers has begun."""
        return self._begun.is_set()

    @property
    def draining(self) -> bool:
        """Whether a drain of all workers has begun."""
        return self._draining

    @property
    def drain_watched(self) -> bool:
        """Whether somebody has asked how far the drain is, and will want to see its end."""
        return self._drain_watched

    @property
    def shares(self) -> bool:
        """Whether the workers share rooms, presence and history."""
        return self._private is not None or self.settings.backplane.url is not None

    @property
    def orders(self) -> bool:
        """Whether a worker can have all others do something; over Kafka none can."""
        url = self.settings.backplane.url
        return self.shares and (url is None or not KAFKA.match(url))

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._started

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every address that clients connect to."""
        return [endpoint.address for endpoint in self._endpoints[0]]

    @property
    def keepers(self) -> Sequence[Keeper]:
        """Those that keep the workers, by number."""
        return self._keepers

    def workers(self) -> Iterator[Worker]:
        """Yield the workers that serve, those that drain included."""
        for keeper in self._keepers:
            for worker in keeper.workers:
                if worker.serving:
                    yield worker

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether one of them should get new connections, and why none should."""
        if self.begun:
            return False, "draining" if self._draining else "stopping"
        reason = "no worker has started"
        for worker in self.workers():
            if worker.beat is not None and not worker.leaving:
                if worker.beat.ready:
                    return True, ""
                reason = worker.beat.reason
        return False, reason

    def status(self) -> Status:
        """Return whether it is ready, and why not."""
        ready, reason = self.ready
        down = {name for one in self.workers() if one.beat is not None for name in one.beat.down}
        addresses = tuple(self.addresses)
        return Status(_VERSION, self.uptime, ready, reason, addresses, tuple(sorted(down)))

    @property
    def summary(self) -> str:
        """How it is, in a few words for operators."""
        workers = list(self.workers())
        connections = sum(one.beat.sample.connections for one in workers if one.beat is not None)
        if self.begun:
            state = "draining" if self._draining else "stopping"
        else:
            ready, reason = self.ready
            state = "serving" if ready else f"not ready ({reason})"
        count = len(self._keepers)
        return f"{state}: {connections:,} connections in {len(workers)} of {count} workers"

    def answers(self) -> bool:
        """Whether a worker has said something lately."""
        since = monotonic() - _ANSWER_SECONDS
        return any(worker.heard >= since for worker in self.workers())

    # Life.

    async def start(self) -> None:
        """Start all workers; returns when each has started, or has failed to.

        Raises:
            ConfigError: none has, because a setting is wrong.
            TidegateError: none has, for another reason.
        """
        self._tasks = [asyncio.create_task(keeper.run()) for keeper in self._keepers]
        self._tasks.append(asyncio.create_task(self._look()))
        tried = await asyncio.gather(*(keeper.wait_tried() for keeper in self._keepers))
        if any(tried) or self.begun:
            return
        failure = next(keeper.failure for keeper in self._keepers if keeper.failure is not None)
        raise ConfigError(failure.text) if failure.wrong else TidegateError(failure.text)

    async def wait(self) -> None:
        """Wait until all workers have ended, after a drain or a stop."""
        await self._begun.wait()
        await asyncio.gather(*self._tasks[:-1])

    async def close(self) -> None:
        """End what is left at once."""
        self._begun.set()
        if self._rolling is not None:
            self._rolling.cancel()
        for keeper in self._keepers:
            keeper.end(Stop())
            for worker in keeper.workers:
                worker.kill()
        await asyncio.gather(*self._tasks[:-1])
        for task in self._tasks[-1:]:
            task.cancel()
        self._close_sockets()

    # What is done to it.

    async def wait_until_begun(self) -> None:
        """Wait until a drain or a stop has begun."""
        await self._begun.wait()

    def on_sigterm(self) -> None:
        """Begin what SIGTERM asks for: a drain, or a stop without `drain.on_sigterm`."""
        if self.settings.drain.on_sigterm:
            self.begin_drain()
        else:
            self.begin_stop()

    def begin_drain(self, window: float | None = None) -> None:
        """Drain all workers at the same time, and return at once; one under way just goes on."""
        if self.begun:
            return
        self._draining = True
        self.window = window
        # What waits in sockets that were passed is for the next process that gets them.
        passed = any(endpoint.passed for endpoint in self._endpoints[0])
        _log.info("draining", workers=len(self._keepers))
        self._end(Drain(window, pass_on=passed))
        self._close_unserved()

    def begin_stop(self) -> None:
        """Stop all workers, and return at once."""
        _log.info("stopping", workers=len(self._keepers))
        self._end(Stop())
        self._close_sockets()

    def watch_drain(self) -> None:
        """Note that somebody asks how far the drain is."""
        self._drain_watched = True

    def reload(self) -> None:
        """Read the settings anew, and replace the workers one by one; returns at once."""
        if self.begun:
            return
        if self._rolling is not None and not self._rolling.done():
            self._roll_again = True
            return
        self._rolling = asyncio.create_task(self._roll())

    def apply(self, changes: Changes) -> None:
        """Start workers with changed settings from now on. Those that run were told already."""
        live, _ = differences(self.settings, merged(self.settings, changes))
        self.settings = merged(self.settings, only(changes, live))

    def _end(self, order: Order) -> None:
        self._begun.set()
        if self._rolling is not None:
            self._rolling.cancel()
        for keeper in self._keepers:
            keeper.end(order)

    def _close_sockets(self) -> None:
        for endpoints in self._endpoints:
            for endpoint in endpoints:
                endpoint.close()

    # Workers.

    async def _start_worker(self, number: int, settings: Settings | None) -> Worker:
        endpoints = self._endpoints[number - 1]
        self._count += 1
        sockets = [endpoint.sock for endpoint in endpoints]
        admin = f"{self._folder}/{number}-{self._count}.sock"
        spec = make_spec(
            number,
            settings or self.settings,
            sockets,
            self._folder,
            admin,
            self._program,
            self._private,
        )
        return await Worker.start(spec, self._environment, sockets)

    def _worker_ended(self, worker: Worker) -> None:
        self._told(worker)
        if self._draining:
            self.drained.append(worker)
            self._close_unserved()

    def _close_unserved(self) -> None:
        """Close the sockets that nobody accepts from any more."""
        served = {
            endpoint
            for keeper in self._keepers
            if keeper.workers
            for endpoint in self._endpoints[keeper.number - 1]
        }
        for endpoints in self._endpoints:
            for endpoint in endpoints:
                if endpoint not in served:
                    endpoint.close()

    async def _look(self) -> None:
        """End workers whose event loop stands still; for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for worker in list(self.workers()):
                silent = monotonic() - worker.heard
                if silent > _HUNG_SECONDS:
                    _log.error(
                        "a worker does not answer and is ended",
                        worker=worker.number,
                        pid=worker.pid,
                        seconds=round(silent),
                    )
                    worker.kill()

    # New settings.

    async def _roll(self) -> None:
        while True:
            self._roll_again = False
            await self._roll_once()
            if not self._roll_again:
                return

    async def _roll_once(self) -> None:
        first, *others = self._keepers
        # systemd hears that it is done when the settings have proved to be good.
        with systemd.reloading(os.environ):
            try:
                settings = self._taken(self._load())
            except ConfigError as error:
                _log.error("the settings were not reloaded", error=str(error))
                return
            worker = await first.prepare(settings)
            if worker is None:
                self._say_failed(first)
                return
            self.settings = settings
        await first.switch(worker)
        for keeper in others:
            worker = await keeper.prepare(settings)
            if worker is None:
                self._say_failed(keeper)
                return
            await keeper.switch(worker)
        _log.info("all workers were replaced", workers=len(self._keepers))

    def _say_failed(self, keeper: Keeper) -> None:
        why = "" if keeper.failure is None else keeper.failure.text
        _log.error(
            "a new worker did not start: the one before goes on", worker=keeper.number, error=why
        )

    def _taken(self, new: Settings) -> Settings:
        """The settings as the workers get them: what belongs to the supervisor stays."""
        settings, own = keeping(self.settings, new)
        if own:
            _log.warning("these settings need a restart to change", settings=", ".join(own))
        return settings
