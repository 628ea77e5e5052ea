"""Keeps one worker: starts it, starts another when it dies, and replaces it without a gap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from tidegate.server.supervisor.backoff import Backoff
from tidegate.server.supervisor.values import Drain, Failed

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.server.supervisor.process import Worker
    from tidegate.server.supervisor.values import Order

__all__ = ["Keeper"]

_log = structlog.get_logger("tidegate")


class Keeper:
    """Keeps the worker of one number until it is told to end.

    Args:
        number: the number, from 1 on.
        start: starts a worker of that number; with the settings given, or those in force.
        ended: is told of every worker whose process has ended.
    """

    def __init__(
        self,
        number: int,
        start: Callable[[int, Settings | None], Awaitable[Worker]],
        ended: Callable[[Worker], None],
    ) -> None:
        self.number = number
        self.workers: list[Worker] = []
        """Those that have not ended: the current one, and those that drain or start beside it."""
        self.deaths = 0
        """How many have ended without being told to."""
        self.failure: Failed | None = None
        """Why the last one did not start; None when it did."""
        self._start = start
        self._ended = ended
        self._current: Worker | None = None
        self._order: Order | None = None
        self._changed = asyncio.Event()
        self._backoff = Backoff()
        self._tried: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @property
    def current(self) -> Worker | None:
        """The worker that accepts, or is to accept; None while there is none."""
        return self._current

    async def wait_tried(self) -> bool:
        """Wait for the first start; returns whether it has worked."""
        return await asyncio.shield(self._tried)

    async def run(self) -> None:
        """Keep a worker until `end` is called, and return when all have ended."""
        while self._order is None:
            worker = self._current
            if worker is None:
                worker = await self._try()
            if worker is not None:
                await self._until_changed(worker)
                if self._current is not worker:
                    continue  # it was replaced
                self._current = None
            if self._order is None:
                await self._pause(worker)
        self._tell_tried(False)  # it was told to end before its first start
        while self.workers:
            await self.workers[0].wait()

    async def prepare(self, settings: Settings) -> Worker | None:
        """Start a worker with new settings beside the current one, and return it when it is ready.

        None when it does not start; nothing has changed then.
        """
        try:
            worker = await self._open(settings)
        except OSError as error:
            self.failure = self._unstartable(error)
            return None
        if await worker.wait_ready():
            self.failure = None
            return worker
        self.failure = _failure(worker)
        return None

    async def switch(self, worker: Worker) -> None:
        """Make this the current worker, and return when the one before is drained.

        Both accept from the same sockets, so nothing that waits there is lost.
        """
        before, self._current = self._current, worker
        self._changed.set()
        if before is not None and not before.over:
            if not before.leaving:
                before.order(Drain(None, pass_on=True))
            await before.wait()

    def end(self, order: Order) -> None:
        """Tell all workers to end, and start none any more."""
        self._order = order
        self._changed.set()
        for worker in self.workers:
            worker.order(order)

    async def _try(self) -> Worker | None:
        """Start a worker; None when the system cannot."""
        try:
            worker = await self._open(None)
        except OSError as error:
            self.failure = self._unstartable(error)
            _log.error("a worker cannot be started", worker=self.number, error=str(error))
            self._tell_tried(False)
            return None
        if self._current is not None:  # it was replaced at this very moment
            worker.order(Drain(0.0, pass_on=True))
            return self._current
        self._current = worker
        ready = await worker.wait_ready()
        self.failure = None if ready else _failure(worker)
        self._tell_tried(ready)
        return worker

    async def _open(self, settings: Settings | None) -> Worker:
        worker = await self._start(self.number, settings)
        self.workers.append(worker)
        if self._order is not None:
            worker.order(self._order)
        self._watch(worker)
        return worker

    def _watch(self, worker: Worker) -> None:
        def over() -> None:
            self.workers.remove(worker)
            self._ended(worker)

        worker.when_over(over)

    async def _until_changed(self, worker: Worker) -> None:
        self._changed.clear()
        if self._order is not None or self._current is not worker:
            return
        changed = asyncio.create_task(self._changed.wait())
        over = asyncio.create_task(worker.wait())
        await asyncio.wait((changed, over), return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        over.cancel()

    async def _pause(self, worker: Worker | None) -> None:
        """Say that a worker has died, and wait for as long as the next must not be started."""
        wait = self._backoff.after(monotonic() - worker.born if worker is not None else 0.0)
        if worker is not None and not worker.leaving:
            self.deaths += 1
            _log.error(
                "a worker has died" if self.failure is None else "a worker did not start",
                worker=self.number,
                pid=worker.pid,
                how=self.failure.text if self.failure is not None else worker.how,
                next_in=wait,
            )
        if wait:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def _unstartable(self, error: OSError) -> Failed:
        return Failed(f"worker {self.number} cannot be started: {error.strerror}", wrong=False)

    def _tell_tried(self, worked: bool) -> None:
        if not self._tried.done():
            self._tried.set_result(worked)


def _failure(worker: Worker) -> Failed:
    if worker.failure is not None:
        return worker.failure
    return Failed(f"worker {worker.number} did not start: {worker.how}", wrong=False)
